"""`swath:image_kind` on real pictures that it never saw: confusion, accuracy, and how honest its scores are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage
from PIL import Image
from tests.benchmarks.machine import REPOSITORY
from tests.benchmarks.report import Bar, Options, Result, say

from swath.operators.core.base import Pixels
from swath.operators.image.image_kind import ImageKind

DATA = REPOSITORY.parent / "shared" / "data"
WHEEL = Path(skimage.__file__).parent / "data"
PILLOW = DATA / "torture_pillow"
REAL: dict[str, tuple[tuple[Path, str], ...]] = {
    "document": (
        (DATA / "receipts_sroie", "**/*.jpg"),
        (DATA / "ocr_pages" / "tesseract", "*.*"),
        (DATA / "ocr_pages" / "ocrmypdf", "[lst]*.*"),
        (DATA / "ocr_pages" / "invoices", "*.p*"),
    ),
    "photo": (
        (DATA / "models" / "onnx", "FastestDet.sample.jpg"),
        (DATA / "plant_masks", "[bf]*.jpg"),
        (DATA / "plant_masks", "ml_train__images*.png"),
        (DATA / "plant_masks", "*rgb.png"),
        (DATA / "geotiff" / "rio_tiler", "no_geo2.jpg"),
        *((WHEEL, name) for name in ("chelsea.png", "coffee.png", "motorcycle_left.png")),
        *((PILLOW, name) for name in ("hopper.webp", "hopper_gray.jpg", "flower.webp", "flower2.webp")),
        *((PILLOW, name) for name in ("sugarshack.mpo", "frozenpond.mpo", "exif-72dpi-int.jpg", "exif_typeerror.jpg")),
    ),
    "aerial": (
        (DATA / "drone_brighton", "**/*.JPG"),
        (DATA / "geotiff" / "landsat", "*.tif"),
        (DATA / "geotiff" / "rio_tiler", "pix4d_alpha_nodata.tif"),
        (DATA / "tree_boxes", "*.png"),
        (DATA / "tree_boxes", "*.JPG"),
        (DATA / "tree_boxes", "*.tif"),
        (DATA / "seg_buildings_rgbnir", "sample_geotiff.tif"),
        (DATA / "seg_buildings_rgbnir", "ms1.tif"),
    ),
    "drawing": (
        (DATA / "plant_masks", "*_mask*.png"),
        (DATA / "plant_masks", "FLUO_TV_MASK.png"),
        (DATA / "seg_buildings_rgbnir", "mask_from_geojson.png"),
        (WHEEL, "logo.png"),
        (WHEEL, "horse.png"),
        *((PILLOW, name) for name in ("pil_sample_rgb.jpg", "test-card-lossless.jp2")),
    ),
}
"""Where real pictures of each kind are; none of them, and nothing by their makers, was learned from."""


def kind(options: Options) -> Result:
    """Accuracy by kind, calibration error, and pictures a second on one thread."""
    operator = ImageKind().settled()
    network = operator.load()
    names = network.names or ()
    matrix = {truth: dict.fromkeys(names, 0) for truth in REAL}
    wrong: list[str] = []
    sure: list[tuple[float, bool]] = []
    for truth in REAL:
        for path, pixels in _pictures(truth):
            (found,), (score,) = operator.run({"prepared": [operator.prepare({"pixels": pixels})]}, network).values()
            matrix[truth][found] += 1
            sure.append((score, found == truth))
            if found != truth:
                wrong.append(f"{path.name}: {truth} taken for {found} ({score:.2f})")
    if not sure:
        return Result(skipped=f"{DATA} has no pictures")
    for one in wrong:
        say(one)
    accuracy = {truth: row[truth] / sum(row.values()) for truth, row in matrix.items() if sum(row.values())}
    figures = {
        "confusion": matrix,
        "accuracy": {truth: round(value, 4) for truth, value in accuracy.items()},
        "accuracy_of_all": round(sum(right for _, right in sure) / len(sure), 4),
        "calibration_error": round(_calibration_error(sure), 4),
        "pictures_per_second": round(_speed(operator, network, 2 if options.quick else 20), 1),
        "wrong": wrong,
    }
    return Result(
        figures, [Bar(f"accuracy {name}", value, 0.9, "share", least=True) for name, value in accuracy.items()]
    )


def _pictures(truth: str) -> Iterator[tuple[Path, Pixels]]:
    for folder, pattern in REAL[truth]:
        for path in sorted(folder.glob(pattern)):
            pixels = _read(path)
            if pixels is not None:
                yield path, pixels


def _read(path: Path) -> Pixels | None:
    if path.suffix == ".pdf":
        import pypdfium2

        return np.asarray(pypdfium2.PdfDocument(path)[0].render(scale=1.5).to_pil().convert("RGB"))
    if path.suffix == ".tif" and "ocr_pages" not in path.parts:
        return _raster(path)
    if path.suffix in (".mpo", ".jp2"):
        return np.asarray(Image.open(path).convert("RGB"))
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if pixels is None else np.asarray(pixels[..., ::-1], np.uint8)


def _raster(path: Path) -> Pixels:
    """Its first bands as an analyst would show them: the darkest and lightest 2 % cut off."""
    import rasterio

    with rasterio.open(path) as raster:
        bands = raster.read(list(range(1, 4)) if raster.count >= 3 else [1, 1, 1]).astype(np.float32)
    low, high = np.percentile(bands, 2, (1, 2)), np.percentile(bands, 98, (1, 2))
    scaled = (bands - low[:, None, None]) / np.maximum(high - low, 1e-6)[:, None, None]
    return np.ascontiguousarray(np.moveaxis(np.clip(scaled * 255, 0, 255).astype(np.uint8), 0, -1))


def _calibration_error(sure: list[tuple[float, bool]]) -> float:
    """Expected calibration error over ten bins (Guo et al. 2017)."""
    scores, right = np.array([score for score, _ in sure]), np.array([one for _, one in sure])
    bins = np.minimum((scores * 10).astype(int), 9)
    gaps = (abs(scores[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist()))
    return float(sum(gaps))


def _speed(operator: ImageKind, network: Any, turns: int) -> float:
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    operator.run({"prepared": [operator.prepare({"pixels": pixels})]}, network)
    started = time.process_time()
    for _ in range(turns):
        operator.run({"prepared": [operator.prepare({"pixels": pixels}) for _ in range(16)]}, network)
    return 16 * turns / (time.process_time() - started)
