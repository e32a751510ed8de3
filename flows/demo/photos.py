"""Photo-like scenes: landscapes, towns, still lifes and surfaces, drawn from noise and shapes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from swath.flows.demo.files import broken, encode, write
from swath.operators.core.base import Pixels
from swath.schemas.items import Reason

Plane = npt.NDArray[np.float32]
"""(H, W) float32 in 0 to 1, or (H, W, 3) where it says so."""

BROKEN = (Reason.TRUNCATED, Reason.CORRUPT, Reason.TOO_LARGE, Reason.UNSUPPORTED)
ORIENTATION = 0x0112


def fractal(rng: np.random.Generator, width: int, height: int, coarsest: int = 4) -> Plane:
    """Smooth noise, (H, W) in 0 to 1: octaves from `coarsest` cells across to single pixels, each half as strong."""
    total = np.zeros((height, width), np.float32)
    cells, strength = max(1, min(coarsest, width // 2)), 1.0
    while cells < max(width, height):
        coarse = rng.standard_normal((max(2, cells * height // width), cells), dtype=np.float32)
        smooth = cv2.INTER_CUBIC if cells < 32 else cv2.INTER_LINEAR
        total += strength * cv2.resize(coarse, (width, height), interpolation=smooth)
        cells, strength = cells * 2, strength / 2
    total -= total.min()
    return np.asarray(total / max(total.max(), 1e-6), np.float32)


def draw_photo(rng: np.random.Generator, size: tuple[int, int], kind: str | None = None) -> Pixels:
    """A scene of `size` (width, height) pixels: (H, W, 3) uint8, sRGB. `kind` is one of SCENES; None picks one."""
    width, height = size
    scene = SCENES[kind or list(SCENES)[rng.integers(len(SCENES))]](rng, width, height)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * 0.012
    return np.asarray(np.clip((scene + grain) * 255, 0, 255), np.uint8)


def draw_photos(destination: Path, count: int, size: tuple[int, int] = (500, 375), seed: int = 7) -> list[Path]:
    """Fast JPEGs for benchmarks: `count` distinct files of `size` (width, height), as noisy to a codec as photos are.

    A longer draw with the same seed begins with the files of a shorter one.
    """
    width, height = size
    rng = np.random.default_rng(seed)
    scenes = [draw_photo(rng, (800, 600), kind)[..., ::-1] for kind in SCENES for _ in range(2)]  # OpenCV wants BGR
    grain = np.clip(rng.standard_normal((height, width, 3)) * 6 + 16, 0, 32).astype(np.uint8)
    paths = [destination / f"photo_{index:06}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        rng = np.random.default_rng([seed, index])
        scale = rng.uniform(0.7, 1)
        w, h = int(800 * scale), int(600 * scale)
        x, y = rng.integers(800 - w + 1), rng.integers(600 - h + 1)
        crop = scenes[rng.integers(len(scenes))][y : y + h, x : x + w]
        picture = cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR)
        picture = cv2.convertScaleAbs(picture, alpha=rng.uniform(0.75, 1.15), beta=-8)
        picture = cv2.add(picture, np.roll(grain, int(rng.integers(height)), axis=0))
        _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
        write(path, content.tobytes())
    return paths


def draw_folder(folder: Path, seed: int) -> dict[str, Any]:
    """The demo's photos: every format and colour mode that is read, bad exposures, and broken files.

    Returns `files`, `items` and `rejects` (path in the folder to reason).
    """
    rng = np.random.default_rng([seed, 3])
    contents = _good(rng)
    rejects = {}
    for reason in BROKEN:
        name = f"broken_{reason}.{'png' if reason is Reason.TOO_LARGE else 'jpg'}"
        contents[name] = broken(reason, rng, encode(draw_photo(rng, (800, 600))))
        rejects[name] = str(reason)
    for name, content in contents.items():
        write(folder / name, content)
    return {"files": len(contents), "items": len(contents), "rejects": rejects}


def _good(rng: np.random.Generator) -> dict[str, bytes]:
    def scene(kind: str, width: int = 800, height: int = 600) -> Pixels:
        return draw_photo(rng, (width, height), kind)

    files = {f"{kind}_{number}.jpg": encode(scene(kind)) for kind in SCENES for number in (1, 2)}
    files["large.jpg"] = encode(scene("landscape", 1600, 1200))
    files["too_dark.jpg"] = encode(cv2.convertScaleAbs(scene("town"), alpha=0.06))
    files["too_bright.jpg"] = encode(cv2.convertScaleAbs(scene("surface"), alpha=1.3, beta=90))
    files["too_blurred.jpg"] = encode(cv2.GaussianBlur(scene("still_life"), (0, 0), 12))
    files["too_small.png"] = encode(scene("landscape", 40, 30), "PNG")

    portrait = Image.Exif()
    portrait[ORIENTATION] = 6  # to be turned a quarter clockwise for display
    upright = scene("still_life", 600, 800)
    files["orientation_6.jpg"] = encode(np.ascontiguousarray(np.rot90(upright)), exif=portrait)

    files["cmyk.jpg"] = encode(Image.fromarray(scene("landscape")).convert("CMYK"))
    files["grey.jpg"] = encode(Image.fromarray(scene("town")).convert("L"))
    files["lossless.webp"] = encode(scene("surface", 400, 300), "WEBP", lossless=True)
    files["alpha.png"] = encode(_with_alpha(scene("still_life", 400, 300)), "PNG")
    files["palette.gif"] = encode(Image.fromarray(scene("town", 400, 300)).quantize(64), "GIF")
    files["plain.bmp"] = encode(scene("landscape", 400, 300), "BMP")
    files["sixteen_bit.tif"] = _tiff_16(scene("surface", 400, 300))
    return files


def _with_alpha(picture: Pixels) -> Image.Image:
    """The picture with an alpha channel that fades to transparent at the right."""
    image = Image.fromarray(picture)
    image.putalpha(Image.linear_gradient("L").rotate(90).resize(image.size))
    return image


def _tiff_16(picture: Pixels) -> bytes:
    import tifffile

    stream = io.BytesIO()
    tifffile.imwrite(stream, picture.astype(np.uint16) * 257, photometric="rgb", metadata=None)
    return stream.getvalue()


def _blend(low: tuple[float, ...], high: tuple[float, ...], share: Plane) -> Plane:
    """(H, W, 3): `low` where share is 0, `high` where it is 1."""
    share = share[..., None]
    return np.asarray(np.array(low, np.float32) * (1 - share) + np.array(high, np.float32) * share, np.float32)


def _landscape(rng: np.random.Generator, width: int, height: int) -> Plane:
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    clouds = fractal(rng, width, height) ** 2
    picture = _blend((0.25, 0.45, 0.8), (0.8, 0.85, 0.9), np.clip(rows * 0.8 + clouds * 0.6, 0, 1))
    for ridge in range(4):  # from the far, pale hills to the near, green ones
        profile = fractal(rng, width, height, 3)[0] * 0.22 + 0.3 + 0.13 * ridge
        near = ridge / 3
        colour = np.array((0.45, 0.5, 0.6), np.float32) * (1 - near) + np.array((0.2, 0.35, 0.1), np.float32) * near
        texture = 0.5 + fractal(rng, width, height, 12 + 20 * ridge) * (0.4 + 0.6 * near)
        picture = np.where((rows > profile)[..., None], colour * texture[..., None], picture)
    return np.asarray(picture, np.float32)


def _town(rng: np.random.Generator, width: int, height: int) -> Plane:
    sky = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    picture = np.ascontiguousarray(_blend((0.35, 0.5, 0.75), (0.9, 0.85, 0.8), sky))
    left = 0
    while left < width:
        wide, tall = 1 + int(width * rng.uniform(0.1, 0.22)), int(height * rng.uniform(0.35, 0.85))
        right, top = left + wide, height - tall
        wall = rng.uniform(0.3, 0.8, 3)
        cv2.rectangle(picture, (left, top), (right, height), wall.tolist(), -1)
        step = max(4, width // 40)
        for x in range(left + step // 2, right - step // 2, step):
            for y in range(top + step // 2, height - step, step * 3 // 2):
                lit = (1.0, 0.9, 0.6) if rng.random() < 0.3 else (wall * 0.35).tolist()
                cv2.rectangle(picture, (x, y), (x + step // 2, y + step * 4 // 5), lit, -1)
        left = right
    return np.asarray(picture * (0.8 + 0.25 * fractal(rng, width, height, 24)[..., None]), np.float32)


def _still_life(rng: np.random.Generator, width: int, height: int) -> Plane:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wood = np.sin(y / height * 60 + fractal(rng, width, height, 3) * 25) * 0.5 + 0.5
    picture = _blend((0.3, 0.2, 0.12), (0.55, 0.4, 0.25), wood * (0.6 + 0.4 * fractal(rng, width, height, 40)))
    for _ in range(rng.integers(3, 7)):
        radius = min(width, height) * rng.uniform(0.08, 0.2)
        centre_x, centre_y = width * rng.uniform(0.15, 0.85), height * rng.uniform(0.2, 0.85)
        shadow = np.hypot(x - centre_x - radius * 0.3, (y - centre_y - radius * 0.5) * 1.5) / radius
        picture *= np.clip(shadow, 0.45, 1)[..., None]
        dx, dy = (x - centre_x) / radius, (y - centre_y) / radius
        depth = np.sqrt(np.clip(1 - dx**2 - dy**2, 0, 1))  # of the sphere's surface, for Lambert's shading
        light = np.clip(-0.5 * dx - 0.6 * dy + 0.62 * depth, 0.08, 1)
        skin = rng.uniform(0.2, 1, 3).astype(np.float32) * (0.8 + 0.3 * fractal(rng, width, height, 30))[..., None]
        picture = np.where((depth > 0)[..., None], skin * light[..., None] + (light[..., None] > 0.97) * 0.4, picture)
    return np.asarray(picture, np.float32)


def _surface(rng: np.random.Generator, width: int, height: int) -> Plane:
    low, high = rng.uniform(0.1, 0.5, 3), rng.uniform(0.5, 0.95, 3)
    stones = np.abs(fractal(rng, width, height, 8) - fractal(rng, width, height, 8)) * 3
    return _blend(tuple(low), tuple(high), np.clip(stones * 0.7 + fractal(rng, width, height, 64) * 0.4, 0, 1))


SCENES: dict[str, Callable[[np.random.Generator, int, int], Plane]] = {
    "landscape": _landscape,
    "town": _town,
    "still_life": _still_life,
    "surface": _surface,
}
"""Scenes by name: from generator, width and height to (H, W, 3) sRGB."""
