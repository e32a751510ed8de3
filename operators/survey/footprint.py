"""What ground a drone's photo shows, and how large its pixels are there."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from swath.operators.core.base import GEOREF, Item, ItemOperator, Matrix
from swath.operators.core.geometry import map_points
from swath.operators.core.ground import WGS84, Georef, geod, transformer
from swath.operators.survey.attitude import Attitude
from swath.operators.survey.camera import Interior, interior
from swath.operators.survey.exif import Exif
from swath.operators.survey.xmp import Xmp
from swath.schemas.columns import Column

ABOVE = "looks to the horizon or above it"
_READ = {column.name: column for column in (*Exif().outputs(), *Xmp().outputs())}
_SIZE = (
    Column("width_px", pa.int32(), "Width as stored", "pixels"),
    Column("height_px", pa.int32(), "Height as stored", "pixels"),
)
_CAMERA = (
    *_SIZE,
    *(
        _READ[name]
        for name in (
            *("recorded_width_px", "recorded_height_px", "sensor_pixels_per_mm"),
            *("focal_length_mm", "focal_length_35mm_mm", "calibrated_focal_length_px"),
            *("calibrated_center_x_px", "calibrated_center_y_px", "perspective_focal_length_mm"),
        )
    ),
)
_PLACE = tuple(
    _READ[name]
    for name in (
        *("edited_with", "latitude", "longitude", "altitude_m", "relative_altitude_m", "above_ground_m"),
        *("camera_yaw_degrees", "camera_pitch_degrees", "camera_roll_degrees", "attitude_from"),
        *("flight_yaw_degrees", "image_direction_degrees"),
    )
)


class Footprint(ItemOperator):
    """Projects a photo on flat, level ground, from position, height, attitude and focal length as `exif` and `xmp` read
    them; a pinhole camera, as stored pixels are before any EXIF orientation.

    Null with the reason in `footprint_note` where something is missing. Approximate, with the reason, where terrain is
    unknown (ground as level as where the drone is, or took off), where yaw is unknown (drawn as if the top of the
    picture were north: position, size and area are right, so that a flight's overlap can still be judged, but places
    within it are not), where the tilt is unknown (taken as straight down), and where a program changed the file since
    it was taken: viewers turn pictures and leave the drone's angles as they were. The height is, in this order: the
    altitude above `ground_altitude_m`; that above ground or above take-off, as the drone says;
    `altitude_above_ground_m`. What is configured is no assumption.
    """

    version: ClassVar[int] = 1

    ground_altitude_m: float | None = Field(default=None, gt=-500, lt=9000)
    """Altitude of level ground, of the same kind as the photos' `altitude_m`: those of small drones can be tens of
    metres off, then their height above take-off is better."""
    altitude_above_ground_m: float | None = Field(default=None, gt=0, lt=100_000)
    """For photos that say nothing about their height."""
    least_depression_degrees: float = Field(default=10.0, gt=0, lt=90)
    """A photo in which a corner looks less far below the horizon has no footprint: its end would be anywhere."""

    def inputs(self) -> tuple[Column, ...]:
        return (*_CAMERA, *_PLACE)

    def optional(self) -> frozenset[str]:
        return frozenset(column.name for column in Xmp().outputs())

    def outputs(self) -> tuple[Column, ...]:
        return (
            Column("gsd_m", pa.float64(), "Side of a source pixel on the ground, in the picture's middle", "metres"),
            Column("footprint", pa.binary(), "What ground it shows; WKB, CRS84"),
            Column("footprint_approximate", pa.bool_(), "Whether something had to be assumed; null without footprint"),
            Column("footprint_note", pa.string(), "What was assumed, or why there is none"),
            Column("height_above_ground_m", pa.float64(), "Height of the camera that was reckoned with", "metres"),
            Column("focal_length_px", pa.float64(), "Focal length that was reckoned with, in source pixels", "pixels"),
            Column("focal_length_from", pa.string(), "calibration, sensor, or 35 mm equivalent"),
            GEOREF,
        )

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        found: dict[str, Any] = dict.fromkeys(column.name for column in self.outputs())
        assumed: list[str] = []
        height = self._height(item, assumed)
        attitude = _attitude(item, assumed)
        camera = interior(item, _CAMERA)
        found["height_above_ground_m"] = height
        if not isinstance(camera, str):
            found |= {"focal_length_px": camera.focal_length, "focal_length_from": camera.source}
        if isinstance(camera, str) or height is None or height <= 0:
            missing = camera if isinstance(camera, str) else "no height" if height is None else "not above the ground"
            return found | {"footprint_note": missing}
        width, height_px = item["width_px"], item["height_px"]
        corners = [(0, 0), (0, height_px), (width, height_px), (width, 0)]  # counter-clockwise on the ground
        rays = _rays(camera, attitude)
        middle = (width / 2, height_px / 2)
        if self._above(rays, [middle]):
            return found | {"footprint_note": ABOVE}
        found["gsd_m"] = math.sqrt(_pixel_area(_on_ground(rays, height), middle))
        if self._above(rays, corners) or item["latitude"] is None or item["longitude"] is None:
            return found | {"footprint_note": ABOVE if self._above(rays, corners) else "no position"}
        note = "; ".join(assumed) or None
        crs, placed = _placed(item["longitude"], item["latitude"])
        georef = Georef(crs, placed @ _on_ground(rays, height), note)
        return found | {
            "footprint": georef.wkb([corners]),
            "footprint_approximate": note is not None,
            "footprint_note": note,
            "georef": georef,
        }

    def _height(self, item: Item, assumed: list[str]) -> float | None:
        """Metres above the ground."""
        if self.ground_altitude_m is not None and item["altitude_m"] is not None:
            return float(item["altitude_m"] - self.ground_altitude_m)
        for name, level in (("above_ground_m", "the ground beneath"), ("relative_altitude_m", "the take-off")):
            if item[name] is not None:
                assumed.append(f"terrain unknown: level with {level}")
                return float(item[name])
        return self.altitude_above_ground_m

    def _above(self, rays: Matrix, points: list[tuple[float, float]]) -> bool:
        """Whether one of the source pixels shows what is less than `least_depression_degrees` below the horizon."""
        seen = np.column_stack([np.asarray(points, np.float64), np.ones(len(points))]) @ rays.T
        below = seen[:, 2] / np.linalg.norm(seen, axis=1)
        return bool((below < math.sin(math.radians(self.least_depression_degrees))).any())


def _attitude(item: Item, assumed: list[str]) -> Attitude:
    yaw, pitch, roll = (item[f"camera_{axis}_degrees"] for axis in ("yaw", "pitch", "roll"))
    if yaw is None:
        yaw = item["image_direction_degrees"]
    if yaw is None:
        yaw = item["flight_yaw_degrees"]
    if yaw is None:
        assumed.append("yaw unknown: drawn with its top to the north")
    elif item["attitude_from"] == "sun sensor":
        assumed.append("yaw is the sun sensor's")
    if item["edited_with"] is not None:
        assumed.append(f"edited with {item['edited_with']}: it may have been turned")
    if pitch is None:
        assumed.append("tilt unknown: taken as straight down")
    return Attitude(yaw, pitch, roll)


def _rays(camera: Interior, attitude: Attitude) -> Matrix:
    """From homogeneous source pixels to directions in north, east, down."""
    focal = camera.focal_length
    in_camera = np.array(
        [[1 / focal, 0, -camera.center_x / focal], [0, 1 / focal, -camera.center_y / focal], [0, 0, 1]]
    )
    return np.asarray(attitude.rays() @ in_camera)


def _on_ground(rays: Matrix, height: float) -> Matrix:
    """From source pixels to metres east and north of the point beneath the camera: where rays meet level ground."""
    return np.array([height * rays[1], height * rays[0], rays[2]])


def _pixel_area(to_metres: Matrix, middle: tuple[float, float]) -> float:
    """Square metres of the source pixel around a point."""
    x, y = middle
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = map_points(
        to_metres, [(x - 0.5, y - 0.5), (x + 0.5, y - 0.5), (x + 0.5, y + 0.5), (x - 0.5, y + 0.5)]
    )
    return float(abs((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0)) / 2)


def _placed(longitude: float, latitude: float) -> tuple[str, Matrix]:
    """The UTM zone of a place (UPS near the poles), and the matrix from metres east and north of it to that CRS: its
    scale and its own north are part of it."""
    zone = min(int((longitude + 180) // 6) + 1, 60)
    crs = f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}" if -80 <= latitude <= 84 else ""
    crs = crs or ("EPSG:32661" if latitude > 0 else "EPSG:32761")
    step = 100.0  # metres
    east = geod().fwd(longitude, latitude, 90, step)
    north = geod().fwd(longitude, latitude, 0, step)
    x, y = transformer(WGS84, crs).transform([longitude, east[0], north[0]], [latitude, east[1], north[1]])
    columns = [((x[at] - x[0]) / step, (y[at] - y[0]) / step) for at in (1, 2)]
    (east_x, east_y), (north_x, north_y) = columns
    return crs, np.array([[east_x, north_x, x[0]], [east_y, north_y, y[0]], [0.0, 0.0, 1.0]])
