"""Enlarging a picture by what a network has learnt of how sharp things look when they are small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from swath.operators.core.base import PIXELS, Artifact, Item, Pixels, Reject, Transform
from swath.operators.core.geometry import scaling
from swath.operators.image.tiles import Tile, tiles
from swath.operators.models.info import ModelInfo
from swath.operators.models.networks import Network
from swath.operators.models.reference import ModelFile
from swath.operators.models.trying import tried
from swath.operators.models.uses import UsesModel
from swath.schemas.columns import Column
from swath.schemas.errors import ModelError
from swath.schemas.items import Reason

OURS = "swath.super_res"
SHIPPED = {2: "swath:super_res_x2", 4: "swath:super_res_x4"}
USUAL_HALO = 16
"""Pixels that a model of somebody else is given around a tile."""
TILES_ON_A_CARD = 16
"""Tiles in one call there; a core computes one after another, in its cache."""


@dataclass(frozen=True)
class Enlarger:
    """A loaded model."""

    network: Network
    info: ModelInfo
    halo: int
    """How far an output pixel sees, in pixels of what is enlarged."""
    times: int
    """How many times larger it makes a picture."""


class SuperResolve(UsesModel, Transform):
    """Enlarges the working image two or four times, tile by tile, with edges as sharp as they were before."""

    version: ClassVar[int] = 1

    model: str = SHIPPED[2]
    """`swath:super_res_x2` or `_x4`, by `scale`; or a file."""
    scale: Literal[2, 3, 4] = 2
    """How many times larger. A model for 2 makes 4 by being used twice."""
    tile: int = Field(default=192, ge=64, le=4096)
    """Side in pixels of what the model is given at once. Larger ones waste less on their edges and take more memory."""
    halo: int | None = Field(default=None, ge=0, le=512)
    """Pixels around a tile that the model sees; as far as it can see, when left out."""
    max_pixels: int = Field(default=200_000_000, ge=1)
    """Pixels of the largest picture that it may make; what would be larger is rejected."""
    keep: bool = False
    """Keep the enlarged picture as a PNG beside the table."""

    @model_validator(mode="before")
    @classmethod
    def _model_of_the_scale(cls, given: Any) -> Any:
        if isinstance(given, dict) and "model" not in given and given.get("scale") in SHIPPED:
            return {**given, "model": SHIPPED[given["scale"]]}
        return given

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS,)

    def outputs(self) -> tuple[Column, ...]:
        enlarged = Column("enlarged_times", pa.float32(), "Side of the enlarged picture by that before, 2 to 4")
        kept = Column("enlarged_picture", pa.string(), "URI of the enlarged picture, a PNG")
        return (enlarged, kept) if self.keep else (enlarged,)

    def check(self) -> None:
        """Ours say what they are; of others, a grey tile is enlarged to see it."""
        file = self.found()
        if file.info.task not in (None, "super_resolution"):
            raise ModelError(f"model {self.model!r} is one for {file.info.task}, it enlarges nothing")
        self._times(file)
        if file.info.architecture != OURS:
            grey, model = np.full((1, self.tile, self.tile, 3), 128, np.uint8), self.load()
            tried(self.model, f"a grey tile of {self.tile} pixels", lambda: self._tile_outputs(grey, model))

    def load(self) -> Enlarger:
        file = self.found()
        halo = USUAL_HALO if self.halo is None else self.halo
        if self.halo is None and file.info.architecture == OURS:
            from swath.operators.models.nets.super_res import halo_of

            halo = halo_of(file.info.arguments)
        if self.tile <= 2 * halo:
            raise ModelError(f"a tile of {self.tile} pixels is nothing but halo ({halo} on each side); raise `tile`")
        return Enlarger(self.network((self.tile, self.tile)), file.info, halo, self._times(file))

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        pixels: Pixels = item["pixels"]
        height, width = (side * self.scale for side in pixels.shape[:2])
        if height * width > self.max_pixels:
            message = f"enlarged to {width} x {height} pixels; at most {self.max_pixels} are allowed (max_pixels)"
            raise Reject(Reason.TOO_LARGE, message)
        enlarged = self.enlarged(pixels, model)
        result = {"enlarged_times": float(self.scale), "pixels": enlarged}
        result["to_input"] = scaling(pixels.shape[:2], enlarged.shape[:2])
        if self.keep:
            png = cv2.imencode(".png", cv2.cvtColor(enlarged, cv2.COLOR_RGB2BGR))[1]
            result["enlarged_picture"] = Artifact(png.tobytes(), ".png")
        return result

    def enlarged(self, pixels: Pixels, model: Enlarger) -> Pixels:
        """(H, W, 3) to (scale * H, scale * W, 3)."""
        done = 1
        while done < self.scale:
            pixels = self._enlarged_once(pixels, model)
            done *= model.times
        return pixels

    def _enlarged_once(self, pixels: Pixels, model: Enlarger) -> Pixels:
        """The picture's edges are repeated outwards as far as the model sees, so that it is the same whatever the
        tiles are."""
        height, width = pixels.shape[:2]
        halo, scale = model.halo, model.times
        fill = [(halo, max(halo, self.tile - side - halo)) for side in (height, width)]
        padded = np.pad(pixels, (*fill, (0, 0)), mode="edge")
        result = np.empty((height * scale, width * scale, 3), np.uint8)
        at_once = TILES_ON_A_CARD if self.device != "cpu" else 1
        for group in _groups(tiles(padded.shape[0], padded.shape[1], self.tile, halo), at_once):
            outputs = self._tile_outputs(np.stack([padded[tile.outer] for tile in group]), model)
            for tile, output in zip(group, outputs, strict=True):
                rows, columns = (_moved(one, halo, side) for one, side in zip(tile.inner, (height, width), strict=True))
                from_rows, from_columns = (
                    slice(there.start + halo - outer.start, there.stop + halo - outer.start)
                    for there, outer in zip((rows, columns), tile.outer, strict=True)
                )
                part = output[:, _scaled(from_rows, scale), _scaled(from_columns, scale)]  # (3, h, w)
                result[_scaled(rows, scale), _scaled(columns, scale)] = _levels(part)
        return result

    def _tile_outputs(self, given: Pixels, model: Enlarger) -> npt.NDArray[np.float32]:
        """(N, H, W, 3) to (N, 3, times * H, times * W) on 0 to 1."""
        images = given.astype(np.float32)
        images /= 255
        if "mean" in model.info.model_fields_set:
            images -= np.asarray(model.info.mean, np.float32)
        if "std" in model.info.model_fields_set:
            images /= np.asarray(model.info.std, np.float32)
        outputs = model.network(images)[0]
        size = (len(given), 3, self.tile * model.times, self.tile * model.times)
        if outputs.shape != size:
            raise ModelError(
                f"model {self.model!r} makes {outputs.shape} of tiles of {self.tile} pixels where {size} is wanted; "
                "set `scale` to what it enlarges"
            )
        if not np.isfinite(outputs.sum()):
            raise Reject(Reason.OPERATOR_ERROR, "the model gave levels that are no numbers for this picture")
        return outputs

    def _times(self, file: ModelFile) -> int:
        """How many times larger the model makes a picture; raises ModelError where that is not for `scale`."""
        if file.info.architecture != OURS:
            return self.scale
        times: int = file.info.arguments.get("scale", 2)
        if times != self.scale and times**2 != self.scale:
            raise ModelError(f"model {file.name!r} enlarges {times} times; set `scale: {times}`, or name another model")
        return times


def _levels(part: npt.NDArray[np.float32]) -> Pixels:
    """(3, H, W) on 0 to 1, to (H, W, 3) uint8."""
    scaled = part.transpose(1, 2, 0) * np.float32(255)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def _moved(inner: slice, halo: int, side: int) -> slice:
    """A part of the padded picture, in the picture itself."""
    return slice(min(max(inner.start - halo, 0), side), min(max(inner.stop - halo, 0), side))


def _scaled(part: slice, scale: int) -> slice:
    return slice(part.start * scale, part.stop * scale)


def _groups(all_tiles: list[Tile], size: int) -> Iterator[list[Tile]]:
    for start in range(0, len(all_tiles), size):
        yield all_tiles[start : start + size]
