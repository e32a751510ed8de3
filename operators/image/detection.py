"""Which objects are in the picture, and where: torchvision's detectors, and ONNX exports of the usual kinds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from swath.operators.core.base import PREPARED, Batch, Pixels, Reject, Resources
from swath.operators.image.anchored import Cell
from swath.operators.image.boxes import Found, Window, joined, merged, suppressed
from swath.operators.image.detection_layouts import DECODERS, UNBATCHED, Layout, class_count, recognised
from swath.operators.image.ground_areas import box_on_ground
from swath.operators.image.model_input import Array, SeesPictures, namer
from swath.operators.image.seen import Seen
from swath.operators.image.torchvision_detectors import torchvision_detector
from swath.operators.image.views import Views
from swath.operators.models.info import Task
from swath.operators.models.networks import onnx_session
from swath.operators.models.reference import ModelFile
from swath.operators.models.uses import check_named
from swath.schemas.columns import Column
from swath.schemas.errors import ModelError
from swath.schemas.items import Reason
from swath.schemas.types import DETECTIONS

SUPPRESSED: tuple[Layout, ...] = ("end_to_end", "torchvision", "detr", "rt_detr", "centers")
"""Layouts whose boxes the model itself has chosen from those that overlap."""
OUR_LAYOUTS: dict[str, Layout] = {"swath.centers": "centers"}
CUT = 64
"""A box that comes nearer to an edge of its window than this part of the window's side is cut there: detectors do not
end a box at the very edge."""
NOT_FINITE = "the model gave a value that is no number for this picture"


@dataclass(frozen=True)
class Detector:
    """A loaded model."""

    see: Callable[[Sequence[Pixels]], Iterator[Found | Reject]]
    """What it finds in each picture, in the picture's pixels."""
    name: Callable[[int], str]
    """Of a class, by its index."""
    suppresses: bool = False
    """Whether it has chosen from boxes that overlap itself."""
    seen: Seen[Found] = field(default_factory=Seen)


class Detect(SeesPictures):
    """Finds objects: a class, a score and a box each, the best first.

    Large pictures are looked at in windows (`slice: 640`), and what lies on their edges is put together. ONNX exports
    are known by the shapes of their outputs; see `swath.operators.image.detection_layouts`.
    """

    version: ClassVar[int] = 2
    torchvision: ClassVar[tuple[str, ...]] = ("fasterrcnn", "maskrcnn", "keypointrcnn", "retinanet", "fcos", "ssd")
    tasks: ClassVar[tuple[Task, ...]] = ("detection", "instance")

    resources: Resources = Resources(batch=8)
    layout: Layout | None = None
    """How an ONNX export gives its boxes; found out when left out."""
    min_score: float = Field(default=0.25, ge=0, le=1)
    """What is less likely is left out."""
    iou: float = Field(default=0.45, gt=0, le=1)
    """Of boxes of one class whose intersection over union is above it, only the best stays."""
    max_detections: int = Field(default=300, ge=1)
    """In a picture; of a raster, in each window of `slice` pixels."""
    only: tuple[str, ...] = ()
    """Names of the classes that are kept; all when left out."""
    whole: bool = True
    """Whether a picture in windows is looked at as a whole, too, for what is larger than a window. A raster is not."""

    def outputs(self) -> tuple[Column, ...]:
        return (Column("detections", DETECTIONS, "What was found in the picture, the best first"),)

    def sees_whole(self) -> bool:
        return self.whole and not self.own_scale()

    def check(self) -> None:
        """The model is loaded and, but for torchvision's own, tried on a black picture."""
        self.load()
        check_named(self.model, self.names(self.found().info), self.classes)

    def load(self) -> Detector:
        file = self.checked_file()
        names = self.names(file.info)
        if missing := sorted(set(self.only) - set(names or self.only)):
            raise ModelError(f"model {self.model!r} has no class {', '.join(missing)}; it has {', '.join(names or ())}")
        if self.scales_itself():
            return self._torchvision(file, names)
        return self._network(file, names)

    def run(self, batch: Batch, model: Any) -> Batch:
        detector: Detector = model
        views: list[Views] = batch[PREPARED.name]
        seen = iter(_seen(views, detector))
        return {"detections": [self._of_item(one, [next(seen) for _ in one.images], detector) for one in views]}

    def _of_item(
        self, views: Views, seen: Sequence[Found | Reject], detector: Detector
    ) -> list[dict[str, Any]] | Reject:
        iou = 1.0 if detector.suppresses else self.iou
        parts: list[tuple[Found, Window]] = []
        for one, matrix, window in zip(seen, views.to_picture, views.windows, strict=True):
            if isinstance(one, Reject):
                return one
            parts.append((suppressed(one.mapped(matrix).inside(window), iou), window))
        found = joined([self._of_cell(cell, parts, views, detector) for cell in views.place.cells])
        found = found[np.argsort(-found.scores, kind="stable")].mapped(views.to_source)
        return [
            {
                "label": detector.name(index),
                "score": score,
                "box": dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True)),
                **box_on_ground(views.georef, box),
            }
            for index, score, box in zip(
                found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True
            )
        ]

    def _of_cell(self, cell: Cell, parts: Sequence[tuple[Found, Window]], views: Views, detector: Detector) -> Found:
        """What has its centre in a cell, the best first."""
        around = [parts[index] for index in cell.windows]
        found = around[0][0]
        if len(around) > 1:
            margin = max(2.0, views.place.side / CUT)
            found = merged(around, views.place.height, views.place.width, self.iou, margin)
        if self.only:
            found = found[[detector.name(index) in self.only for index in found.classes.tolist()]]
        return found[cell.holds(found.boxes)][: self.max_detections]

    def _network(self, file: ModelFile, names: tuple[str, ...] | None) -> Detector:
        """Arrays in, arrays out: what they mean is found out with a black picture."""
        size = self.input_size()
        assert size is not None
        infer = self._unbatched(file) or self.network(size)

        def outputs(images: Sequence[Pixels]) -> tuple[Array, ...]:
            return infer(self.normalised(images, file.info))

        try:
            black = outputs([np.zeros((*size, 3), np.uint8)])
        except Exception as error:  # those of the backends share no base but this
            raise ModelError(
                f"model {self.model!r} fails on a picture of {size[0]}x{size[1]}; set `size` where it takes another: "
                f"{error}"
            ) from error
        try:
            layout = (
                self.layout
                or OUR_LAYOUTS.get(self._architecture())
                or recognised(black, size, len(names) if names else None)
            )
            decode = DECODERS[layout]
            first = [one if layout in UNBATCHED else one[0] for one in black]
            decode(first, size, self.min_score)
            count = class_count(layout, first)
        except ModelError as error:
            raise ModelError(f"model {self.model!r} {error}") from error
        except (IndexError, ValueError) as error:
            shapes = ", ".join(str(one.shape) for one in black)
            raise ModelError(f"model {self.model!r} gives outputs {shapes}, which is not {self.layout}") from error
        if names and count not in (None, len(names)):
            raise ModelError(f"model {self.model!r} has {count} classes but there are {len(names)} class names")
        most = 1 if layout in UNBATCHED else self.resources.batch

        def see(images: Sequence[Pixels]) -> Iterator[Found | Reject]:
            for start in range(0, len(images), most):
                chunk = images[start : start + most]
                together = outputs(chunk)
                for index in range(len(chunk)):
                    arrays = [one if layout in UNBATCHED else one[index] for one in together]
                    finite = all(np.isfinite(one).all() for one in arrays)
                    yield decode(arrays, size, self.min_score) if finite else Reject(Reason.OPERATOR_ERROR, NOT_FINITE)

        return Detector(see, namer(names), suppresses=layout in SUPPRESSED)

    def _unbatched(self, file: ModelFile) -> Callable[[Array], tuple[Array, ...]] | None:
        """An ONNX export of one of torchvision's detectors: it takes one picture, with or without an axis for more."""
        if file.path.suffix.lower() != ".onnx":
            return None
        session = onnx_session(file.path, self.device)
        given, given_back = session.get_inputs(), session.get_outputs()
        if len(given) != 1 or len(given_back) != 3 or any(len(one.shape or ()) > 2 for one in given_back):
            return None
        name, single = given[0].name, len(given[0].shape) == 3

        def infer(images: Array) -> tuple[Array, ...]:
            laid = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
            return tuple(one.astype(np.float32) for one in session.run(None, {name: laid[0] if single else laid}))

        return infer

    def _torchvision(self, file: ModelFile, names: tuple[str, ...] | None) -> Detector:
        run, first = torchvision_detector(file, self.device, self.min_score, names)

        def see(images: Sequence[Pixels]) -> Iterator[Found | Reject]:
            for image in images:
                try:
                    answer = run(image)
                except Reject as reject:
                    yield reject
                    continue
                scores = answer["scores"].astype(np.float64)
                found = Found(answer["boxes"].astype(np.float64), scores, answer["labels"])
                yield found[scores >= self.min_score]

        return Detector(see, namer(names, first), suppresses=True)


def _seen(views: Sequence[Views], detector: Detector) -> list[Found | Reject]:
    """What the model finds in each view of all items; what it has seen lately it is not shown again."""
    keys = [key or number for number, key in enumerate(key for one in views for key in one.keys)]
    answers: dict[Hashable, Found | Reject] = {}
    new: dict[Hashable, Pixels] = {}
    for key, image in zip(keys, (image for one in views for image in one.images), strict=True):
        if (known := detector.seen.get(key)) is None:
            new[key] = image
        else:
            answers[key] = known
    for key, answer in zip(new, detector.see(list(new.values())), strict=True):
        answers[key] = answer
        if isinstance(key, tuple) and isinstance(answer, Found):  # others are views of one item alone
            detector.seen.keep(key, answer, answer.nbytes)
    return [answers[key] for key in keys]
