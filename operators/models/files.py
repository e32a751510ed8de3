"""Model files: whether they are what was asked for, and the tensors in them."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from swath.schemas.errors import ModelError

WEIGHTS = (".safetensors", ".pth", ".pt")
SUFFIXES = (".onnx", ".pt2", *WEIGHTS)


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


def state_dict(path: Path) -> dict[str, Any]:
    """The tensors of a weights file; ModelError for anything else in it. No pickled code is ever run."""
    import torch

    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each have their own
        raise ModelError(
            f"model {str(path)!r} cannot be read as weights: {_unreadable(error)}; where it is trusted, save its "
            "`model.state_dict()` as .safetensors"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError(f"model {str(path)!r} is no state dict; save `model.state_dict()` as .safetensors")
    return content


def _unreadable(error: Exception) -> str:
    """Why, in one line. torch advises to run what is pickled in the file; nobody should."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named:
        return f"it holds pickled code beside its tensors ({named[1]}), which is never run"
    if isinstance(error, pickle.UnpicklingError | LookupError):  # pickle's machine on other bytes
        return "it holds something other than tensors, which is never read"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


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


def threads() -> int:
    """Threads that this worker may use: its OMP_NUM_THREADS, or 1."""
    return int(os.environ.get("OMP_NUM_THREADS") or 1)


@lru_cache(maxsize=64)
def _digest(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
