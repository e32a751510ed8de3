"""What all operators with a model have in common."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field

from swath.operators.core.base import Operator
from swath.operators.models.networks import Axes, Backend, Network, choose, open_network
from swath.operators.models.reference import ModelFile, find_model
from swath.schemas.errors import ConfigurationError, ModelError


class UsesModel(Operator):
    """An operator with one model: named, found, verified and pinned before a run starts."""

    no_results: ClassVar[tuple[str, ...]] = ("backend",)
    ranks: ClassVar[bool] = False
    """Whether the order of classes is what counts of the model's answer, so that it may be computed less exactly."""

    model: str
    """`swath:NAME`, `torchvision:NAME[@WEIGHTS]`, or the path or URI of an .onnx, .pt2, .safetensors or .pth file."""
    architecture: str | None = None
    """Name of the torchvision model that the weights belong to, such as `mobilenet_v3_small`, where the file does not
    say it itself."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-fA-F]{64}$")
    """Digest the file must have."""
    backend: Backend = "auto"
    """What runs it; auto: the fastest that is installed and was measured to answer the same."""

    axes: Axes = "auto"
    """How an ONNX model takes the axes of a picture, where its input does not say it."""

    def found(self) -> ModelFile:
        """The model's file, fetched where it must be. Raises ModelError."""
        return find_model(self.model, sha256=self.sha256, architecture=self.architecture)

    def network(self, size: tuple[int, int] | None = None) -> Network:
        """The model, loaded where this worker computes. Raises ModelError, MissingDependency."""
        return open_network(
            self.found(), backend=self.backend, device=self.device, size=size, axes=self.axes, ranks=self.ranks
        )

    @property
    def device(self) -> str:
        return "cuda" if self.resources.gpus else "cpu"

    def model_name(self) -> str | None:
        return self.model

    def model_digest(self) -> str | None:
        return self.found().sha256

    def settled(self) -> Self:
        """With the digest of the file that is there now, so that no worker computes with another one, and with what
        runs it."""
        file = self.found()
        chosen = choose(file, self.backend, self.device, self.ranks)
        return self.model_copy(update={"sha256": file.sha256, "backend": chosen})


INDICES = "indices"
"""In the place of class names: that the classes' numbers are wanted."""


def check_named(model: str, names: tuple[str, ...] | None, classes: str | tuple[str, ...] | None) -> None:
    """Raises ModelError where nobody says what a model's classes are called, and nobody wants their numbers."""
    if names is None and classes != INDICES:
        raise ModelError(
            f"model {model!r} does not say what its classes are called; give `classes` (a list, or a text file with "
            f"one a line), or `classes: {INDICES}` where their numbers will do"
        )


def read_names(file: str) -> tuple[str, ...]:
    """The class names in a text file, one a line, by its path. Raises ConfigurationError where it cannot be read."""
    path = Path(file.removeprefix("file://")).expanduser()
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"class names {file!r} cannot be read: {error}") from error
