"""Super-resolution on photos it never saw; prints one JSON object. Receipts: `models_receipts.py`.

    python -m tests.benchmarks.models_super_res [--quick] [--weights FOLDER]

Photos are shrunk by Pillow's BICUBIC (antialiased, a = -1/2, as MATLAB's imresize; OpenCV's is not antialiased) and
enlarged again; PSNR and SSIM are scikit-image's, on Y of BT.601 (MATLAB's rgb2ycbcr), without a border of `scale`
pixels; SSIM with the Gaussian window of Wang et al. 2004. Held out are four photos of scikit-image, one of Pillow's
tests, the middles of two drone photos of another camera, and a flight of NAIP of another year. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before anything starts threads
os.environ["OMP_THREAD_LIMIT"] = "1"

from PIL import Image
from tests.benchmarks.machine import REPOSITORY, measured
from tests.benchmarks.report import Bar, Options, Result

from swath.flows.train.superres import luma
from swath.flows.train.superres_data import resampled
from swath.operators.core.base import Pixels
from swath.operators.image.codec import Decode
from swath.operators.image.super_resolution import SuperResolve
from swath.operators.models.reference import SHIPPED

DATA = REPOSITORY / "../shared/data"
BARS = {2: 2.0, 4: 1.0}
"""dB over bicubic."""
Enlarge = Callable[[Pixels], Pixels]


def super_resolution(options: Options) -> Result:
    """PSNR and SSIM on Y, megapixels a second."""
    command = [sys.executable, "-m", "tests.benchmarks.models_super_res"]
    figures = json.loads(measured([*command, *(["--quick"] if options.quick else [])]).output)
    bars = [
        Bar(f"x{scale}: PSNR on Y over bicubic", figures[f"x{scale}"]["gain_db"], wanted, "dB", least=True)
        for scale, wanted in BARS.items()
    ]
    return Result(figures, bars)


def photos() -> Iterator[tuple[str, Pixels]]:
    """Name and picture of each held-out photo."""
    import skimage.data

    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        yield name, getattr(skimage.data, name)()
    files = [DATA / "torture_pillow/flower.webp", *sorted((DATA / "drone_brighton/images").glob("*.[jJ]*"))[:2]]
    files += sorted((DATA / "geotiff/naip").glob("*_2017*.tif"))
    for file in (file for file in files if file.exists()):
        pixels: Pixels = Decode().process({"bytes": file.read_bytes(), "page": None}, None)["pixels"]
        yield file.stem, middle(pixels, 768)


def middle(pixels: Pixels, side: int) -> Pixels:
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def enlarger(model: str, scale: int) -> Enlarge:
    """From a picture to the enlarged one; loaded."""
    operator = SuperResolve.model_validate({"model": model, "scale": scale})
    loaded = operator.load()
    return lambda pixels: operator.enlarged(pixels, loaded)


def compared(scale: int, model: str, quick: bool) -> dict[str, Any]:
    """Of each method the mean PSNR and SSIM, and PSNR by photo; and how fast ours is."""
    ours = enlarger(model, scale)
    methods: dict[str, Enlarge] = {
        "bicubic": lambda small: resampled(small, _times(small, scale)),
        "lanczos": lambda small: resampled(small, _times(small, scale), Image.Resampling.LANCZOS),
        "ours": ours,
    }
    psnr, ssim = ({name: {} for name in methods} for _ in range(2))  # type: tuple[dict[str, dict[str, float]], ...]
    for photo, picture in list(photos())[: 1 if quick else None]:
        height, width = (side // scale for side in picture.shape[:2])
        sharp = picture[: height * scale, : width * scale]
        small = resampled(sharp, (height, width))
        for name, method in methods.items():
            psnr[name][photo], ssim[name][photo] = figures_of(method(small), sharp, scale)
    means = {name: statistics.mean(values.values()) for name, values in psnr.items()}
    return {
        "psnr_y_db": {name: round(value, 2) for name, value in means.items()},
        "ssim_y": {name: round(statistics.mean(values.values()), 4) for name, values in ssim.items()},
        "gain_db": round(means["ours"] - means["bicubic"], 2),
        "gain_db_over_lanczos": round(means["ours"] - means["lanczos"], 2),
        "gain_db_by_photo": {photo: round(psnr["ours"][photo] - value, 2) for photo, value in psnr["bicubic"].items()},
        "psnr_y_db_by_photo": {photo: round(value, 2) for photo, value in psnr["ours"].items()},
        "megapixels_out_per_core_second": round(speed(ours, scale), 2),
    }


def figures_of(enlarged: Pixels, sharp: Pixels, scale: int) -> tuple[float, float]:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    ours, truth = (luma(one)[scale:-scale, scale:-scale] for one in (enlarged, sharp))
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    psnr = peak_signal_noise_ratio(truth, ours, data_range=255)  # type: ignore[no-untyped-call]
    ssim = structural_similarity(truth, ours, data_range=255, **window)  # type: ignore[no-untyped-call]
    return float(psnr), float(ssim)


def speed(enlarge: Enlarge, scale: int) -> float:
    """Megapixels made in a second of CPU time, by one thread."""
    small = middle(next(photos())[1], 512)
    enlarge(small)
    started = time.process_time()
    for _ in range(3):
        enlarge(small)
    return 3 * small.shape[0] * small.shape[1] * scale**2 / 1e6 / (time.process_time() - started)


def _times(small: Pixels, scale: int) -> tuple[int, int]:
    return small.shape[0] * scale, small.shape[1] * scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one photo")
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="a folder with other weights of the same names")
    given = parser.parse_args()

    def named(name: str) -> str:
        return f"swath:{name}" if given.weights == SHIPPED else str(given.weights / f"{name}.safetensors")

    figures: dict[str, Any] = {
        f"x{scale}": compared(scale, named(f"super_res_x{scale}"), given.quick) for scale in BARS
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
