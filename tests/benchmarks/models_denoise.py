"""Denoising of photos it never saw, beside OpenCV's non-local means; prints one JSON object.

    python -m tests.benchmarks.models_denoise [--quick] [--repeat N] [--model MODEL]

To each photo Gaussian noise of a standard deviation of 15, 25 and 50 levels is added, another in every channel,
rounded and clipped to 0..255 as a file has it. PSNR over all three channels. Non-local means is OpenCV's
`fastNlMeansDenoisingColored` with its usual windows (7, 21) and, for each photo and strength, that of several `h`
with the best PSNR against the clean photo: more than a user could know. Ours is told nothing and finds the noise
itself (`blind`), or is told its strength (`told`). Held out are five photos of scikit-image, which no training
picture resembles, and, where shared data are, the middles of two drone photos of another camera and place. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before anything starts threads

import cv2
import numpy as np
from tests.benchmarks.machine import REPOSITORY, measured
from tests.benchmarks.report import Bar, Options, Result

from swath.flows.train.denoise import psnr, with_noise
from swath.operators.core.base import Pixels
from swath.operators.core.geometry import resized
from swath.operators.image.codec import Decode
from swath.operators.image.denoising import Denoise

DATA = REPOSITORY / "../shared/data"
SIGMAS = (15, 25, 50)
STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
"""Of non-local means: `h` and `hColor` by the noise's sigma."""
BAR = 1.0
"""dB over non-local means."""
Clean = Callable[[Pixels], Pixels]


def denoising(options: Options) -> Result:
    """PSNR at three strengths of noise, and milliseconds a megapixel, of ours and of OpenCV's non-local means."""
    command = [sys.executable, "-m", "tests.benchmarks.models_denoise", "--repeat", str(options.repeat)]
    figures = json.loads(measured([*command, *(["--quick"] if options.quick else [])]).output)
    bars = [
        Bar(f"sigma {sigma}: PSNR over non-local means", figures[f"sigma_{sigma}"]["gain_db"], BAR, "dB", least=True)
        for sigma in SIGMAS
        if f"sigma_{sigma}" in figures
    ]
    took = figures["milliseconds_per_megapixel"]
    bars.append(
        Bar("time a megapixel by that of non-local means", took["ours"] / took["non_local_means"], 1.0, "times")
    )
    return Result(figures, bars)


def photos() -> Iterator[tuple[str, Pixels]]:
    """Name and picture of each held-out photo."""
    import skimage.data

    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        yield name, getattr(skimage.data, name)()
    yield "motorcycle", skimage.data.stereo_motorcycle()[0]  # type: ignore[no-untyped-call]
    for file in sorted((DATA / "drone_brighton/images").glob("*.[jJ]*"))[:2]:
        pixels: Pixels = Decode().process({"bytes": file.read_bytes(), "page": None}, None)["pixels"]
        half = resized(pixels, (pixels.shape[0] // 2, pixels.shape[1] // 2))  # of its own noise and JPEG little is left
        top, left = ((side - 512) // 2 for side in half.shape[:2])
        yield file.stem, half[top : top + 512, left : left + 512]


def non_local_means(sigma: float) -> list[Clean]:
    def clean(strength: float) -> Clean:
        h = strength * sigma
        return lambda noisy: np.asarray(cv2.fastNlMeansDenoisingColored(noisy, None, h, h, 7, 21), np.uint8)

    return [clean(strength) for strength in STRENGTHS]


def compared(sigma: int, model: str, quick: bool) -> dict[str, Any]:
    """Mean PSNR of each method, and by photo how much ours is above the best non-local means."""
    blind, told = Denoise(model=model), Denoise(model=model, sigma=sigma)
    loaded = blind.load()
    found: dict[str, list[float]] = {"noisy": [], "non_local_means": [], "blind": [], "told": []}
    gains, estimates = {}, {}
    for index, (photo, clean) in enumerate(list(photos())[: 1 if quick else None]):
        noisy = with_noise(np.random.default_rng((sigma, index)), clean, sigma)
        theirs = max(psnr(method(noisy), clean) for method in non_local_means(sigma))
        answer = blind.process({"pixels": noisy}, loaded)
        ours = psnr(answer["pixels"], clean)
        found["noisy"].append(psnr(noisy, clean))
        found["non_local_means"].append(theirs)
        found["blind"].append(ours)
        found["told"].append(psnr(told.process({"pixels": noisy}, loaded)["pixels"], clean))
        gains[photo], estimates[photo] = round(ours - theirs, 2), round(answer["noise_sigma"], 1)
    means = {name: statistics.mean(values) for name, values in found.items()}
    return {
        "psnr_db": {name: round(value, 2) for name, value in means.items()},
        "gain_db": round(means["blind"] - means["non_local_means"], 2),
        "gain_db_by_photo": gains,
        "sigma_found_by_photo": estimates,
    }


def clean_ones(model: str) -> dict[str, Any]:
    """What becomes of photos without noise: the sigma found, and the PSNR where they are changed at all."""
    operator = Denoise(model=model)
    loaded = operator.load()
    said: dict[str, Any] = {}
    for photo, clean in photos():
        answer = operator.process({"pixels": clean}, loaded)
        kept = "unchanged" if not answer["denoised"] else f"PSNR {psnr(answer['pixels'], clean):.1f} dB"
        said[photo] = f"sigma {answer['noise_sigma']:.1f}: {kept}"
    return said


def speed(model: str, repeat: int) -> dict[str, float]:
    """CPU milliseconds a megapixel, the search for the noise included in ours: of each the least of several, taken in
    turns, as the machine may have other work."""
    noisy = with_noise(np.random.default_rng(0), next(photos())[1], 25)

    def ours(backend: Any) -> Callable[[], Any]:
        operator = Denoise(model=model, backend=backend)
        loaded = operator.load()
        return lambda: operator.process({"pixels": noisy}, loaded)

    theirs = non_local_means(25)[-2]
    methods = {"non_local_means": lambda: theirs(noisy), "ours": ours("auto"), "ours_float32": ours("torch")}
    taken = dict.fromkeys(methods, float("inf"))
    for _ in range(2 + 2 * repeat):
        for name, method in methods.items():
            started = time.process_time()
            method()
            taken[name] = min(taken[name], time.process_time() - started)
    return {name: round(1e9 * least / (noisy.shape[0] * noisy.shape[1])) for name, least in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.models_denoise")
    parser.add_argument("--quick", action="store_true", help="one photo, one strength")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model", default="swath:denoise")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    figures: dict[str, Any] = {
        f"sigma_{sigma}": compared(sigma, given.model, given.quick)
        for sigma in (SIGMAS[1:2] if given.quick else SIGMAS)
    }
    figures["milliseconds_per_megapixel"] = speed(given.model, given.repeat)
    if not given.quick:
        figures["without_noise"] = clean_ones(given.model)
    json.dump(figures, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
