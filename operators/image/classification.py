"""What is in the picture: class names with their scores, from any classifier."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from swath.operators.core.base import PIXELS, PREPARED, Batch, Item, ModelOperator, Pixels, Reject
from swath.operators.models.files import WEIGHTS, tensor_shapes
from swath.operators.models.info import IMAGENET_MEAN, IMAGENET_STD, ModelInfo, Three
from swath.operators.models.modules import architecture_of, torch_module
from swath.operators.models.networks import Array, Network, onnx_size
from swath.operators.models.reference import ModelFile
from swath.operators.models.trying import tried
from swath.operators.models.uses import INDICES, UsesModel, check_named, read_names
from swath.schemas.columns import Column
from swath.schemas.errors import ModelError
from swath.schemas.items import Reason
from swath.schemas.types import LABELS

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Classifier", "Classify", "SeesSquare"]

SIDE = 224
PROBES = 8
"""Pictures of noise that show whether a model's outputs are probabilities."""


class SeesSquare(UsesModel, ModelOperator):
    """An operator whose model sees the middle of each picture, as a square."""

    size: int | None = Field(default=None, ge=1)
    """Side in pixels of the square that the model sees; what the model says of itself, or 224, when left out."""
    resize: int | None = Field(default=None, ge=1)
    """Length in pixels to which the shorter side is brought before the centre is cut out; what the model says, or 8/7
    of `size`, as 256 is of 224, when left out."""
    mean: Three | None = None
    """Of red, green and blue on a scale of 0 to 1; subtracted first. What the model says, or ImageNet's."""
    std: Three | None = None
    """Of red, green and blue on a scale of 0 to 1; divided by. What the model says, or ImageNet's."""

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.size is not None and self.resize is not None and self.resize < self.size:
            raise ValueError(f"resize {self.resize} is smaller than size {self.size}; raise it or leave it out")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be above 0 in every channel")
        return self

    @property
    def side(self) -> int:
        return self.size or self.described().size or SIDE

    @property
    def shorter_side(self) -> int:
        said = None if self.size else self.described().resize
        return max(self.side, self.resize or said or round(self.side * 8 / 7))

    def described(self) -> ModelInfo:
        """What the model says of itself; nothing where there is no such file, which `check` will tell."""
        try:
            file = self.found()
        except ModelError:
            return ModelInfo()
        if file.info.size is None and file.path.suffix.lower() == ".onnx":
            return file.info.model_copy(update={"size": _onnx_side(file.path, file.sha256)})
        return file.info

    def settled(self) -> Self:
        """With all that the model says of itself, which workers need not ask again."""
        said = self.described()
        told = {
            "size": self.side,
            "resize": self.shorter_side,
            "mean": self.mean or said.mean,
            "std": self.std or said.std,
        }
        return super().settled().model_copy(update=told)

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS,)

    def needs_pixels(self) -> int | None:
        return self.shorter_side

    def prepare(self, item: Item) -> Pixels:
        """(size, size, 3) uint8: shorter side to `resize`, then the centre."""
        pixels, side = item["pixels"], self.side
        height, width = pixels.shape[:2]
        scale = self.shorter_side / min(height, width)
        if scale != 1:
            size = (max(side, round(width * scale)), max(side, round(height * scale)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            height, width = pixels.shape[:2]
        top, left = (height - side) // 2, (width - side) // 2
        return np.ascontiguousarray(pixels[top : top + side, left : left + side])

    def normalised(self, prepared: list[Pixels]) -> Array:
        """(N, H, W, 3) float32"""
        said = self.described() if self.mean is None or self.std is None else ModelInfo()
        mean, std = (np.asarray(one, np.float32) for one in (self.mean or said.mean, self.std or said.std))
        levels = (np.arange(256, dtype=np.float32)[:, None] - np.float32(255) * mean) / (np.float32(255) * std)
        table = levels.reshape(1, 256, 3)  # five times as fast as the arithmetic on each value, which it is
        images = np.empty((len(prepared), *prepared[0].shape), np.float32)
        for one, image in zip(prepared, images, strict=True):
            cv2.LUT(one, table, dst=image)
        return images

    def tried(self, run: Callable[[list[Pixels]], Array]) -> Array:
        """What the model makes of a black picture; ModelError where it does not take one."""
        black = np.zeros((self.side, self.side, 3), np.uint8)
        return tried(self.model, f"a black picture of {self.side} x {self.side} pixels", lambda: run([black]))

    def check_weights(self, file: ModelFile) -> None:
        """ModelError where nobody says whose weights they are, or where they are not those of the architecture that
        was named. No network is built where the file says it itself: importing torch here would cost every run seconds
        that only its workers need to spend."""
        architecture_of(file)
        if self.architecture is not None:
            torch_module(file)

    def check_size(self, file: ModelFile) -> None:
        """ModelError where an ONNX file insists on pictures of another size."""
        side = self.side
        if file.path.suffix.lower() == ".onnx" and (wanted := onnx_size(file.path)) and wanted != (side, side):
            raise ModelError(f"model {self.model!r} takes pictures of {wanted[0]}x{wanted[1]}; set `size` to that")


@dataclass(frozen=True)
class Classifier:
    """A loaded model and the names of its classes."""

    network: Network
    names: tuple[str, ...] | None
    """None: the index is the name."""
    probabilities: bool | None
    """Whether its outputs are probabilities already; None: each picture tells."""


class Classifies(SeesSquare):
    """An operator that scores classes."""

    ranks: ClassVar[bool] = True

    temperature: float | None = Field(default=None, gt=0)
    """What the model's logits are divided by, so that a score is how often it is right (Guo et al. 2017); what the
    model says of itself, or 1, when left out."""

    def check(self) -> None:
        """An ONNX file is tried on a black picture; of weights, the tensors are read."""
        file = self.found()
        names = self.names()
        if file.path.suffix.lower() in WEIGHTS:
            self.check_weights(file)
            found = {shape[0] for shape in tensor_shapes(file.path) if shape}
            if names is not None and len(names) not in found:
                raise ModelError(f"no layer of {self.model!r} has the {len(names)} outputs that `classes` names")
            return
        self.check_size(file)
        classifier = self.load()
        outputs = self.tried(lambda prepared: self.outputs_of(classifier, prepared))
        if names is not None and len(names) != outputs.shape[1]:
            raise ModelError(f"model {self.model!r} has {outputs.shape[1]} classes but `classes` names {len(names)}")

    def settled(self) -> Self:
        told = {"temperature": self.temperature or self.described().temperature}
        return super().settled().model_copy(update=told)

    def load(self) -> Classifier:
        return Classifier(self.network((self.side, self.side)), self.names(), None)

    @abstractmethod
    def names(self) -> tuple[str, ...] | None:
        """The names of the classes; None: they have none."""

    def outputs_of(self, classifier: Classifier, prepared: list[Pixels]) -> Array:
        """(N, classes)"""
        return classifier.network(self.normalised(prepared))[0].reshape(len(prepared), -1)

    def checked(self, outputs: Array, names: tuple[str, ...] | None) -> Array | Reject:
        """The outputs for one picture in float64. Raises ModelError where the classes are others than were named."""
        if not np.isfinite(outputs).all():
            return Reject(Reason.OPERATOR_ERROR, "the model gave a score that is no number for this picture")
        if names is not None and len(names) != len(outputs):
            raise ModelError(f"model {self.model!r} has {len(outputs)} classes but `classes` names {len(names)}")
        return outputs.astype(np.float64)

    def cooled(self, logits: Array) -> Array:
        """Logits by the temperature."""
        return logits / (self.temperature or self.described().temperature)


class Classify(Classifies):
    """Names the classes of a picture, the likeliest first."""

    version: ClassVar[int] = 1

    classes: str | tuple[str, ...] | None = None
    """The class names in the model's order, or the path of a text file with one a line; what the model says of itself
    when left out. `indices`: their numbers, from 0."""
    top_k: int = Field(default=5, ge=1)
    """At most so many labels."""
    multi_label: bool = False
    """Each class for itself: all that reach the threshold, which may be none."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Least score of a label; 0.5 with `multi_label`, 0 without, when left out."""
    scores: Literal["auto", "softmax", "sigmoid", "as_is"] = "auto"
    """auto: outputs that are no probabilities already go through a softmax, or with `multi_label` a sigmoid."""

    @model_validator(mode="after")
    def _scores_fit(self) -> Classify:
        if self.scores == ("softmax" if self.multi_label else "sigmoid"):
            kind = "multi_label scores each class for itself" if self.multi_label else "one label of several is asked"
            raise ValueError(f"scores: {self.scores} does not fit: {kind}; leave `scores` out")
        return self

    def outputs(self) -> tuple[Column, ...]:
        return (Column("labels", LABELS, "Likeliest classes of the picture, the best first"),)

    def settled(self) -> Self:
        return super().settled().model_copy(update={"classes": self.classes or self.described().classes})

    def load(self) -> Classifier:
        classifier = super().load()
        if not (self.multi_label and self.scores == "auto"):
            return classifier
        random = np.random.default_rng(0)
        noise = [random.integers(0, 256, (self.side, self.side, 3), dtype=np.uint8) for _ in range(PROBES)]
        found = self.outputs_of(classifier, noise)
        return Classifier(classifier.network, classifier.names, bool(((found >= 0) & (found <= 1)).all()))

    def run(self, batch: Batch, model: Any) -> Batch:
        classifier: Classifier = model
        outputs = self.outputs_of(classifier, batch[PREPARED.name])
        return {"labels": [self._labels(one, classifier) for one in outputs]}

    def check(self) -> None:
        super().check()
        check_named(self.model, self.names(), self.classes)

    def names(self) -> tuple[str, ...] | None:
        if self.classes is None:
            return self.described().classes
        if not isinstance(self.classes, str):
            return self.classes
        return None if self.classes == INDICES else read_names(self.classes)

    def _labels(self, outputs: Array, classifier: Classifier) -> list[dict[str, Any]] | Reject:
        checked = self.checked(outputs, classifier.names)
        if isinstance(checked, Reject):
            return checked
        scores = self._each(checked, classifier) if self.multi_label else self._one_of_all(checked)
        least = self.threshold if self.threshold is not None else 0.5 if self.multi_label else 0.0
        best = [i for i in np.argsort(-scores, kind="stable")[: self.top_k].tolist() if scores[i] >= least]
        names = classifier.names
        return [{"label": names[i] if names else str(i), "score": float(scores[i])} for i in best]

    def _one_of_all(self, outputs: Array) -> Array:
        already = bool((outputs >= 0).all()) and abs(float(outputs.sum()) - 1) < 1e-3
        if self.scores == "as_is":
            return outputs
        if self.scores == "auto" and already:
            return outputs if self.temperature in (None, 1) else softmax(self.cooled(_logarithm(outputs)))
        return softmax(self.cooled(outputs))

    def _each(self, outputs: Array, classifier: Classifier) -> Array:
        if self.scores == "as_is":
            return outputs
        if classifier.probabilities:
            if self.temperature in (None, 1):
                return outputs
            outputs = _logarithm(outputs) - _logarithm(1 - outputs)
        return np.asarray(1 / (1 + np.exp(-np.clip(self.cooled(outputs), -500, 500))))


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max())
    return np.asarray(raised / raised.sum())


def _logarithm(probabilities: Array) -> Array:
    return np.asarray(np.log(np.maximum(probabilities, 1e-12)))


@lru_cache(maxsize=64)
def _onnx_side(path: Path, digest: str) -> int | None:
    """The side of the square that an ONNX file insists on."""
    wanted = onnx_size(path)
    return wanted[0] if wanted and wanted[0] == wanted[1] else None
