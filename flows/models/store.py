"""The models of this machine: those of the package, and those that were fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from swath.infra.models import fetch
from swath.operators.models.files import SUFFIXES, WEIGHTS, file_digest
from swath.operators.models.info import read_info
from swath.operators.models.networks import choose
from swath.operators.models.reference import ModelFile, find_model, models_home, shipped, use_fetch
from swath.schemas.errors import ModelError

ASKED_OTHERWISE = ("detection", "instance", "denoising")
"""Tasks whose networks take more, or less, than a batch of pictures: that they can be built must do."""
_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True)
class Checked:
    """A model that was loaded and tried on a black picture."""

    file: ModelFile
    backend: str
    parameters: int
    outputs: tuple[tuple[int, ...], ...]
    """The shapes of what it gave for one picture."""


def found(model: str, sha256: str | None = None) -> ModelFile:
    """The file of a reference, fetched where it must be. Raises ModelError."""
    use_fetch(fetch)
    return find_model(model, sha256=sha256)


def here() -> list[ModelFile]:
    """All models of the package and of the folder of fetched ones."""
    own = [found(name) for name in shipped()]
    fetched = sorted(path for path in models_home().glob("*/**/*") if path.suffix.lower() in SUFFIXES)
    return own + [ModelFile(str(path), path, file_digest(path), read_info(path)) for path in fetched]


def card(file: ModelFile) -> str | None:
    """The text of the model card that lies beside the weights."""
    path = file.path.with_suffix(".md")
    return path.read_text(encoding="utf-8") if path.is_file() else None


def check(model: str, sha256: str | None = None) -> Checked:
    """Loads a model and tries it. Raises ModelError where its digest is another one than was asked for, or than its
    card or its own name states, or where it cannot be loaded."""
    file = found(model, sha256)
    stated = _SHA256.findall(card(file) or "")
    if stated and file.sha256 not in stated:
        raise ModelError(f"model {model!r} has sha256 {file.sha256}, its card states {stated[0]}; install swath anew")
    prefix = re.search(r"-([0-9a-f]{8})\.pth$", file.path.name)  # how torchvision names its files
    if prefix and not file.sha256.startswith(prefix[1]):
        raise ModelError(f"model {model!r} has sha256 {file.sha256}, its name says {prefix[1]}...; fetch it again")
    return Checked(file, choose(file), _parameters(file), _outputs(file))


def _parameters(file: ModelFile) -> int:
    if file.path.suffix.lower() not in WEIGHTS:
        return 0
    from swath.operators.models.files import tensor_shapes

    return sum(int(np.prod(shape)) for shape in tensor_shapes(file.path))


def _outputs(file: ModelFile) -> tuple[tuple[int, ...], ...]:
    from swath.operators.models.modules import torch_module
    from swath.operators.models.networks import onnx_size, open_network

    onnx = file.path.suffix.lower() == ".onnx"
    if file.info.task in ASKED_OTHERWISE and not onnx:
        torch_module(file)
        return ()
    size = (onnx_size(file.path) if onnx else None) or (file.info.size or 64,) * 2
    network = open_network(file, size=size)
    return tuple(output.shape for output in network(np.zeros((1, *size, 3), np.float32)))
