"""Pictures to learn super-resolution from, what they are shrunk to, and the patches that are cut from both."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from swath.flows.train.drawn_pictures import leaves, text_block
from swath.operators.core.base import Pixels
from swath.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

CELL = 24
"""Patches begin on a grid of this many small pixels."""
DRAWN_SIDE = 384
"""Pixels of a drawn picture's sides."""


class SuperResOptions(BaseModel):
    """What the network is, and what it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal[2, 4] = 2
    channels: int = Field(default=48, ge=4)
    blocks: int = Field(default=4, ge=1)
    patch: int = Field(default=48, ge=16)
    """Side in small pixels of what it is trained on."""
    batch: int = Field(default=4, ge=1)
    degradation: Literal["bicubic", "real"] = "bicubic"
    """real: as bicubic, but blurred before, and noisy and JPEG-compressed after, by random amounts."""
    drawn: int = Field(default=110, ge=0)
    """Drawn pictures (edges, shapes, stripes) beside the given ones."""
    drawn_share: float = Field(default=0.27, ge=0, le=1)
    """Of the patches."""
    text: int = Field(default=40, ge=0)
    """Drawn pictures of text."""
    text_share: float = Field(default=0.09, ge=0, le=1)
    seed: int = 0


@dataclass(frozen=True)
class Source:
    """Sharp pictures of one origin."""

    pictures: Iterable[Pixels]
    share: float = 1.0
    """Of the patches that are cut from sources, beside those of the other sources."""
    shrink: tuple[float, ...] = (1.0,)
    """Each picture is used at all these fractions of its size; a smaller one is sharper."""


@dataclass(frozen=True)
class Sheet:
    """One picture to learn from."""

    sharp: Pixels
    small: Pixels
    """`sharp`, shrunk and, where asked for, spoilt."""


class Patches:
    """Cuts patches at random places, the oftener the more a bicubic enlargement loses there."""

    def __init__(self, groups: list[tuple[float, list[Sheet]]], options: SuperResOptions) -> None:
        """`groups`: the share of the patches that comes from it, and its sheets."""
        self.options = options
        self.sheets = [sheet for _, sheets in groups for sheet in sheets]
        places, weights, first = [], [], 0
        for share, sheets in groups:
            found = [_places(sheet, options, first + index) for index, sheet in enumerate(sheets)]
            first += len(sheets)
            if not found:
                continue
            weight = np.concatenate([lost for _, lost in found])
            places.append(np.concatenate([place for place, _ in found]))
            weights.append(share * weight / weight.sum())
        if not places:
            raise ConfigurationError("there is no picture to train on")
        self.places = np.concatenate(places)  # (P, 3): sheet, row, column, in small pixels
        self.cumulated = np.cumsum(np.concatenate(weights))

    def batches(self, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Small (N, 3, P, P) and sharp (N, 3, scale * P, scale * P) float32 on 0..1; step n is always the same."""
        import torch

        for step in itertools.count(start):
            rng = np.random.default_rng((self.options.seed, step))
            pairs = [self._patch(rng) for _ in range(self.options.batch)]
            small, sharp = (np.stack(one).transpose(0, 3, 1, 2) for one in zip(*pairs, strict=True))
            yield torch.from_numpy(small.astype(np.float32) / 255), torch.from_numpy(sharp.astype(np.float32) / 255)

    def _patch(self, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        side, scale = self.options.patch, self.options.scale
        which = int(np.searchsorted(self.cumulated, rng.random() * self.cumulated[-1]))
        index, row, column = self.places[min(which, len(self.places) - 1)].tolist()
        sheet = self.sheets[index]
        height, width = sheet.small.shape[:2]
        row = int(np.clip(row + rng.integers(-CELL // 2, CELL // 2 + 1), 0, height - side))
        column = int(np.clip(column + rng.integers(-CELL // 2, CELL // 2 + 1), 0, width - side))
        small = sheet.small[row : row + side, column : column + side]
        sharp = sheet.sharp[row * scale : (row + side) * scale, column * scale : (column + side) * scale]
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        channels = rng.permutation(3) if rng.random() < 0.5 else np.arange(3)
        negative = rng.random() < 0.15
        return _turned(small, turns, mirrored, channels, negative), _turned(sharp, turns, mirrored, channels, negative)


def _turned(pixels: Pixels, turns: int, mirrored: bool, channels: Any, negative: bool) -> Pixels:
    pixels = np.rot90(pixels[:, ::-1] if mirrored else pixels, turns)[..., channels]
    return np.asarray(255 - pixels if negative else pixels, np.uint8)


def _places(sheet: Sheet, options: SuperResOptions, index: int) -> tuple[npt.NDArray[np.int64], Any]:
    """(P, 3) places of patches in a sheet, and what a bicubic enlargement loses at each."""
    side, scale = options.patch, options.scale
    height, width = sheet.small.shape[:2]
    enlarged = resampled(sheet.small, (height * scale, width * scale))
    lost = np.abs(enlarged.astype(np.float32) - sheet.sharp).mean(axis=2)
    lost = cv2.resize(cv2.blur(lost, (side * scale, side * scale)), (width, height), interpolation=cv2.INTER_AREA)
    rows, columns = np.mgrid[0 : height - side + 1 : CELL, 0 : width - side + 1 : CELL].reshape(2, -1)
    weight = lost[rows + side // 2, columns + side // 2].clip(0.3, 12)
    return np.column_stack([np.full(len(rows), index), rows, columns]), weight


def resampled(pixels: Pixels, size: tuple[int, int], method: Any = Image.Resampling.BICUBIC) -> Pixels:
    """To (height, width) by Pillow, whose bicubic (a = -1/2) is antialiased as that of MATLAB's imresize is; the one
    of OpenCV is not."""
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], method), np.uint8)


def sheet(sharp: Pixels, options: SuperResOptions, rng: np.random.Generator) -> Sheet | None:
    """The picture and what the network is given for it; None where it is too small to cut a patch from."""
    scale = options.scale
    height, width = (side // scale for side in sharp.shape[:2])
    if min(height, width) < options.patch:
        return None
    sharp = np.ascontiguousarray(sharp[: height * scale, : width * scale])
    if options.degradation == "bicubic":
        return Sheet(sharp, resampled(sharp, (height, width)))
    return Sheet(sharp, spoilt(sharp, (height, width), rng))


def spoilt(sharp: Pixels, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Shrunk to `size` as a cheap camera or scanner would have it: soft, noisy, JPEG-compressed, by random amounts."""
    if rng.random() < 0.6:
        sharp = np.asarray(cv2.GaussianBlur(sharp, (0, 0), float(rng.uniform(0.3, 0.6)) * len(sharp) / size[0]))
    method = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.BOX)[int(rng.integers(3))]
    small = resampled(sharp, size, method)
    if rng.random() < 0.5:
        grain = rng.standard_normal(small.shape, dtype=np.float32) * float(rng.uniform(0, 5))
        small = (small + grain).clip(0, 255).round().astype(np.uint8)
    if rng.random() < 0.6:
        stream = io.BytesIO()
        Image.fromarray(small).save(stream, "JPEG", quality=int(rng.integers(60, 96)))
        small = np.asarray(Image.open(stream))
    return small


def groups_of(sources: Sequence[Source], options: SuperResOptions) -> list[tuple[float, list[Sheet]]]:
    """The sheets of the sources and those that are drawn, each with its share of the patches."""
    rng = np.random.default_rng(options.seed)
    given = [(one.share, *_sheets(one, options, rng)) for one in sources]
    total = sum(share for share, _, _ in given) or 1.0
    left = 1 - options.drawn_share - options.text_share if sources else 1.0
    groups = [(left * share / total, sheets) for share, sheets, _ in given]
    textures = [texture for _, _, some in given for texture in some]
    shapes = Source(leaves(rng, DRAWN_SIDE, textures) for _ in range(options.drawn))
    words = Source(text_block(rng, DRAWN_SIDE) for _ in range(options.text))
    for share, source in ((options.drawn_share, shapes), (options.text_share, words)):
        groups.append((share, _sheets(source, options, rng)[0]))
    return [(share, sheets) for share, sheets in groups if sheets and share > 0]


def _sheets(source: Source, options: SuperResOptions, rng: np.random.Generator) -> tuple[list[Sheet], list[Pixels]]:
    """The sheets of a source, half of them with all their levels in use; and pieces to fill drawn shapes with."""
    found: list[Sheet | None] = []
    textures: list[Pixels] = []
    for index, picture in enumerate(source.pictures):
        if index % 6 == 0 and len(textures) < 40:
            textures.append(picture[:384, :384].copy())
        for factor in source.shrink:
            size = round(picture.shape[0] / factor), round(picture.shape[1] / factor)
            smaller = picture if factor == 1 else resampled(picture, size, Image.Resampling.BOX)
            found.append(sheet(stretched(smaller) if rng.random() < 0.5 else smaller, options, rng))
    return [one for one in found if one is not None], textures


def stretched(pixels: Pixels) -> Pixels:
    """With its darkest level at 0 and its brightest at 255, but for the outermost half percent."""
    low, high = np.percentile(pixels, (0.5, 99.5))
    levels = (pixels.astype(np.float32) - low) * (255 / max(32.0, high - low))
    return np.asarray(levels.clip(0, 255).round(), np.uint8)
