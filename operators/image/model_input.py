"""What operators have in common that show a picture, or windows of it, to a model and map its answer back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Self

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from swath.operators.core.base import GEOREF, PIXELS, SURROUNDINGS, TO_SOURCE, Item, Matrix, ModelOperator, Pixels
from swath.operators.core.geometry import cropping, resized
from swath.operators.core.ground import Surroundings
from swath.operators.image.anchored import Cell, cells_in, reader, windows_touching
from swath.operators.image.boxes import Window, windows
from swath.operators.image.views import Place, Views
from swath.operators.models.info import ModelInfo, Task, Three
from swath.operators.models.nets import OURS
from swath.operators.models.networks import onnx_size
from swath.operators.models.reference import ModelFile
from swath.operators.models.uses import INDICES, UsesModel, read_names
from swath.schemas.columns import Column
from swath.schemas.errors import ModelError
from swath.schemas.items import MANIFEST

Array = npt.NDArray[np.float32]
GREY = 114
"""What fills a letterbox up, in levels of 255, as the YOLO family has it."""
OUR_SIDE = 512
"""Pixels of the windows that models of ours are shown: they see less than 100 to each side."""
LONGEST = 1333
"""Pixels of the longer side of what a torchvision detector is shown: it would not use more."""


WHICH = ("object_id", "etag")
"""Columns that say which raster it is."""
RASTER_SIDE = 800
"""Pixels of the windows of a raster that such a detector is shown: those it scales to that side."""


Laid = tuple[Callable[[Window], Pixels], list[Window], Place]
"""What gives the pixels of a window, the windows, and where they are."""


class SeesPictures(UsesModel, ModelOperator):
    """An operator with a model that is shown a whole picture, or windows of it side by side.

    The windows of a raster are those of the whole raster, whatever part of it an item is: what the model sees, and so
    what it finds, does not depend on how the raster was cut into items. Where an item ends they reach into its
    neighbours: the work is least where items are some times larger than `slice`. A step that replaces the picture of
    a window takes away what is around it; then a window is a picture like any other.
    """

    torchvision: ClassVar[tuple[str, ...]] = ()
    """How the names of the torchvision models begin that take pictures of any size, and scale them themselves."""
    usual: ClassVar[tuple[Three, Three]] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    """Mean and standard deviation where neither the pipeline nor the file says any."""
    usual_size: ClassVar[int] = 640
    tasks: ClassVar[tuple[Task, ...]] = ()
    """What a model may be for, where its file says it."""

    classes: str | tuple[str, ...] | None = None
    """The class names in the model's order, or the path of a text file with one a line; those that the file itself
    names when left out. `indices`: their numbers."""
    size: int | tuple[int, int] | None = None
    """Side in pixels of the square, or height and width, to which a picture is brought; what the file says when left
    out. Torchvision's detectors scale pictures themselves."""
    fit: Literal["letterbox", "stretch"] = "letterbox"
    """letterbox: the picture keeps its shape, and grey fills it up; stretch: it is distorted to that size. Models that
    `swath train` makes see a picture at its own scale."""
    mean: Three | None = None
    """Of red, green and blue on a scale of 0 to 1; subtracted first. For a model that takes 0 to 255: mean 0 and
    std 1/255."""
    std: Three | None = None
    """Of red, green and blue on a scale of 0 to 1; divided by."""
    channels: Literal["rgb", "bgr"] = "rgb"
    """The order in which the model takes the colours."""
    slice: int | None = Field(default=None, ge=32)
    """Side in pixels of the windows of the working image that are shown one by one; when left out, the whole at once,
    but for models that `swath train` makes. A raster is never shown at once: there it is the model's own size."""
    overlap: float = Field(default=0.2, ge=0, lt=0.9)
    """Share of a window that its neighbour shows too."""

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if self.std and min(self.std) <= 0:
            raise ValueError("std must be above 0 in every channel")
        if self.size and min(np.atleast_1d(self.size)) < 1:
            raise ValueError("size must be above 0")
        return self

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS, TO_SOURCE, GEOREF, SURROUNDINGS, *(one for one in MANIFEST if one.name in WHICH))

    def needs_pixels(self) -> int | None:
        try:
            size = None if self.side() else self.input_size()
        except ModelError:  # which `check` says
            return None
        return max(size) if size else None

    def settled(self) -> Self:
        """With the size it sees, too: a worker that prepares pictures need not open the model."""
        settled = super().settled()
        size = None if self.own_scale() else self.input_size()
        return settled.model_copy(update={"architecture": self._architecture(), "size": size})

    def _architecture(self) -> str:
        """Empty where the model has no name for it."""
        return (self.found().info.architecture or "") if self.architecture is None else self.architecture

    def scales_itself(self) -> bool:
        """Whether the model is one of torchvision's that take pictures of any size."""
        return self._architecture().startswith(self.torchvision)

    def own_scale(self) -> bool:
        """Whether the model is one of ours, which have learnt things at the scale that pictures have."""
        return self._architecture() in OURS

    def side(self) -> int | None:
        """The side of the windows in which a picture is shown; None: as a whole."""
        return self.slice or (OUR_SIDE if self.own_scale() else None)

    def input_size(self) -> tuple[int, int] | None:
        """The (height, width) of what the model sees; None for one that scales pictures itself."""
        if self.own_scale():
            side = self.slice or OUR_SIDE
            return (side, side)
        if self.size is not None:
            return self.size if isinstance(self.size, tuple) else (self.size, self.size)
        if self.scales_itself():
            return None
        file = self.found()
        fixed = _fixed_size(file)
        side = file.info.size or self.usual_size
        return fixed or (side, side)

    def checked_file(self) -> ModelFile:
        """The model's file; raises ModelError where it is for something else, or not for the size that is set."""
        file = self.found()
        if file.info.task not in (None, *self.tasks):
            raise ModelError(f"model {self.model!r} is for {file.info.task}, not for {' or '.join(self.tasks)}")
        if self.size is not None and (self.scales_itself() or self.own_scale()):
            raise ModelError(f"model {self.model!r} takes pictures at their own scale; leave `size` out")
        fixed = _fixed_size(file)
        if fixed and fixed != self.input_size():
            raise ModelError(f"model {self.model!r} takes pictures of {fixed[0]}x{fixed[1]}; set `size` to that")
        return file

    def prepare(self, item: Item) -> Views:
        pixels: Pixels = item["pixels"]
        around: Surroundings | None = item.get(SURROUNDINGS.name)
        size = self.input_size()
        read, parts, place = self._in_raster(item, around, size) if around else self._in_picture(pixels)
        images, matrices = [], []
        for part in parts:
            image, matrix = self._shown(read(part), size)
            images.append(image)
            matrices.append(cropping(part.left, part.top) @ matrix)
        to_source = item["to_source"] @ cropping(-place.own.left, -place.own.top)
        return Views(tuple(images), tuple(matrices), tuple(parts), place, to_source, item.get(GEOREF.name))

    def _in_picture(self, pixels: Pixels) -> Laid:
        height, width = pixels.shape[:2]
        side = self.side() or 0
        whole = Window(0, 0, width, height)
        parts = windows(height, width, side, round(side * self.overlap)) if side else [whole]
        if len(parts) > 1 and self.sees_whole():
            parts.append(whole)
        everywhere = Cell((0, width), (0, height), tuple(range(len(parts))))
        place = Place(height, width, whole, (everywhere,), side)
        return lambda part: pixels[part.top : part.bottom, part.left : part.right], parts, place

    def _in_raster(self, item: Item, around: Surroundings, size: tuple[int, int] | None) -> Laid:
        pixels: Pixels = item["pixels"]
        side = self.side() or (max(size) if size else RASTER_SIDE)
        own = Window(around.left, around.top, pixels.shape[1], pixels.shape[0])
        laid = own, around.height, around.width, side, round(side * self.overlap)
        parts, cells = cells_in(*laid) if self.finds_objects() else (windows_touching(*laid), ())
        read, the_same = reader(around, pixels, parts)
        raster = (item["object_id"], item["etag"] or "") if the_same else ()
        return read, parts, Place(around.height, around.width, own, cells, side, raster)

    def finds_objects(self) -> bool:
        """Whether what it finds has a place, and may reach from one window into the next; else pixels have classes."""
        return True

    def sees_whole(self) -> bool:
        """Whether a picture in windows is shown as a whole, too."""
        return False

    def _shown(self, pixels: Pixels, size: tuple[int, int] | None) -> tuple[Pixels, Matrix]:
        """A copy as the model sees it, and the matrix back."""
        if size is None:
            scale = LONGEST / max(pixels.shape)
            height, width = (max(1, round(length * min(scale, 1))) for length in pixels.shape[:2])
            return stretched(pixels, (height, width))
        if self.own_scale():
            missing = [size[0] - pixels.shape[0], size[1] - pixels.shape[1]]
            image = cv2.copyMakeBorder(pixels, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
            return np.asarray(image, np.uint8), np.eye(3)
        if self.fit == "letterbox":
            return letterboxed(pixels, size)
        return stretched(pixels, size)

    def names(self, info: ModelInfo) -> tuple[str, ...] | None:
        """The class names; None where nobody says any. Raises ConfigurationError where their file cannot be read."""
        if not isinstance(self.classes, str):
            return self.classes or info.classes
        return None if self.classes == INDICES else read_names(self.classes)

    def normalised(self, images: Sequence[Pixels], info: ModelInfo) -> Array:
        """(N, H, W, 3) as the model takes them."""
        mean = self.mean or (info.mean if "mean" in info.model_fields_set else self.usual[0])
        std = self.std or (info.std if "std" in info.model_fields_set else self.usual[1])
        levels = np.arange(256, dtype=np.float32)[None, :, None]
        table = (levels / 255 - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
        array = np.empty((len(images), *images[0].shape), np.float32)
        for image, normalised in zip(images, array, strict=True):
            cv2.LUT(image, table, normalised)  # in one pass
        return array if self.channels == "rgb" else np.ascontiguousarray(array[..., ::-1])


def namer(names: tuple[str, ...] | None, first: int = 0) -> Callable[[int], str]:
    """From the index of a class to its name, where the first name is for class `first`; the index where there are no
    names. It raises ModelError for a class that has none."""

    def name(index: int) -> str:
        if names is None:
            return str(index)
        if not 0 <= index - first < len(names):
            raise ModelError(f"the model found class {index} but there are {len(names)} class names")
        return names[index - first]

    return name


def _fixed_size(file: ModelFile) -> tuple[int, int] | None:
    """The (height, width) that an ONNX file insists on."""
    return _onnx_size(file.path, file.sha256) if file.path.suffix.lower() == ".onnx" else None


@lru_cache(maxsize=64)
def _onnx_size(path: Path, sha256: str) -> tuple[int, int] | None:
    return onnx_size(path)


def letterboxed(pixels: Pixels, size: tuple[int, int]) -> tuple[Pixels, Matrix]:
    """In the middle of a grey picture of (height, width) `size`, as large as goes; and the matrix back."""
    height, width = pixels.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    new = (min(size[0], max(1, round(height * scale))), min(size[1], max(1, round(width * scale))))
    image, back = stretched(pixels, new)
    if new == size:
        return image, back
    top, left = (size[0] - new[0]) // 2, (size[1] - new[1]) // 2
    boxed = np.full((*size, 3), GREY, np.uint8)
    boxed[top : top + new[0], left : left + new[1]] = image
    return boxed, np.asarray(back @ cropping(-left, -top))


def stretched(pixels: Pixels, size: tuple[int, int]) -> tuple[Pixels, Matrix]:
    """Of (height, width) `size`; and the matrix back."""
    old = pixels.shape[:2]
    back = np.diag([old[1] / size[1], old[0] / size[0], 1.0])
    if old == size:
        return np.ascontiguousarray(pixels), back
    larger = size[0] > old[0] or size[1] > old[1]
    if not larger:
        return resized(pixels, size), back
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8), back
