"""Where a point of one camera of a rig is seen by another, by what their maker measured of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL.ExifTags import Base

from swath.operators.core.base import Matrix
from swath.operators.survey.tags import Tags

Map = npt.NDArray[np.float32]
"""(H, W) float32, a coordinate of every pixel."""
_INCH, _CENTIMETRE, _MICROMETRE = 2, 3, 5
_PER_MM = {_INCH: 1 / 25.4, _CENTIMETRE: 0.1, 4: 1.0, _MICROMETRE: 1000.0}
"""Exif FocalPlaneResolutionUnit to what resolutions are multiplied by, to be pixels a millimetre."""


@dataclass(frozen=True)
class Lens:
    """One camera of a rig; pixel coordinates are of their centres, as in OpenCV."""

    matrix: Matrix
    """From rays (x, y, 1) to undistorted pixels."""
    to_common: Matrix
    """From undistorted pixels to what all cameras of the rig share: a ray, or a plane; projective."""
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """k1, k2, p1, p2, k3 of Brown and Conrady, as OpenCV orders them."""
    fisheye: tuple[float, ...] | None = None
    """Pix4D's polynomial p0 to p3, then its affine matrix C, D, E, F; instead of the distortion."""

    def seen(self, x: Map, y: Map) -> tuple[Map, Map]:
        """From undistorted pixels to those of the picture."""
        focal_x, focal_y = np.float32(self.matrix[0, 0]), np.float32(self.matrix[1, 1])
        center_x, center_y = np.float32(self.matrix[0, 2]), np.float32(self.matrix[1, 2])
        x, y = (x - center_x) / focal_x, (y - center_y) / focal_y
        if self.fisheye is None:
            return self._brown(x, y)
        p0, p1, p2, p3, c, d, e, f = self.fisheye
        r = np.maximum(np.hypot(x, y), np.float32(1e-9))
        angle = np.arctan(r) * np.float32(2 / np.pi)
        stretch = (p0 + angle * (p1 + angle * (p2 + angle * p3))) / r
        across = (c * x + d * y) * stretch + center_x
        down = (e * x + f * y) * stretch + center_y
        return np.asarray(across, np.float32), np.asarray(down, np.float32)

    def _brown(self, x: Map, y: Map) -> tuple[Map, Map]:
        k1, k2, p1, p2, k3 = self.distortion
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        across = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        down = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return (
            np.asarray(self.matrix[0, 0] * across + self.matrix[0, 2], np.float32),
            np.asarray(self.matrix[1, 1] * down + self.matrix[1, 2], np.float32),
        )


def unknown(shape: tuple[int, ...], reference: Lens, reference_shape: tuple[int, ...]) -> Lens:
    """Of a camera of which nothing is known but that it sees what the reference sees, perhaps in other pixels."""
    x, y = reference_shape[1] / shape[1], reference_shape[0] / shape[0]
    larger = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1.0]])
    return Lens(np.eye(3), reference.to_common @ larger)


def lens_of(tags: Tags) -> Lens | None:
    """The lens by a file's XMP; None where it does not say enough."""
    return _dji(tags) or _of_rig(tags)


def _dji(tags: Tags) -> Lens | None:
    """DewarpData (date; fx, fy, cx, cy, k1, k2, p1, p2, k3; cx and cy from CalibratedOpticalCenter), then
    CalibratedHMatrix, from the undistorted picture to a plane that all bands share; on the P4 Multispectral,
    RelativeOpticalCenter, how far a band lies from NIR.

    Source: DJI, Mavic 3M Image Processing Guide, steps 2 and 3; P4 Multispectral Image Processing Guide, step 1.
    """
    center = [tags.number(f"drone-dji:CalibratedOpticalCenter{axis}") for axis in "XY"]
    if center[0] is None or center[1] is None:
        return None
    shift = [tags.number(f"drone-dji:RelativeOpticalCenter{axis}") for axis in "XY"]
    shared = tags.numbers("drone-dji:CalibratedHMatrix")
    if len(shared) == 9:
        to_common = np.array(shared).reshape(3, 3)
    elif shift[0] is not None and shift[1] is not None:
        to_common = np.array([[1.0, 0, -shift[0]], [0, 1.0, -shift[1]], [0, 0, 1.0]])
    else:
        return None
    if not np.isfinite(np.linalg.cond(to_common)):
        return None
    data = [one for one in (tags.text("drone-dji:DewarpData") or "").rpartition(";")[2].split(",") if one.strip()]
    focal = tags.number("drone-dji:CalibratedFocalLength") or 1.0
    fx, fy, cx, cy, *distortion = [float(one) for one in data] if len(data) == 9 else [focal, focal, *[0.0] * 7]
    matrix = np.array([[fx, 0, center[0] + cx], [0, fy, center[1] + cy], [0, 0, 1.0]])
    return Lens(matrix, to_common, tuple(distortion))


def _of_rig(tags: Tags) -> Lens | None:
    """MicaSense, Parrot Sequoia and all that write Pix4D's Camera tags: principal point and focal length in mm, their
    distortion, and RigRelatives, the degrees by which a camera is turned from the rig's reference: Rx Ry Rz.

    Source: github.com/micasense/imageprocessing (image.py); Pix4D, Specifications of EXIF and XMP tags.
    """
    point, turned = tags.numbers("camera:PrincipalPoint"), tags.numbers("camera:RigRelatives")
    focal = tags.number("camera:PerspectiveFocalLength") or tags.exif(Base.FocalLength)
    unit = tags.exif(Base.FocalPlaneResolutionUnit)
    per_mm = [tags.exif(tag) for tag in (Base.FocalPlaneXResolution, Base.FocalPlaneYResolution)]
    if len(point) != 2 or len(turned) != 3 or not focal or not per_mm[0] or not per_mm[1]:
        return None
    # MicaSense writes pixels a millimetre, and not always the unit
    x, y = (one * _PER_MM.get(int(unit or 4), 1.0) for one in per_mm if one)
    pixels = (tags.text("camera:PerspectiveFocalLengthUnits") or "mm").lower() != "mm"
    fx, fy = (focal, focal) if pixels else (focal * x, focal * y)
    matrix = np.array([[fx, 0, point[0] * x], [0, fy, point[1] * y], [0, 0, 1.0]])
    to_common = _rotation(turned) @ np.linalg.inv(matrix)
    curve, affine = tags.numbers("camera:FisheyePolynomial"), tags.numbers("camera:FisheyeAffineMatrix")
    if (tags.text("camera:ModelType") or "").lower() == "fisheye" and len(curve) == len(affine) == 4:
        return Lens(matrix, to_common, fisheye=(*curve, *affine))
    distortion = tags.numbers("camera:PerspectiveDistortion")
    if len(distortion) == 5:
        k1, k2, k3, p1, p2 = distortion
        return Lens(matrix, to_common, (k1, k2, p1, p2, k3))
    return Lens(matrix, to_common)


def _rotation(degrees: list[float]) -> Matrix:
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    around_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    around_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    around_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(around_x @ around_y @ around_z)


def maps(lens: Lens, reference: Lens, shape: tuple[int, ...], correction: Matrix | None = None) -> tuple[Map, Map]:
    """For every pixel of the undistorted reference, (H, W), where it is in the picture of the lens (x, y).

    `correction` leads from the reference's pixels to where they would have to lie for the lens to be right.
    """
    to_lens = np.linalg.inv(lens.to_common) @ reference.to_common @ (np.eye(3) if correction is None else correction)
    x, y = np.meshgrid(np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32))
    rows = (to_lens / to_lens[2, 2]).astype(np.float32)
    below = rows[2, 0] * x + rows[2, 1] * y + rows[2, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        across = (rows[0, 0] * x + rows[0, 1] * y + rows[0, 2]) / below
        down = (rows[1, 0] * x + rows[1, 1] * y + rows[1, 2]) / below
    return lens.seen(across, down)
