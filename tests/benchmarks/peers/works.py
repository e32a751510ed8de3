"""What is done to a picture once it is decoded, by the same code in all peers: what differs is who feeds it.

Built once a process; called with (H, W, 3) uint8 RGB, answers with the columns of `COLUMNS`.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

os.environ.setdefault("OMP_THREAD_LIMIT", "1")  # Tesseract, as many times as there are cores


class Sizes:
    """Nothing: what is left is decoding and the engine itself."""

    COLUMNS: ClassVar[dict[str, type]] = {"width": int, "height": int}

    def __call__(self, pixels: Any) -> dict[str, Any]:
        return {"width": pixels.shape[1], "height": pixels.shape[0]}


class Looks:
    """Quality, vegetation and a thumbnail."""

    COLUMNS: ClassVar[dict[str, type]] = {"verdict": str, "vegetation": float, "thumbnail": bytes}

    def __init__(self) -> None:
        import cv2

        from swath.operators.image.overlay import Overlay
        from swath.operators.image.quality import AssessQuality
        from swath.operators.survey.vegetation import Vegetation

        cv2.setNumThreads(1)
        self.quality, self.vegetation = AssessQuality(), Vegetation()
        self.thumbnail = Overlay(draw=(), longest_side=256)

    def __call__(self, pixels: Any) -> dict[str, Any]:
        import numpy as np

        item = dict.fromkeys(("georef", "bands", "window")) | {"pixels": pixels, "to_source": np.eye(3), "item_id": ""}
        return {
            "verdict": self.quality.process(item, None)["quality_verdict"],
            "vegetation": self.vegetation.process(item, None)["vegetation_fraction"],
            "thumbnail": self.thumbnail.process(item, None)["overlay_image"].content,
        }


class Text:
    """What Tesseract reads, as pytesseract asks it."""

    COLUMNS: ClassVar[dict[str, type]] = {"text": str}

    def __call__(self, pixels: Any) -> dict[str, Any]:
        import numpy as np
        import pytesseract

        return {"text": pytesseract.image_to_string(np.ascontiguousarray(pixels), config="--psm 4")}


class Larger:
    """Twice as large, by the network that Swath ships, as torch runs it; kept as a JPEG."""

    COLUMNS: ClassVar[dict[str, type]] = {"width": int, "height": int, "enlarged": bytes}

    def __init__(self) -> None:
        import torch

        from swath.operators.image.super_resolution import SuperResolve

        torch.set_num_threads(1)
        self.operator = SuperResolve(model="swath:super_res_x2", backend="torch")
        self.model = self.operator.load()

    def __call__(self, pixels: Any) -> dict[str, Any]:
        import cv2
        import numpy as np

        item = {"pixels": np.ascontiguousarray(pixels), "to_source": np.eye(3)}
        enlarged = self.operator.process(item, self.model)["pixels"]
        _, content = cv2.imencode(".jpg", enlarged[..., ::-1])
        return {"width": enlarged.shape[1], "height": enlarged.shape[0], "enlarged": content.tobytes()}


WORKS: dict[str, type] = {"sizes": Sizes, "looks": Looks, "text": Text, "larger": Larger}
