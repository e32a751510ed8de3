"""What runs a model fastest and still answers the same, for each kind of file.

    python -m tests.benchmarks.models_backends    measures, and writes operators/models/backends.json

Classifiers with random convolutions, settled batch norms and a last layer fitted (ridge regression) to tell from which
photo of scikit-image's wheel a crop was cut: their decisions have the margins of decisions that were learned.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import cv2
import numpy as np
import skimage.data
import torch
from tests.benchmarks.machine import REPOSITORY, facts
from tests.benchmarks.report import Options, Result, median, say

from swath.operators.models.info import IMAGENET_MEAN, IMAGENET_STD, ModelInfo, write_weights
from swath.operators.models.modules import build
from swath.operators.models.networks import Array, Backend, open_network
from swath.operators.models.reference import find_model

ARCHITECTURES = ("mobilenet_v3_small", "resnet18")
BACKENDS = {
    "weights": ("torch", "torch-bf16", "openvino", "openvino-bf16"),
    "onnx": ("onnxruntime", "openvino", "openvino-bf16"),
}
PHOTOS = (
    *("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "retina", "hubble_deep_field"),
    *("camera", "brick", "grass", "gravel", "page"),
)
SIDE, BATCH = 224, 32
AGREEMENT = 0.995
TABLE = REPOSITORY / "operators" / "models" / "backends.json"


def backends(options: Options) -> Result:
    """Images a second on one thread, and how often the first class is that of torch in single precision."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    images = _crops(64 if options.quick else 1024)
    figures: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for name in ARCHITECTURES:
            for kind, path in _files(name, Path(folder), images):
                figures[f"{name}.{kind}"] = _compared(kind, path, images, options)
    kept = {
        kind: sorted(
            (one for one in BACKENDS[kind] if all(_agrees(figures[f"{name}.{kind}"], one) for name in ARCHITECTURES)),
            key=lambda one: -figures[f"{ARCHITECTURES[0]}.{kind}"][one]["images_per_second"],
        )
        for kind in BACKENDS
    }
    return Result({"default": kept, "measured": figures, "top1_agreement_at_least": AGREEMENT})


def _compared(kind: str, path: Path, images: Array, options: Options) -> dict[str, Any]:
    file = find_model(str(path))
    wanted = open_network(file, backend=BACKENDS[kind][0])(images)[0].argmax(1)
    networks = {}
    for backend in BACKENDS[kind]:
        try:
            networks[backend] = open_network(file, backend=backend)
        except Exception as error:
            say(f"{path.name}: {backend}: {error}")
    rates: dict[str, list[float]] = {backend: [] for backend in networks}
    same: dict[str, float] = {}
    for _ in range(options.repeat):
        for backend, network in networks.items():
            network(images[:BATCH])
            started = time.perf_counter()
            found = np.concatenate([network(part)[0].argmax(1) for part in _batches(images)])
            rates[backend].append(len(images) / (time.perf_counter() - started))
            same[backend] = float((found == wanted).mean())
    result = {
        backend: {"images_per_second": round(median(rates[backend]), 1), "top1_agreement": round(same[backend], 4)}
        for backend in networks
    }
    say(f"{path.name}: {result}")
    return result


def _agrees(measured: dict[str, Any], backend: str) -> bool:
    return backend in measured and measured[backend]["top1_agreement"] >= AGREEMENT


def _batches(images: Array) -> Iterator[Array]:
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]


def _crops(count: int) -> Array:
    """(N, 224, 224, 3) float32, normalised, the photos in turn."""
    random = np.random.default_rng(3)
    photos = [_rgb(getattr(skimage.data, name)()) for name in PHOTOS]
    crops = []
    for index in range(count):
        photo = photos[index % len(photos)]
        side = int(random.integers(120, min(photo.shape[:2]) + 1))
        y, x = (int(random.integers(0, length - side + 1)) for length in photo.shape[:2])
        crops.append(cv2.resize(photo[y : y + side, x : x + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return ((np.stack(crops) / np.float32(255) - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)).astype(
        np.float32
    )


def _rgb(photo: Array) -> Array:
    return np.dstack([photo] * 3) if photo.ndim == 2 else photo[..., :3]


def classifier(path: Path) -> Path:
    """The weights of one of them, for whoever compares more than backends; made where they are not there yet."""
    if not path.exists():
        with TemporaryDirectory() as folder:
            _, made = next(_files(ARCHITECTURES[0], Path(folder), _crops(256)))
            path.write_bytes(made.read_bytes())
    return path


def _files(name: str, folder: Path, images: Array) -> Iterator[tuple[str, Path]]:
    """The same network as weights and as ONNX."""
    info = ModelInfo(architecture=name, arguments={"num_classes": len(PHOTOS)}, size=SIDE)
    module = _fitted(info, torch.from_numpy(images).permute(0, 3, 1, 2))
    write_weights(folder / f"{name}.safetensors", module.state_dict(), info)
    yield "weights", folder / f"{name}.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter wants a package more
        torch.onnx.export(
            module,
            (torch.zeros(2, 3, SIDE, SIDE),),
            folder / f"{name}.onnx",
            dynamo=False,
            input_names=["images"],
            dynamic_axes={"images": {0: "n"}},
        )
    yield "onnx", folder / f"{name}.onnx"


def _fitted(info: ModelInfo, images: torch.Tensor) -> torch.nn.Module:
    torch.manual_seed(5)
    module = build(info)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # one pass settles its statistics
    *_, last = (layer for layer in module.modules() if isinstance(layer, torch.nn.Linear))
    given: list[torch.Tensor] = []
    with torch.inference_mode():
        module.train()
        module(images[:128])
        module.eval()
        hook = last.register_forward_hook(lambda layer, inputs, output: given.append(inputs[0]))
        for start in range(0, len(images), BATCH):
            module(images[start : start + BATCH])
        hook.remove()
    features = torch.cat(given).double()
    features = torch.cat([features, torch.ones(len(features), 1)], 1)
    labels = torch.arange(len(images)) % len(PHOTOS)
    wanted = 10 * torch.nn.functional.one_hot(labels, len(PHOTOS)).double()
    ridge = features.T @ features + 1e-2 * torch.eye(features.shape[1])
    solved = torch.linalg.solve(ridge, features.T @ wanted).float()
    with torch.no_grad():
        last.weight.copy_(solved[:-1].T)
        last.bias.copy_(solved[-1])
    return module


def main() -> None:
    result = backends(Options())
    machine = facts()
    table = {"machine": {key: machine[key] for key in ("cpu", "quiet", "commit")}, **result.figures}
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    say(f"written to {TABLE.relative_to(REPOSITORY)}: {result.figures['default']}")


if __name__ == "__main__":
    assert set(get_args(Backend)) - {"auto"} == {one for kind in BACKENDS.values() for one in kind}
    main()
