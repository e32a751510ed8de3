"""Where a camera looks: yaw, pitch and roll as rotations of a camera that looks straight down."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from swath.operators.core.base import Matrix


class Attitude(NamedTuple):
    """Of a camera, in degrees: Rz(yaw) Ry(pitch + 90) Rx(roll) in north, east, down turns one that looks down, with the
    top of its picture to the north, into it. None where nobody says."""

    yaw: float | None
    """Where the top of the picture of a camera that looks down points, clockwise from north."""
    pitch: float | None
    """-90 straight down, 0 the horizon."""
    roll: float | None
    """Positive where the picture's right is lower than its left."""

    def rays(self) -> Matrix:
        """From camera coordinates (right, down in the picture, along the axis) to north, east, down."""
        turned = rotation(self.yaw or 0, (-90 if self.pitch is None else self.pitch) + 90, self.roll or 0)
        looking_down = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        return np.asarray(turned @ looking_down)


def of_gimbal(yaw: float | None, pitch: float, roll: float | None) -> Attitude:
    """From the angles of a gimbal, Rz(yaw) Ry(pitch) Rx(roll) of a camera that looks ahead to the horizon.

    Without roll they are the same numbers. A gimbal near straight down may call half a turn of yaw one of roll.
    """
    if not roll:
        return Attitude(yaw, pitch, roll)
    turned = rotation(yaw or 0, pitch, roll) @ rotation(0, 90, 0)
    tilt = math.degrees(math.asin(np.clip(-turned[2, 0], -1, 1)))
    across = math.degrees(math.atan2(turned[2, 1], turned[2, 2]))
    heading = math.degrees(math.atan2(turned[1, 0], turned[0, 0]))
    return Attitude(None if yaw is None else heading, tilt - 90, across)


def rotation(yaw: float, pitch: float, roll: float) -> Matrix:
    """Rz(yaw) Ry(pitch) Rx(roll), angles in degrees; right-handed in north, east, down."""
    (cz, sz), (cy, sy), (cx, sx) = (
        (math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in (yaw, pitch, roll)
    )
    about_z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    return np.asarray(about_z @ about_y @ about_x)
