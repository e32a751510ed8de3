"""Which part of a picture is what: semantic segmentation, and instances with Mask R-CNN."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from swath.operators.core.base import (
    BANDS,
    PREPARED,
    Artifact,
    Batch,
    Item,
    Pixels,
    Reject,
    Resources,
)
from swath.operators.core.geometry import hull, map_box
from swath.operators.image.class_maps import (
    ClassMap,
    Output,
    class_count,
    class_map,
    present,
    recognised,
    scores,
)
from swath.operators.image.colours import Colour, by_index
from swath.operators.image.instances import Thing, things_in
from swath.operators.image.mask_files import BACKGROUND, OF_ITEMS, class_tags, cog, ground_affine, png
from swath.operators.image.model_input import Array, SeesPictures, namer
from swath.operators.image.outlines import Mask, regions
from swath.operators.image.seen import Seen
from swath.operators.image.segments import Prepared, colour_of, outlined, paint, share
from swath.operators.image.torchvision_detectors import Answer, torchvision_detector
from swath.operators.models.info import IMAGENET_MEAN, IMAGENET_STD, Task, Three
from swath.operators.models.reference import ModelFile
from swath.operators.models.uses import check_named
from swath.operators.survey.grid import WINDOW, valid_pixels
from swath.schemas.columns import Column, working
from swath.schemas.errors import ModelError
from swath.schemas.items import Reason
from swath.schemas.types import INSTANCES, SEGMENTS

MOST_REGIONS = 1000
"""Regions of a class map that are kept, the largest."""
NOT_FINITE = "the model gave a value that is no number for this picture"


@dataclass(frozen=True)
class Segmenter:
    """A loaded model."""

    name: Callable[[int], str]
    scores: Callable[[Sequence[Pixels]], Iterator[Array | Reject]] | None = None
    """Of a semantic one: (C, h, w) of each picture."""
    instances: Callable[[Pixels], Answer] | None = None
    """Of one for instances."""
    seen: Seen[Sequence[Thing]] = field(default_factory=Seen)


class Segment(SeesPictures):
    """Says which class every pixel is of, and how much of the picture each covers; with Mask R-CNN, thing by thing.

    Large pictures are looked at in windows (`slice: 512`): where they overlap their scores are blended, and an
    instance on an edge is put together.
    """

    version: ClassVar[int] = 2
    torchvision: ClassVar[tuple[str, ...]] = ("maskrcnn",)
    usual: ClassVar[tuple[Three, Three]] = (IMAGENET_MEAN, IMAGENET_STD)
    usual_size: ClassVar[int] = 520
    tasks: ClassVar[tuple[Task, ...]] = ("segmentation", "instance")

    resources: Resources = Resources(batch=4)
    output: Output | None = None
    """What the first output of an ONNX or pt2 file is; found out when left out."""
    min_score: float = Field(default=0.5, ge=0, le=1)
    """Instances that are less likely are left out."""
    polygons: bool = False
    """Whether the connected regions of a class map become `instances`, with their outlines; the background does not."""
    tolerance: float = Field(default=1.0, ge=0)
    """Pixels of the working image by which a simplified outline may deviate."""
    min_pixels: int = Field(default=16, ge=1)
    """Regions, and holes in them, of fewer pixels of the working image have no outline."""
    gsd: float | str | None = None
    """Metres a source pixel, or the column of an earlier step that says it; where the source is georeferenced, areas
    are known without it."""
    mask: Literal["auto", "png", "cog", "none"] = "auto"
    """How the class map is kept beside the table; auto: as a cloud-optimised GeoTIFF where the source's pixels lie in
    a straight grid on the ground, else as a PNG."""

    def inputs(self) -> tuple[Column, ...]:
        if isinstance(self.gsd, str):
            gsd = Column(self.gsd, pa.float64(), "Ground that a source pixel covers", "metres")
            return (*super().inputs(), BANDS, WINDOW, gsd)
        return (*super().inputs(), BANDS, WINDOW)

    def optional(self) -> frozenset[str]:
        return frozenset({BANDS.name})

    def outputs(self) -> tuple[Column, ...]:
        what = "Each pixel's class, or its place among the `instances` of a model for them; 0 is nothing"
        picture = Column("mask_image", pa.string(), f"URI of a PNG or GeoTIFF as large as the working picture. {what}")
        return (
            Column("class_areas", SEGMENTS, "Share and area of each class in the picture, the largest first"),
            Column("instances", INSTANCES, "Things, the surest first, or with `polygons` regions, the largest first"),
            *((picture,) if self.mask != "none" else ()),
            working("class_map", f"classes: (H, W) uint16; colours: RGB of each class. {what}"),
        )

    def check(self) -> None:
        """The model is loaded and, but for Mask R-CNN, tried on a black picture."""
        self.load()
        check_named(self.model, self.names(self.found().info), self.classes)

    def finds_objects(self) -> bool:
        return self.scales_itself()

    def load(self) -> Segmenter:
        file = self.checked_file()
        names = self.names(file.info)
        if self.scales_itself():
            return self._instances(file, names)
        return self._semantic(file, names)

    def prepare(self, item: Item) -> Any:
        gsd = item[self.gsd] if isinstance(self.gsd, str) else self.gsd
        return Prepared(super().prepare(item), gsd, valid_pixels(item) if item.get(BANDS.name) else None)

    def run(self, batch: Batch, model: Any) -> Batch:
        segmenter: Segmenter = model
        prepared: list[Prepared] = batch[PREPARED.name]
        names = self.produced()
        if segmenter.instances:
            answers = [self._things(one, segmenter) for one in prepared]
        else:
            assert segmenter.scores is not None
            seen = segmenter.scores([image for one in prepared for image in one.views.images])
            answers = [self._classes(one, seen, segmenter) for one in prepared]
        rows = [dict.fromkeys(names, one) if isinstance(one, Reject) else one for one in answers]
        return {name: [row[name] for row in rows] for name in names}

    def _classes(self, prepared: Prepared, seen: Iterator[Array | Reject], segmenter: Segmenter) -> Any:
        """Of a semantic model. All of the item's answers are taken from `seen`, whatever becomes of them."""
        views = prepared.views
        bad: list[Reject] = []

        def parts() -> Iterator[Any]:
            for matrix, window in zip(views.to_picture, views.windows, strict=True):
                one = next(seen)
                if isinstance(one, Reject):
                    bad.append(one)
                elif not bad:
                    yield one, matrix, window

        size, own = views.images[0].shape[:2], views.place.own
        overlap = round(views.place.side * self.overlap)
        found = class_map(parts(), size, own, overlap, alone=views.windows == (own,))
        if bad:
            return bad[0]
        valid = prepared.valid
        if valid is not None:
            found[~valid] = 0
        areas = [
            share(segmenter.name(index), found == index, prepared)
            for index, _ in present(found if valid is None else found[valid])
        ]
        instances = self._regions(found, segmenter, prepared) if self.polygons else []
        names = [segmenter.name(index) for index in range(int(found.max()) + 1)]
        return self._answer(areas, instances, found, [colour_of(name) for name in names], prepared, class_tags(names))

    def _regions(self, found: ClassMap, segmenter: Segmenter, prepared: Prepared) -> list[dict[str, Any]]:
        parts = []
        for index, _ in present(found):
            label = segmenter.name(index)
            if label not in BACKGROUND:
                mask = prepared.of_valid(found == index)
                parts += [(label, one) for one in regions(mask, self.tolerance, self.min_pixels)]
        parts.sort(key=lambda part: -part[1].pixels)
        instances = []
        for label, one in parts[:MOST_REGIONS]:
            mapped = one.mapped(prepared.views.own_to_source)
            said = outlined(hull(mapped.rings[0]), [mapped], one.pixels, prepared)
            instances.append({"label": label, "score": None, **said})
        return instances

    def _things(self, prepared: Prepared, segmenter: Segmenter) -> Any:
        """Of a model for instances."""
        assert segmenter.instances is not None
        name = segmenter.name
        views, own = prepared.views, prepared.views.place.own
        covered: dict[str, Mask] = {}
        mine: list[Thing] = []
        try:
            for cell, around, inside in things_in(prepared.views, segmenter.instances, self.min_score, segmenter.seen):
                mine += inside
                for thing in around:  # of which some are told of with the item that their middle is in
                    mask = covered.setdefault(name(thing.index), np.zeros((own.height, own.width), np.bool_))
                    paint(mask, thing, own, cell.pixels())
        except Reject as reject:
            return reject
        if len(views.place.cells) > 1:
            mine.sort(key=lambda thing: -thing.score)
        found = np.zeros((own.height, own.width), np.uint16)
        for number, thing in reversed(list(enumerate(mine, start=1))):  # the surest one comes on top
            paint(found, thing, own, number=number)
        instances = []
        for thing in mine:
            parts = regions(thing.mask, self.tolerance, self.min_pixels, thing.left, thing.top)
            mapped = [one.mapped(views.to_source) for one in parts]
            said = outlined(map_box(views.to_source, thing.box), mapped, int(thing.mask.sum()), prepared)
            instances.append({"label": name(thing.index), "score": thing.score, **said})
        labels = sorted(covered, key=lambda label: (covered[label].sum(), label), reverse=True)
        areas = [share(label, covered[label], prepared) for label in labels]
        colours = [by_index(number) for number in range(len(mine) + 1)]
        return self._answer(areas, instances, found, colours, prepared, OF_ITEMS)

    def _answer(
        self,
        areas: list[Any],
        instances: list[Any],
        found: ClassMap,
        colours: list[Colour],
        prepared: Prepared,
        tags: Mapping[str, str],
    ) -> dict[str, Any]:
        views, valid = prepared.views, prepared.valid
        to_ground = ground_affine(views.georef, views.own_to_source)
        picture: dict[str, Any] = {}
        if self.mask == "cog" or (self.mask == "auto" and to_ground is not None):
            crs = views.georef.crs if views.georef and to_ground is not None else None
            content = cog(found, colours, crs, np.eye(3) if to_ground is None else to_ground, tags, valid)
            picture = {"mask_image": Artifact(content, ".tif")}
        elif self.mask != "none":
            picture = {"mask_image": Artifact(png(found, colours), ".png")}
        shown = {"classes": found, "colours": colours}
        return {"class_areas": areas, "instances": instances, **picture, "class_map": shown}

    def _semantic(self, file: ModelFile, names: tuple[str, ...] | None) -> Segmenter:
        """Arrays in, arrays out: what they mean is found out with a black picture."""
        size = self.input_size()
        assert size is not None
        network = self.network(size)

        def first(images: Sequence[Pixels]) -> Array:
            return network(self.normalised(images, file.info))[0]

        try:
            black = first([np.zeros((*size, 3), np.uint8)])
        except Exception as error:  # those of the backends share no base but this
            raise ModelError(
                f"model {self.model!r} fails on a picture of {size[0]}x{size[1]}; set `size` where it takes another: "
                f"{error}"
            ) from error
        try:
            kind = self.output or recognised(black, len(names) if names else None)
            count = class_count(black[0], kind)
            scores(black[0], kind)
        except ModelError as error:
            raise ModelError(f"model {self.model!r} {error}") from error
        except (IndexError, ValueError) as error:
            raise ModelError(
                f"model {self.model!r} gives an output {black.shape}, which is not {self.output}"
            ) from error
        if names and count == 2 and len(names) == 1:
            names = ("background", *names)
        if names and count not in (None, len(names)):
            raise ModelError(f"model {self.model!r} has {count} classes but there are {len(names)} class names")

        def see(images: Sequence[Pixels]) -> Iterator[Array | Reject]:
            for start in range(0, len(images), self.resources.batch):
                for one in first(images[start : start + self.resources.batch]):
                    finite = bool(np.isfinite(one).all())
                    yield scores(one, kind) if finite else Reject(Reason.OPERATOR_ERROR, NOT_FINITE)

        return Segmenter(namer(names), scores=see)

    def _instances(self, file: ModelFile, names: tuple[str, ...] | None) -> Segmenter:
        run, first = torchvision_detector(file, self.device, self.min_score, names)
        return Segmenter(namer(names, first), instances=run)
