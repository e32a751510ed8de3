"""What is in the picture: class names with their scores, from an ONNX file or torchvision weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field, model_validator

from swath.operators.core.base import PIXELS, PREPARED, Batch, Item, ModelOperator, Pixels, Reject
from swath.operators.models.files import WEIGHTS, tensor_shapes
from swath.operators.models.info import IMAGENET_MEAN, IMAGENET_STD, Three
from swath.operators.models.modules import architecture_of
from swath.operators.models.networks import Array, Network, onnx_size
from swath.operators.models.uses import UsesModel
from swath.schemas.columns import Column
from swath.schemas.errors import ConfigurationError, ModelError
from swath.schemas.items import Reason
from swath.schemas.types import LABELS


@dataclass(frozen=True)
class Classifier:
    """A loaded model and the names of its classes."""

    network: Network
    names: tuple[str, ...] | None
    """None: the index is the name."""


class Classify(UsesModel, ModelOperator):
    """Names the classes of a picture, the likeliest first."""

    version: ClassVar[int] = 1

    classes: str | tuple[str, ...] | None = None
    """The class names in the model's order, or the path of a text file with one a line; indices when left out."""
    top_k: int = Field(default=5, ge=1)
    size: int = Field(default=224, ge=1)
    """Side in pixels of the square that the model sees."""
    resize: int | None = Field(default=None, ge=1)
    """Length in pixels to which the shorter side is brought before the centre is cut out; 8/7 of `size` when left
    out, as 256 is of 224."""
    mean: Three = IMAGENET_MEAN
    """Of red, green and blue on a scale of 0 to 1; subtracted first."""
    std: Three = IMAGENET_STD
    """Of red, green and blue on a scale of 0 to 1; divided by."""
    scores: Literal["auto", "softmax", "as_is"] = "auto"
    """auto: outputs that are no probabilities already (0 to 1, sum 1) go through a softmax."""

    @model_validator(mode="after")
    def _crop_fits(self) -> Classify:
        if self.shorter_side < self.size:
            raise ValueError(f"resize {self.resize} is smaller than size {self.size}; raise it or leave it out")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0 in every channel")
        return self

    @property
    def shorter_side(self) -> int:
        return round(self.size * 8 / 7) if self.resize is None else self.resize

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS,)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("labels", LABELS, "Likeliest classes of the picture, the best first"),)

    def needs_pixels(self) -> int | None:
        return self.shorter_side

    def check(self) -> None:
        """An ONNX file is tried on a black picture. Of weights, the tensors are read but no network is built:
        importing torchvision here would cost every run seconds that only its workers need to spend."""
        file = self.found()
        path = file.path
        names = self._class_names()
        if path.suffix.lower() in WEIGHTS:
            architecture_of(file)
            found = {shape[0] for shape in tensor_shapes(path) if shape}
            if names is not None and len(names) not in found:
                raise ModelError(f"no layer of {self.model!r} has the {len(names)} outputs that `classes` names")
            return
        if path.suffix.lower() == ".onnx" and (wanted := onnx_size(path)) and wanted != (self.size, self.size):
            raise ModelError(f"model {self.model!r} takes pictures of {wanted[0]}x{wanted[1]}; set `size` to that")
        classifier = self.load()
        try:
            outputs = self._outputs(classifier, [np.zeros((self.size, self.size, 3), np.uint8)])
        except Exception as error:  # onnxruntime's errors share no base but this
            raise ModelError(f"model {self.model!r} fails on a picture of side {self.size}: {error}") from error
        if names is not None and len(names) != outputs.shape[1]:
            raise ModelError(f"model {self.model!r} has {outputs.shape[1]} classes but `classes` names {len(names)}")

    def load(self) -> Classifier:
        return Classifier(self.network((self.size, self.size)), self._class_names())

    def prepare(self, item: Item) -> Pixels:
        """(size, size, 3) uint8: shorter side to `resize`, then the centre."""
        pixels = item["pixels"]
        height, width = pixels.shape[:2]
        scale = self.shorter_side / min(height, width)
        if scale != 1:
            size = (max(self.size, round(width * scale)), max(self.size, round(height * scale)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            height, width = pixels.shape[:2]
        top, left = (height - self.size) // 2, (width - self.size) // 2
        return np.ascontiguousarray(pixels[top : top + self.size, left : left + self.size])

    def run(self, batch: Batch, model: Any) -> Batch:
        classifier: Classifier = model
        outputs = self._outputs(classifier, batch[PREPARED.name])
        return {"labels": [self._labels(one, classifier.names) for one in outputs]}

    def _outputs(self, classifier: Classifier, prepared: list[Pixels]) -> Array:
        """(N, classes)"""
        images = np.stack(prepared).astype(np.float32)  # (N, H, W, 3)
        images -= np.float32(255) * np.asarray(self.mean, np.float32)
        images /= np.float32(255) * np.asarray(self.std, np.float32)
        return classifier.network(images)[0].reshape(len(prepared), -1)

    def _labels(self, outputs: Array, names: tuple[str, ...] | None) -> list[dict[str, Any]] | Reject:
        if not np.isfinite(outputs).all():
            return Reject(Reason.OPERATOR_ERROR, "the model gave a score that is no number for this picture")
        scores = self._probabilities(outputs.astype(np.float64))
        if names is not None and len(names) != len(scores):
            raise ModelError(f"model {self.model!r} has {len(scores)} classes but `classes` names {len(names)}")
        best = np.argsort(-scores, kind="stable")[: self.top_k]
        return [{"label": names[i] if names else str(i), "score": float(scores[i])} for i in best.tolist()]

    def _probabilities(self, outputs: Array) -> Array:
        already = bool((outputs >= 0).all()) and abs(float(outputs.sum()) - 1) < 1e-3
        if self.scores == "as_is" or (self.scores == "auto" and already):
            return outputs
        raised = np.exp(outputs - outputs.max())
        return np.asarray(raised / raised.sum())

    def _class_names(self) -> tuple[str, ...] | None:
        if not isinstance(self.classes, str):
            return self.classes
        path = Path(self.classes.removeprefix("file://")).expanduser()
        try:
            return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"class names {self.classes!r} cannot be read: {error}") from error
