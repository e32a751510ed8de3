"""Captures of multispectral cameras, drawn: one scene of known reflectance, seen by several cameras of a rig.

Everything is done the other way round than in the package: from reflectance to digital numbers, and, by OpenCV, from
the pixels of each camera to the scene.
"""

from __future__ import annotations

import base64
import io
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, TiffTags
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from swath.operators.survey.tags import Tags

Plane = npt.NDArray[np.float32]
HEIGHT, WIDTH = 288, 384
MARGIN = 60
SPECTRUM = {"blue": (0.04, 0.08), "green": (0.09, 0.15), "red": (0.05, 0.18), "red_edge": (0.30, 0.22),
            "nir": (0.48, 0.26)}  # fmt: skip
"""Reflectance of plants and of soil."""
_NAMESPACES = {
    "Camera": "http://pix4d.com/camera/1.0", "MicaSense": "http://micasense.com/MicaSense/1.0/",
    "DLS": "http://micasense.com/DLS/1.0/", "drone-dji": "http://www.dji.com/drone-dji/1.0/",
}  # fmt: skip


@cache
def scene(role: str, seed: int = 3) -> Plane:
    """Reflectance in one band, with a margin around what the reference sees."""
    random = np.random.default_rng(seed)
    shape = (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)
    height = np.zeros(shape, np.float32)
    for blur, share in ((4, 0.6), (9, 0.8), (25, 1.0)):
        noise = cv2.GaussianBlur(random.normal(size=shape).astype(np.float32), (0, 0), blur)
        height += share * noise / noise.std()
    plants = cv2.GaussianBlur((height > 0.2).astype(np.float32), (0, 0), 2.0)
    plant, soil = SPECTRUM[role]
    return np.asarray(soil + (plant - soil) * plants + 0.006 * height, np.float32)


@dataclass(frozen=True)
class Camera:
    """One camera of a rig."""

    role: str
    turned: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Degrees about x, y and z, from the reference."""
    focal_mm: float = 5.4
    per_mm: float = 75.0
    """Pixels a millimetre."""
    center_mm: tuple[float, float] = (2.5, 1.9)
    distortion: tuple[float, float, float, float, float] = (-0.09, 0.12, 0.0, 0.0002, -0.0003)
    """k1, k2, k3, p1, p2, as XMP has them."""

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        focal = self.focal_mm * self.per_mm
        x, y = (one * self.per_mm for one in self.center_mm)
        return np.array([[focal, 0, x], [0, focal, y], [0, 0, 1.0]])

    @property
    def brown(self) -> npt.NDArray[np.float64]:
        k1, k2, k3, p1, p2 = self.distortion
        return np.array([k1, k2, p1, p2, k3])

    @property
    def rotation(self) -> npt.NDArray[np.float64]:
        x, y, z = (cv2.Rodrigues(np.radians(axis))[0] for axis in np.diag(self.turned))
        return np.asarray(x @ y @ z)

    def rig_tags(self) -> dict[str, str]:
        return {
            "Camera:ModelType": "perspective",
            "Camera:PrincipalPoint": "{},{}".format(*self.center_mm),
            "Camera:PerspectiveFocalLength": str(self.focal_mm),
            "Camera:PerspectiveFocalLengthUnits": "mm",
            "Camera:PerspectiveDistortion": ",".join(map(str, self.distortion)),
            "Camera:RigRelatives": ",".join(map(str, self.turned)),
        }


def from_reference(camera: Camera, reference: Camera, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, 2) undistorted pixels of the reference as pixels of the camera's picture."""
    rays = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(reference.matrix).T
    rays = rays @ reference.rotation.T @ np.linalg.inv(camera.rotation).T
    seen, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera.matrix, camera.brown)
    return np.asarray(seen.reshape(-1, 2))


@cache
def seen_by(camera: Camera, reference: Camera) -> Plane:
    """Reflectance at each pixel of the camera's picture."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    pixels = np.column_stack([x.ravel(), y.ravel()])[:, None]
    rays = cv2.undistortPoints(pixels, camera.matrix, camera.brown, criteria=(3, 40, 1e-9)).reshape(-1, 2)
    rays = np.column_stack([rays, np.ones(len(rays))]) @ camera.rotation.T @ np.linalg.inv(reference.rotation).T
    places = rays @ reference.matrix.T
    places = (places[:, :2] / places[:, 2:] + MARGIN).astype(np.float32).reshape(HEIGHT, WIDTH, 2)
    return cv2.remap(scene(camera.role), places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def expected(role: str) -> Plane:
    """Reflectance at each undistorted pixel of the reference."""
    return scene(role)[MARGIN : MARGIN + HEIGHT, MARGIN : MARGIN + WIDTH]


def write(path: Path, numbers: npt.NDArray[Any], tags: Mapping[str, str], exif: Mapping[int, Any]) -> Path:
    """A 16-bit TIFF with its tags in XMP (arrays as `rdf:Seq`) and Exif."""
    header = ImageFileDirectory_v2()
    header[IFD.Exif] = {tag: value for tag, value in exif.items() if tag != BLACK_LEVEL}
    if BLACK_LEVEL in exif:
        header.tagtype[BLACK_LEVEL] = TiffTags.SHORT
        header[BLACK_LEVEL] = exif[BLACK_LEVEL]
    header.tagtype[700] = TiffTags.BYTE
    header[700] = packet(tags)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.rint(numbers), 0, 65535).astype(np.uint16)).save(path, "TIFF", tiffinfo=header)
    return path


def retag(path: Path, tags: Mapping[str, str]) -> None:
    """Adds properties to the XMP of a file, or changes them."""
    with Image.open(path) as image:
        numbers, header = np.asarray(image), dict(image.tag_v2)
    known = Tags(path.read_bytes())
    names = {vocabulary.lower(): vocabulary for vocabulary in _NAMESPACES}
    xmp = {f"{names[name.partition(':')[0]]}:{name.partition(':')[2]}": ",".join(value.replace(",", " ").split())
           for name, value in known.xmp.items()}  # fmt: skip
    exif = {tag: known.exif(tag) for tag in (Base.ExposureTime, Base.FocalPlaneXResolution, Base.FocalPlaneYResolution)}
    exif |= {Base.ISOSpeed: int(known.exif(Base.ISOSpeed) or 0), BLACK_LEVEL: header[BLACK_LEVEL]}
    write(path, numbers, xmp | dict(tags), exif)


def packet(tags: Mapping[str, str]) -> bytes:
    prefixes = " ".join(f'xmlns:{name}="{uri}"' for name, uri in _NAMESPACES.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {prefixes}>{"".join(map(_element, tags.items()))}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def _element(tag: tuple[str, str]) -> str:
    name, value = tag
    if name in ("MicaSense:RadiometricCalibration", "Camera:VignettingPolynomial", "Camera:VignettingCenter"):
        value = "<rdf:Seq>" + "".join(f"<rdf:li>{one}</rdf:li>" for one in value.split(",")) + "</rdf:Seq>"
    return f"<{name}>{value}</{name}>"


def radius(center: tuple[float, float]) -> npt.NDArray[np.float64]:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    return np.hypot(x - center[0], y - center[1])


RIG = (
    Camera("blue", (0.4, -0.6, 0.8)),
    Camera("green"),
    Camera("red", (-0.5, 0.3, -0.4), focal_mm=5.43, center_mm=(2.53, 1.88)),
    Camera("nir", (0.2, 0.7, 0.3), distortion=(-0.1, 0.14, 0.0, 0.0001, 0.0001)),
    Camera("red_edge", (-0.3, -0.4, -0.9), center_mm=(2.47, 1.93)),
)
"""Numbered as in a MicaSense; the second is the reference."""
GREEN = RIG[1]
BLACK_LEVEL = 50714


def micasense(
    folder: Path, number: int = 0, rig: bool = True, sun: bool = True, claimed: Mapping[str, str] | None = None
) -> list[Path]:
    """IMG_0000_1.tif to _5.tif; without the `rig`'s geometry, or without the `sun` sensor, if wanted; with other
    RigRelatives `claimed` for a role than are true."""
    paths = []
    for index, camera in enumerate(RIG, 1):
        irradiance, exposure, gain, a1, a2, a3 = 1.2 + 0.1 * index, 0.0008, 2.0, 8e-4, 1e-7, 2e-5
        polynomial = [2e-5 * index, -3e-6, 8e-9, 0.0, 0.0, 0.0]
        center = (190.0 + index, 140.0)
        radiance = seen_by(camera, GREEN) * irradiance / math.pi
        rows = np.arange(HEIGHT)[:, None]
        fading = np.polyval([*polynomial[::-1], 1], radius(center))
        share = radiance * fading * gain * (exposure + a2 * rows - a3 * exposure * rows) / a1
        tags = {
            "Camera:BandName": camera.role.replace("_", " ").capitalize() if camera.role != "nir" else "NIR",
            "Camera:CentralWavelength": {"blue": "475", "green": "560", "red": "668", "nir": "840"}.get(
                camera.role, "717"
            ),
            "MicaSense:RadiometricCalibration": f"{a1},{a2},{a3}",
            "Camera:VignettingCenter": "{},{}".format(*center),
            "Camera:VignettingPolynomial": ",".join(map(str, polynomial)),
            **(camera.rig_tags() if rig else {}),
        }
        if camera.role in (claimed or {}):
            tags["Camera:RigRelatives"] = (claimed or {})[camera.role]
        if sun:
            tags |= {"DLS:HorizontalIrradiance": f"{irradiance * 100}", "DLS:IrradianceScaleToSIUnits": "0.01"}
        exif = {Base.ExposureTime: exposure, Base.ISOSpeed: int(gain * 100), BLACK_LEVEL: (4800, 4800, 4800, 4800)}
        exif |= {Base.FocalPlaneXResolution: camera.per_mm, Base.FocalPlaneYResolution: camera.per_mm}
        paths.append(write(folder / f"IMG_{number:04}_{index}.tif", share * 65536 + 4800, tags, exif))
    return paths


def dji(folder: Path, number: int = 1, panel: float | None = None) -> list[Path]:
    """DJI_20230309024757_0001_MS_G.TIF and its like, of the scene or, lit otherwise, of a grey `panel`."""
    paths = []
    for letters, role, shift in (("G", "green", (0, 0)), ("R", "red", (7.3, -4.6)), ("NIR", "nir", (-9.1, 5.2))):
        irradiance, exposure, gain = (9000.0, 400, 1.5) if panel else (7000.0, 900, 1.0)
        factor = 3.1e-2  # what its maker does not tell
        homography = np.array([[1.002, 0.003, shift[0]], [-0.003, 1.001, shift[1]], [1e-6, -2e-6, 1]])
        if role == "green":
            homography = np.eye(3)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        plane = cv2.perspectiveTransform(np.dstack([x, y]), homography) + np.float32(MARGIN)
        light = cv2.remap(scene(role), plane, None, cv2.INTER_CUBIC) if panel is None else np.full(x.shape, panel)
        polynomial = [1e-5, 2e-6, 1e-9, 0.0, 0.0, 0.0]
        opened = np.polyval([*polynomial[::-1], 1], radius((192.0, 144.0)))
        share = light * irradiance * factor * gain * exposure / 1e6 / 1.1 / opened
        tags = {
            "drone-dji:BandName": {"green": "Green", "red": "Red", "nir": "NIR"}[role],
            "drone-dji:BlackLevel": "3200", "drone-dji:SensorGain": str(gain),
            "drone-dji:ExposureTime": str(exposure), "drone-dji:SensorGainAdjustment": "1.1",
            "drone-dji:Irradiance": str(irradiance), "drone-dji:VignettingData": ", ".join(map(str, polynomial)),
            "drone-dji:CalibratedOpticalCenterX": "192.0", "drone-dji:CalibratedOpticalCenterY": "144.0",
            "drone-dji:DewarpData": "2022-06-08;400,400,0,0,0,0,0,0,0",
            "drone-dji:CalibratedHMatrix": ",".join(map(str, homography.ravel())),
        }  # fmt: skip
        name = f"DJI_20230309024757_{number:04}_MS_{letters}.TIF"
        paths.append(write(folder / name, share * 65536 + 3200, tags, {}))
    return paths


def sequoia(folder: Path, panel: float | None = None) -> list[Path]:
    """IMG_180413_080658_0000_GRE.TIF and its like, of the scene or of a grey `panel`; without a camera model."""
    paths = []
    for letters, role, shift in (("GRE", "green", (0, 0)), ("RED", "red", (6.4, 3.7)), ("NIR", "nir", (-5.2, 8.8))):
        sun, gain, exposure, iso = (600, 2, 0.002, 100) if panel else (420, 1, 0.004, 200)
        a, b, c, stop, factor = 14.0, 4100.0, 0.3, 2.2, 2.7
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        place = np.dstack([x + shift[0], y + shift[1]]) + np.float32(MARGIN)
        light = cv2.remap(scene(role), place, None, cv2.INTER_CUBIC) if panel is None else np.full(x.shape, panel)
        fading = 0.8 + 0.6 * x / WIDTH - 0.6 * (x / WIDTH) ** 2
        numbers = (light * sun * factor * (a * exposure * iso + c) / stop**2 + b) * fading
        readings = [struct.pack("<QHHHHfff", at, sun * 8 ** (gain - 1), 5, gain, 100, 0, 0, 0) for at in (1, 2)]
        tags = {
            "Camera:BandName": {"green": "Green", "red": "Red", "nir": "NIR"}[role],
            "Camera:SensorModel": f"{a},{b},{c}",
            "Camera:VignettingPolynomial2DName": "0,0,1,0,2,0",
            "Camera:VignettingPolynomial2D": "0.8,0.6,-0.6",
            "Camera:IrradianceCalibrationMeasurement": "1,600,300,7,2,600,2400,60",
            "Camera:IrradianceList": base64.b64encode(b"".join(readings)).decode(),
        }
        exif = {Base.ExposureTime: exposure, Base.ISOSpeedRatings: iso, Base.FNumber: stop}
        paths.append(write(folder / f"IMG_180413_080658_0000_{letters}.TIF", numbers, tags, exif))
    return paths


def jpeg() -> bytes:
    """A picture of a colour camera that stands beside the bands."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 60)).save(buffer, "JPEG")
    return buffer.getvalue()
