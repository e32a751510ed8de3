"""Torchvision's detectors, which take one picture of any size and give boxes, labels, scores and masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels, Reject
from swath.operators.models.files import threads
from swath.operators.models.modules import torch_module
from swath.operators.models.reference import ModelFile
from swath.schemas.errors import ModelError
from swath.schemas.items import Reason

Answer = dict[str, npt.NDArray[Any]]
"""boxes (N, 4) as corners, labels (N) from 1 where 0 is the background, scores (N), and of Mask R-CNN masks
(N, 1, H, W), 0 to 1; in pixels of the picture."""


def torchvision_detector(
    file: ModelFile, device: str, min_score: float, names: tuple[str, ...] | None
) -> tuple[Callable[[Pixels], Answer], int]:
    """What runs it, and the index of the class that the first name is for: names may leave the background out.

    Raises ModelError where it cannot be built, its weights hold values that are no numbers, or there are too few or
    too many names.
    """
    import torch

    if device == "cpu":
        torch.set_num_threads(threads())
    module: Any = torch_module(file).to(device)
    broken = [name for name, tensor in module.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ModelError(f"model {file.name!r} has weights that are no numbers, in {broken[0]}; save it again")
    count = _classes(module)
    if names and len(names) not in (count, count - 1):
        raise ModelError(
            f"model {file.name!r} has {count} classes, the background counted, but there are {len(names)} names"
        )
    module.backbone.register_forward_hook(_finite)
    # What is less likely is left out before masks are made of it.
    (module.roi_heads if hasattr(module, "roi_heads") else module).score_thresh = min_score

    def run(pixels: Pixels) -> Answer:
        """Raises Reject where a value is no number, or the picture does not fit into the card's memory."""
        try:
            with torch.inference_mode():
                image = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1).float() / 255
                return {name: tensor.cpu().numpy() for name, tensor in module([image])[0].items()}
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise Reject(
                Reason.OUT_OF_MEMORY, "the card has not memory enough for the model and this picture"
            ) from None

    return run, 1 if names and len(names) < count else 0


def _finite(module: Any, images: Any, features: Any) -> None:
    import torch

    found = features.values() if isinstance(features, dict) else [features]
    if not all(bool(torch.isfinite(one).all()) for one in found):
        raise Reject(Reason.OPERATOR_ERROR, "the model gave a value that is no number for this picture")


def _classes(module: Any) -> int:
    if hasattr(module, "roi_heads"):  # Faster, Mask and Keypoint R-CNN
        return int(module.roi_heads.box_predictor.cls_score.out_features)
    head = module.head.classification_head
    return int(getattr(head, "num_classes", None) or head.num_columns)  # RetinaNet and FCOS; SSD
