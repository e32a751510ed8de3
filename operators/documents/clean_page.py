"""Makes a page fit to be read, by no more than it needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from swath.operators.core.base import PIXELS, Item, Matrix, Pixels, Resources, Transform
from swath.operators.core.geometry import IDENTITY, orient, resized, rotated_size, rotation_about, scaling, shrunk
from swath.operators.documents.orientation import Directions, Pose, directions_digest, find_pose, has_directions
from swath.operators.documents.page_ink import SIDE, PageInk, measure_ink, paper_light
from swath.operators.documents.page_outline import find_page, straightening
from swath.operators.documents.page_retake import retake_reasons
from swath.operators.image.quality import Flaw
from swath.schemas.columns import Column

PageStep = Literal["found", "mirrored", "turned", "deskewed", "lit", "darkened", "denoised", "enlarged"]
STEPS: tuple[PageStep, ...] = get_args(PageStep)
RETAKE = (Flaw.TOO_DARK, Flaw.TOO_BLURRED, Flaw.CROPPED, Flaw.GLARE)

MOST_PIXELS = 100_000_000
"""Of an enlarged page."""
_QUARTERS = {90: 8, 180: 3, 270: 6}
"""The EXIF orientation that undoes a clockwise turn."""


class CleanPage(Transform):
    """Finds, turns, straightens, evens out, darkens, denoises and enlarges a page, each only where it is needed.

    A page that needs nothing comes through as it is, to the bit.
    """

    version: ClassVar[int] = 1

    steps: frozenset[PageStep] = frozenset(STEPS)
    """What may be done to a page."""
    least_skew: float = Field(default=1.5, ge=0.05, le=10)
    """Degrees below which lines stay as they are: readers cope (word-F1 of receipts at 1 degree: 0.901, straightened
    0.895; at 7: 0.64 and 0.89), and a page that is not turned stays sharp."""
    most_shadow: float = Field(default=0.25, ge=0, le=1)
    """Share of the light that the paper behind the letters may lose from its brightest to its darkest parts."""
    least_depth: float = Field(default=0.4, ge=0, le=1)
    """How much darker than the paper print must be; less is faint."""
    most_noise: float = Field(default=0.12, ge=0, le=1)
    """Standard deviation of the grain, as a share of the depth of the print; readers cope with less."""
    least_letters: float = Field(default=14, ge=4, le=100)
    """Pixels of height below which letters are enlarged ..."""
    letters: float = Field(default=24, ge=4, le=100)
    """... and to which."""
    resources: Resources = Resources(memory_bytes=256 << 20, batch=4)

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS,)

    def outputs(self) -> tuple[Column, ...]:
        turned = "How far the page was turned clockwise before it was righted, 0, 90, 180 or 270; null without lines"
        skew = "How far its lines were turned clockwise beyond that before they were straightened; null without lines"
        shadow = "Share of light that the paper lost from its brightest to its darkest parts with text, 0 to 1"
        depth = "How much darker the print was than the paper, 0 to 1; null without print"
        grain = "Standard deviation of the grain as a share of white, 0 to 1"
        return (
            Column("page_orientation_deg", pa.int32(), turned, "degrees"),
            Column("page_skew_deg", pa.float32(), skew, "degrees"),
            Column("page_shadow", pa.float32(), shadow),
            Column("page_print_depth", pa.float32(), depth),
            Column("page_noise", pa.float32(), grain),
            Column("page_letter_px", pa.float32(), "Height of the letters as they were; null without print", "pixels"),
            Column("page_steps", pa.list_(pa.string()), "What was done to the page, in order: " + ", ".join(STEPS)),
            Column(
                "page_retake",
                pa.list_(pa.string()),
                "Why a person should take the picture again: " + ", ".join(RETAKE) + "; empty where it is good enough",
            ),
        )

    def model_digest(self) -> str | None:
        return directions_digest() if has_directions() else None

    def load(self) -> Directions | None:
        return Directions() if has_directions() else None

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        given: Pixels = item["pixels"]
        page = _Page(given, IDENTITY, [])
        ink = measure_ink(given)
        quad = find_page(given, ink) if "found" in self.steps else None
        if quad is not None:
            page.warped("found", *straightening(quad))
            ink = measure_ink(page.pixels)
        pose = find_pose(ink, model) if ink else None
        if pose:
            self._stand_upright(page, pose)
        found = self._measured(page, ink)
        retake = retake_reasons(page.pixels, ink, pose is not None)
        if pose:
            self._make_readable(page, ink, found)
        columns = {
            "page_orientation_deg": pose.orientation if pose else None,
            "page_skew_deg": pose.skew if pose else None,
            **found,
            "page_steps": page.steps,
            "page_retake": [str(reason) for reason in retake],
        }
        if not page.steps:
            return columns
        return {**columns, "pixels": page.pixels, "to_input": page.to_given}

    def _stand_upright(self, page: _Page, pose: Pose) -> None:
        if pose.orientation and "turned" in self.steps:
            page.oriented("turned", _QUARTERS[pose.orientation])
        if pose.mirrored and "mirrored" in self.steps:
            page.oriented("mirrored", 2)
        if abs(pose.skew) >= self.least_skew and "deskewed" in self.steps:
            height, width = page.pixels.shape[:2]
            skew = -pose.skew if page.is_mirrored else pose.skew
            size = rotated_size((height, width), skew)
            page.warped("deskewed", rotation_about((width / 2, height / 2), -skew, (size[1] / 2, size[0] / 2)), size)

    def _measured(self, page: _Page, ink: PageInk | None) -> dict[str, float | None]:
        if ink is None:
            return dict.fromkeys(("page_shadow", "page_print_depth", "page_noise", "page_letter_px"))
        dark, light = np.percentile(ink.paper[ink.mask > 0], (5, 95))
        return {
            "page_shadow": float(1 - dark / max(light, 1)),
            "page_print_depth": ink.depth,
            "page_noise": ink.noise,
            "page_letter_px": ink.letter_size / ink.scale,
        }

    def _make_readable(self, page: _Page, ink: PageInk | None, found: dict[str, float | None]) -> None:
        if ink is None:
            return
        shadow, depth, grain, letters = (value or 0.0 for value in found.values())
        if shadow > self.most_shadow and "lit" in self.steps:
            page.became("lit", evenly_lit(page.pixels))
        if grain > self.most_noise * depth and "denoised" in self.steps:
            page.became("denoised", denoised(page.pixels, grain / ink.scale))
        if depth < self.least_depth and "darkened" in self.steps:
            page.became("darkened", darkened(page.pixels, depth))
        if letters < self.least_letters and "enlarged" in self.steps:
            page.enlarged(self.letters / letters)


@dataclass
class _Page:
    """A page on its way, with what was done to it."""

    pixels: Pixels
    to_given: Matrix
    steps: list[str]

    @property
    def is_mirrored(self) -> bool:
        return "mirrored" in self.steps

    def became(self, step: PageStep, pixels: Pixels) -> None:
        self.pixels = pixels
        self.steps.append(step)

    def oriented(self, step: PageStep, orientation: int) -> None:
        """Turned or flipped by an EXIF orientation, exactly."""
        pixels, back = orient(self.pixels, orientation)
        self.to_given = self.to_given @ back
        self.became(step, pixels)

    def warped(self, step: PageStep, to_input: Matrix, size: tuple[int, int]) -> None:
        """Seen through `to_input`; what was not in the picture gets the colour of its border."""
        border = np.concatenate([self.pixels[0], self.pixels[-1], self.pixels[:, 0], self.pixels[:, -1]])
        centred = _shift(-0.5) @ to_input @ _shift(0.5)  # OpenCV's (0, 0) is the middle of the first pixel
        warped = cv2.warpPerspective(
            self.pixels,
            centred,
            size[::-1],
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderValue=tuple(np.median(border, axis=0).tolist()),
        )
        self.to_given = self.to_given @ to_input
        self.became(step, np.asarray(warped, dtype=np.uint8))

    def enlarged(self, factor: float) -> None:
        """Bicubic, to at most `MOST_PIXELS`."""
        height, width = self.pixels.shape[:2]
        factor = min(factor, 4.0, math.sqrt(MOST_PIXELS / (height * width)))
        if factor < 1.1:
            return
        size = round(height * factor), round(width * factor)
        self.to_given = self.to_given @ scaling((height, width), size)
        self.became("enlarged", resized(self.pixels, size))


def _shift(by: float) -> Matrix:
    return np.array([[1.0, 0.0, by], [0.0, 1.0, by], [0.0, 0.0, 1.0]])


def evenly_lit(pixels: Pixels) -> Pixels:
    """Divided by the light of its paper, so that shadows and falling light go and print stays."""
    grey = shrunk(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8), SIDE)
    small = paper_light(grey)
    paper = cv2.resize(small, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    floor = max(16.0, 0.15 * float(paper.max()))  # no gain without end where the picture is black
    three = cv2.merge([np.maximum(paper, np.uint8(floor))] * 3)
    return np.asarray(cv2.divide(pixels, three, scale=245), dtype=np.uint8)


def darkened(pixels: Pixels, depth: float) -> Pixels:
    """Faint print stretched to a depth of 0.8, down from the paper, whose light stays."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    paper = float(np.percentile(grey[::4, ::4], 75))
    gain = min(0.8 / max(depth, 0.05), 6.0)
    table = np.clip(paper - (paper - np.arange(256)) * gain, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, table[None]), dtype=np.uint8)


def denoised(pixels: Pixels, grain: float) -> Pixels:
    """Without grain of a standard deviation (share of white), edges kept (bilateral filter, Tomasi 1998)."""
    levels = min(max(grain * 255, 4.0), 40.0)
    return np.asarray(cv2.bilateralFilter(pixels, 5, 3 * levels, 2), dtype=np.uint8)
