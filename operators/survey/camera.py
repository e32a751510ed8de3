"""How large a camera shows things: its focal length in pixels of a picture, from what the picture's header says."""

from __future__ import annotations

import math
from typing import NamedTuple

from swath.operators.core.base import Item
from swath.schemas.columns import Column

FILM_DIAGONAL = math.hypot(36, 24)
"""Millimetres of 35 mm film; equivalent focal lengths are by the diagonal (CIPA DCG-001)."""
SAME_SHAPE = 0.02
"""By how much of itself the ratio of sides of a picture that was only resized may differ, for rounding."""

OFF_CENTRE = 0.1
"""By how much of itself a calibrated centre may be off the middle of the picture."""
FORMATS = (1.0, 4 / 3, 3 / 2, 16 / 9)
CROPPED = "a part of the picture that the camera recorded"

TURNED = "turned since the camera recorded it"


class Interior(NamedTuple):
    """Of a camera without distortion, in pixels of its picture as stored."""

    focal_length: float
    center_x: float
    center_y: float
    source: str
    """calibration, sensor or 35 mm equivalent."""


def interior(item: Item, inputs: tuple[Column, ...]) -> Interior | str:
    """By the maker's calibration; else by the focal length and the sensor's pixels per millimetre; else by the 35 mm
    equivalent. Where that is impossible, the reason.

    Pictures that were resized since the camera recorded them are followed; of a cropped one nobody can say which part
    it shows.
    """
    width, height, recorded_width, recorded_height, *rest = (item[column.name] for column in inputs)
    per_mm, focal_mm, film_mm, calibrated, center_x, center_y, perspective_mm = rest
    if not width or not height:
        return "size of the picture unknown"
    center = (width / 2, height / 2)
    if calibrated and center_x and center_y:
        # The calibration is of the whole picture, the middle of which its centre is but for a few per cent.
        whole = (2 * center_x, 2 * center_y)
        scale = _scale((width, height), whole, OFF_CENTRE)
        if isinstance(scale, str):
            if _other_format((width, height), whole):
                return Interior(calibrated, *center, "calibration")
            return scale
        scale = 1.0 if abs(scale - 1) < OFF_CENTRE else scale
        return Interior(calibrated * scale, center_x * scale, center_y * scale, "calibration")
    shrunk = 1.0
    if recorded_width and recorded_height:
        scale = _scale((width, height), (recorded_width, recorded_height), SAME_SHAPE)
        if isinstance(scale, str):
            return scale
        shrunk = scale
    millimetres = perspective_mm or focal_mm
    if per_mm and millimetres:
        return Interior(millimetres * per_mm * shrunk, *center, "sensor")
    if film_mm:
        diagonal = sensor_diagonal(width, height, film_mm / focal_mm if focal_mm else None)
        if diagonal is None:
            return "no sensor has the shape of the picture"
        return Interior(film_mm / FILM_DIAGONAL * diagonal, *center, "35 mm equivalent")
    return "focal length unknown"


def _scale(size: tuple[float, float], whole: tuple[float, float], tolerance: float) -> float | str:
    """How large a picture is beside the whole that the camera recorded; the reason where it is another picture."""
    across, down = size[0] / whole[0], size[1] / whole[1]
    if abs(down / across - 1) <= tolerance:
        return across
    return TURNED if abs(size[0] * whole[0] / (size[1] * whole[1]) - 1) <= tolerance else CROPPED


def _other_format(size: tuple[float, float], whole: tuple[float, float]) -> bool:
    """Whether a camera that was set to another format left out what is above and below, or left and right."""
    ratio = max(size) / min(size)
    sides = sorted(one / other for one, other in zip(size, whole, strict=True))
    return abs(sides[1] - 1) < OFF_CENTRE / 2 and any(abs(ratio / known - 1) < 0.01 for known in FORMATS)


def sensor_diagonal(width: float, height: float, crop_factor: float | None) -> float | None:
    """Of the whole sensor in pixels of a picture, which may be its full width or full height only; None where the
    picture has a shape that no camera records.

    An equivalent focal length is that of the lens on the whole sensor, and does not change where the camera is set to
    16:9. Sensors are 4:3, but for those of 1 inch (crop factor 2.7) and of APS-C and full frame (up to 1.7), 3:2.
    """
    across, down = max(width, height), min(width, height)
    if not 1.2 < across / down < 1.95:
        return None
    three_two = crop_factor is not None and (crop_factor < 1.8 or 2.3 < crop_factor < 3.2)
    ratio = 3 / 2 if three_two else 4 / 3
    return math.hypot(across, across / ratio) if across / down > ratio else math.hypot(down, down * ratio)
