"""Model files: where they are, whether they are what was asked for, and what runs them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

from swath.schemas.errors import ModelError

Array = npt.NDArray[Any]
Infer = Callable[[Array], Array]
"""One batch in, the model's first output."""
WEIGHTS = (".safetensors", ".pth", ".pt")
SUFFIXES = (".onnx", *WEIGHTS)


def local_path(model: str) -> Path:
    """The file behind a path or `file://` URI; ModelError where there is none, or its kind is unknown."""
    parts = urlsplit(model)
    if "://" in model and parts.scheme != "file":
        raise ModelError(f"model {model!r} is not on this machine; copy it and give its path, or a file:// URI")
    path = Path(unquote(parts.path) if parts.scheme == "file" else model).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(f"model {model!r} is of an unknown kind; use one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ModelError(f"model {model!r} not found; give the path of an existing file")
    return path


def file_digest(path: Path) -> str:
    """sha256 of a file in hex, read again only after the file has changed."""
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


def verify(path: Path, sha256: str | None) -> None:
    """ModelError where the file is not the one whose sha256 was given."""
    if sha256 is not None and file_digest(path) != sha256.lower():
        raise ModelError(
            f"model {str(path)!r} has sha256 {file_digest(path)}, not {sha256}; fetch it again or correct `sha256`"
        )


def onnx_session(path: Path) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU with the worker's threads; ModelError where it cannot be read."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base but this
        raise ModelError(f"model {str(path)!r} cannot be read as ONNX: {error}") from error


def state_dict(path: Path) -> dict[str, Any]:
    """The tensors of a weights file; ModelError for anything else in it. No pickled code is ever run."""
    import torch

    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each have their own
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"model {str(path)!r} cannot be read as weights ({first}); save its state dict as .safetensors"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError(f"model {str(path)!r} is no state dict; save `model.state_dict()` as .safetensors")
    return content


def tensor_shapes(path: Path) -> list[tuple[int, ...]]:
    """The shapes of all tensors in a weights file; of safetensors only the header is read, without torch."""
    if path.suffix.lower() != ".safetensors":
        return [tuple(tensor.shape) for tensor in state_dict(path).values()]
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return [tuple(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ModelError(f"model {str(path)!r} cannot be read as safetensors: {error}") from error


def torchvision_model(architecture: str, weights: dict[str, Any]) -> Any:
    """A torchvision classifier with these weights, in eval mode; ModelError where they do not fit."""
    import torch
    from torchvision.models import get_model

    try:
        with torch.device("meta"):  # shapes only
            shapes = {name: tensor.shape for name, tensor in get_model(architecture).state_dict().items()}
    except ValueError as error:
        raise ModelError(f"torchvision has no model {architecture!r}; see torchvision.models.list_models()") from error
    # torchvision's classifiers have 1000 classes unless told: what differs from that in the file are its own classes
    classes = {weights[name].shape[0] for name, shape in shapes.items() if shape[:1] == (1000,) and name in weights}
    try:
        model = get_model(architecture, num_classes=classes.pop() if len(classes) == 1 else 1000)
        model.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"the weights do not fit torchvision's {architecture!r}: {reason}") from error
    return model.eval()


def frozen(model: Any, size: int) -> Infer:
    """A torch model traced and frozen for the CPU in channels_last; takes (N, size, size, 3) float32.

    More than twice as fast as calling the model (MobileNetV3-small, one thread, batches of 32: 353 images/s, 152).
    """
    import torch

    torch.set_num_threads(threads())
    model = model.to(memory_format=torch.channels_last)
    example = torch.zeros(2, size, size, 3).permute(0, 3, 1, 2)  # which is channels_last
    with torch.inference_mode():
        traced = torch.jit.freeze(torch.jit.trace(model, example))  # type: ignore[no-untyped-call]

    def infer(images: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(traced(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy())

    return infer


def threads() -> int:
    """Threads that this worker may use: its OMP_NUM_THREADS, or 1."""
    return int(os.environ.get("OMP_NUM_THREADS") or 1)


@lru_cache(maxsize=64)
def _digest(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
