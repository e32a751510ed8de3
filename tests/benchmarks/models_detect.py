"""How fast `detect` is with a real model (FastestDet, ONNX): whole pictures, and a large one in windows; one thread.

python -m tests.benchmarks --only models_detect
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tests.benchmarks.machine import REPOSITORY
from tests.benchmarks.report import Bar, Options, Result, median

from swath.operators.core.base import PREPARED, Pixels
from swath.operators.image.codec import Decode
from swath.operators.image.detection import Detect
from swath.operators.models.networks import open_network
from swath.operators.models.reference import find_model

DATA = REPOSITORY / "../shared/data"
MODEL = DATA / "models/onnx/FastestDet.onnx"
SMALL, LARGE = DATA / "models/onnx/FastestDet.sample.jpg", DATA / "drone_brighton/images/DJI_0025.JPG"


def detection(options: Options) -> Result:
    """Pictures and windows a second, beside the same network fed from memory."""
    if not all(path.is_file() for path in (MODEL, SMALL, LARGE)):
        return Result(skipped=f"needs {MODEL}, {SMALL.name} and {LARGE.name}")
    os.environ["OMP_NUM_THREADS"] = "1"
    count = 4 if options.quick else 64
    detect = Detect(model=str(MODEL), classes=str(MODEL.with_name("FastestDet.coco.names")), fit="stretch")
    small, large = _decoded(SMALL.read_bytes()), _decoded(LARGE.read_bytes())

    bare = open_network(find_model(str(MODEL)), size=(352, 352))
    inputs = np.random.default_rng(0).random((count, 352, 352, 3), dtype=np.float32)
    network = count / _seconds(lambda: bare(inputs), options)

    whole = detect.settled()
    model = whole.load()
    pictures = count / _seconds(lambda: _found(whole, model, [small] * count), options)
    sliced = whole.model_copy(update={"slice": 704})
    windows = len(sliced.prepare({"pixels": large, "to_source": np.eye(3)}).images)
    seconds = _seconds(lambda: _found(sliced, model, [large]), options)
    megapixels = large.shape[0] * large.shape[1] / 1e6
    figures = {
        "network_images_per_second": round(network, 1),
        "detect_images_per_second": round(pictures, 1),
        "detect_share_of_network": round(pictures / network, 3),
        "sliced_windows_per_second": round(windows / seconds, 1),
        "sliced_megapixels_per_second": round(megapixels / seconds, 2),
        "persons_in_the_sample": sum(
            one["label"] == "person" and one["score"] >= 0.5 for one in _found(whole, model, [small])[0]
        ),
    }
    return Result(figures, [Bar("detect beside the network alone", pictures / network, 0.8, "share", least=True)])


def _decoded(content: bytes) -> Pixels:
    decode = Decode()
    given: dict[str, Any] = {column.name: None for column in decode.inputs()} | {"bytes": content}
    pixels: Pixels = decode.process(given, decode.load())["pixels"]
    return pixels


def _found(detect: Detect, model: Any, pictures: list[Pixels]) -> list[Any]:
    prepared = [detect.prepare({"pixels": pixels, "to_source": np.eye(3)}) for pixels in pictures]
    return detect.run({PREPARED.name: prepared}, model)["detections"]


def _seconds(work: Callable[[], Any], options: Options) -> float:
    work()
    times = []
    for _ in range(options.repeat):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return median(times)
