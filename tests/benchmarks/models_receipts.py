"""What OCR reads on receipts shrunk to half and enlarged again by each method; prints one JSON object.

    python -m tests.benchmarks.models_receipts [--receipts N] [--engine NAME]... [--model NAME=MODEL]... [--lines]
        [--set NAME]...

Receipts of SROIE, none of which anything was trained on, are shrunk by Pillow's BICUBIC and enlarged again. Word-F1 of
each engine on whole pages, and on the annotated lines cut out by their boxes: on whole pages it also tells where an
engine found columns and lines, and one page that it reads half outweighs the letters of many. Each is a mean over
receipts; its gain over bicubic is paired, with the 2.5th and 97.5th percentile of 20,000 bootstrap samples of the
receipts. `share_of_possible` is the gain by that of the receipts as they were before. One thread.

Most of these receipts are scanned so finely that half of it is enough to read them. So there are two sets:
`as scanned`, and `small print`, each receipt first reduced until the median of its annotated lines is 20 pixels high,
in which shrinking to half takes away what engines need.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before anything starts threads
os.environ["OMP_THREAD_LIMIT"] = "1"

import numpy as np
import numpy.typing as npt
from PIL import Image
from tests.benchmarks.machine import REPOSITORY, measured
from tests.benchmarks.models_super_res import Enlarge, enlarger
from tests.benchmarks.ocr_receipts import picture, reader, spread, word_f1, words
from tests.benchmarks.report import Bar, Options, Result

from swath.flows.train.superres_data import resampled
from swath.operators.core.base import Pixels
from swath.operators.core.geometry import resized
from swath.operators.documents.ocr import available_engines
from swath.operators.documents.rapid import Crop, RapidOcr
from swath.operators.documents.tesseract import Tesserocr

DATA = REPOSITORY / "../shared/data/receipts_sroie"
SETS: dict[str, int | None] = {"as scanned": None, "small print": 20}
"""Median height of lines, in pixels, to which receipts are reduced first."""
ENGINES = ("tesserocr", "rapidocr")
PLAIN, FULL = "bicubic", "as it was"
SAMPLES = 20_000
Read = Callable[[Pixels], str]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""


def receipts(options: Options) -> Result:
    """Word-F1 over bicubic, of whole pages and of lines, with its interval; a bar asks that the interval is above 0."""
    if not (DATA / "img").is_dir():
        return Result(skipped=f"there are no receipts in {DATA}")
    command = [sys.executable, "-m", "tests.benchmarks.models_receipts", "--receipts", "2" if options.quick else "60"]
    figures = json.loads(measured(command).output)
    bars = [
        Bar(f"{which}, {engine}, {unit}: word-F1 over bicubic, {name}", low, 0.0, "F1, low end of 95 %", least=True)
        for which, engines in figures.items()
        for engine, units in engines.items()
        for unit, methods in units.items()
        for name, one in methods.items()
        if name.startswith("swath:")
        for low in one["gain_95_percent"][:1]
    ]
    return Result(figures, bars)


@dataclass(frozen=True)
class Receipt:
    pixels: Pixels
    lines: list[tuple[Box, str]]

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self.lines)

    def reduced(self, height: int | None) -> Receipt:
        """Until its lines are so high, by the median; itself where they are not higher."""
        usual = float(np.median([bottom - top for (_, top, _, bottom), _ in self.lines]))
        if height is None or usual <= height:
            return self
        scale = height / usual
        size = round(self.pixels.shape[0] * scale), round(self.pixels.shape[1] * scale)
        lines = [(_box([round(side * scale) for side in (*box, *box)]), text) for box, text in self.lines]
        return Receipt(resized(self.pixels, size), lines)


def annotated(count: int) -> Iterator[Receipt]:
    for path in spread(DATA, count):
        rows = (DATA / "box" / f"{path.stem}.csv").read_text(encoding="utf-8", errors="replace").splitlines()
        cells = [row.split(",", 8) for row in rows if row.count(",") >= 8]
        yield Receipt(picture(path), [(_box([int(one) for one in row[:8]]), row[8]) for row in cells])


def _box(corners: list[int]) -> Box:
    return min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2])


def line_reader(engine: str) -> Read:
    """From the picture of one line to its words."""
    if engine == "tesserocr":
        tesseract = Tesserocr("eng", 7)  # one line
        return lambda pixels: " ".join(word.text for word in tesseract.read_line(pixels))
    rapid = RapidOcr()
    return lambda pixels: " ".join(word.text for word in rapid.recognise(Crop(pixels, np.zeros((4, 2)))))


def lines_f1(read: Read, pixels: Pixels, lines: Iterable[tuple[Box, str]]) -> float:
    """Word-F1 of a receipt whose lines are read one by one: words count where they stand in the right line."""
    right = total = 0
    for box, text in lines:
        line = _cut(pixels, box)
        expected, found = words(text), words(read(line)) if min(line.shape[:2]) > 4 else words("")
        right += 2 * (expected & found).total()
        total += expected.total() + found.total()
    return right / total if total else 1.0


def _cut(pixels: Pixels, box: Box) -> Pixels:
    """With an eighth of its height around it."""
    left, top, right, bottom = box
    more = max(2, (bottom - top) // 8)
    return pixels[max(0, top - more) : bottom + more, max(0, left - more) : right + more]


def compared(
    count: int, height: int | None, engines: Iterable[str], models: dict[str, str], pages: bool
) -> dict[str, Any]:
    def twice(small: Pixels) -> tuple[int, int]:
        return small.shape[0] * 2, small.shape[1] * 2

    methods: dict[str, Enlarge] = {
        PLAIN: lambda small: resampled(small, twice(small)),
        "lanczos": lambda small: resampled(small, twice(small), Image.Resampling.LANCZOS),
        **{name: enlarger(model, 2) for name, model in models.items()},
    }
    page, line = {one: reader(one) for one in engines if pages}, {one: line_reader(one) for one in engines}
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for receipt in (one.reduced(height) for one in annotated(count)):
        small = resampled(receipt.pixels, (receipt.pixels.shape[0] // 2, receipt.pixels.shape[1] // 2))
        for name in (FULL, *methods):
            shown = receipt.pixels if name == FULL else methods[name](small)
            for engine in line:
                units = found.setdefault(engine, {})
                if pages:
                    read = word_f1(receipt.text, page[engine](shown))
                    units.setdefault("pages", {}).setdefault(name, []).append(read)
                told = lines_f1(line[engine], shown, receipt.lines)
                units.setdefault("lines", {}).setdefault(name, []).append(told)
    return {
        engine: {unit: _beside_bicubic({name: np.array(f1) for name, f1 in by.items()}) for unit, by in units.items()}
        for engine, units in found.items()
    }


def _beside_bicubic(f1: dict[str, npt.NDArray[np.float64]]) -> dict[str, Any]:
    possible = float((f1[FULL] - f1[PLAIN]).mean())
    samples = np.random.default_rng(0).integers(0, len(f1[PLAIN]), (SAMPLES, len(f1[PLAIN])))
    table: dict[str, Any] = {}
    for name, values in f1.items():
        gains = values - f1[PLAIN]
        low, high = np.percentile(gains[samples].mean(axis=1), (2.5, 97.5))
        table[name] = {
            "word_f1": round(float(values.mean()), 4),
            "gain": round(float(gains.mean()), 4),
            "gain_95_percent": [round(float(low), 4), round(float(high), 4)],
            "share_of_possible": round(float(gains.mean()) / possible, 2) if possible > 0 else None,
            "better": int((gains > 1e-9).sum()),
            "worse": int((gains < -1e-9).sum()),
            "of": len(values),
        }
    return table


def main() -> None:
    here = [engine for engine in ENGINES if engine in available_engines("eng")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receipts", type=int, default=60)
    parser.add_argument("--engine", action="append", choices=here)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=MODEL", help="beside swath:super_res_x2")
    parser.add_argument("--lines", action="store_true", help="without the whole pages, which take most of the time")
    parser.add_argument("--set", action="append", choices=list(SETS))
    given = parser.parse_args()
    models = {"swath:super_res_x2": "swath:super_res_x2", **dict(one.split("=", 1) for one in given.model)}
    figures = {
        which: compared(given.receipts, SETS[which], given.engine or here, models, not given.lines)
        for which in given.set or SETS
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
