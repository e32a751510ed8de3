"""Word-F1, character error rate and pages a second of every OCR engine, one thread each; prints one JSON object.

    python -m tests.benchmarks.ocr [--data FOLDER] [--pages N] [--engine NAME]... [--per-page]

FOLDER is `../shared/data`: `receipts_sroie` (img/NNN.jpg and box/NNN.csv: x1,y1,...,x4,y4,transcript a line, as SROIE
of ICDAR 2019 has them) and `ocr_pages` (PDFs, whose own text is the truth of their pages at 200 dpi, and
tesseract/phototest.tif). Engines take turns page by page. F1 is over bags of words, case-folded, NFKC, split at
everything that is no letter or digit; CER is the edit distance of case-folded texts, runs of white space as one
space, by the truth's length, so that it also counts another reading order. Both are means over pages.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before anything starts threads
os.environ["OMP_THREAD_LIMIT"] = "1"

import cv2
import numpy as np
from rapidfuzz.distance import Levenshtein

from swath.operators.core.base import Pixels
from swath.operators.core.geometry import IDENTITY
from swath.operators.documents.ocr import Ocr, available_engines
from swath.operators.documents.tesseract import tessdata_dir
from swath.operators.documents.text_layer import read_text_layer
from swath.operators.image.codec import Decode

DATA = Path(__file__).parents[2] / "../shared/data"
LOOP = "pytesseract_loop"
"""What people write without us: `pytesseract.image_to_string` on the page as it is, with the same segmentation mode."""


def words(text: str) -> Counter[str]:
    """The bag of words of a text, normalised."""
    return Counter(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold()))


def word_f1(truth: str, read: str) -> float:
    """0 to 1; 1 where both are empty."""
    expected, found = words(truth), words(read)
    total = expected.total() + found.total()
    return 2 * (expected & found).total() / total if total else 1.0


def character_error_rate(truth: str, read: str) -> float:
    """0 where they are the same; above 1 where more was read than there is."""
    expected, found = (" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in (truth, read))
    return Levenshtein.distance(expected, found) / max(len(expected), 1)


def transcript(box_file: Path) -> str:
    """The lines of one SROIE annotation file."""
    rows = box_file.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(row.split(",", 8)[8] for row in rows if row.count(",") >= 8)


@dataclass(frozen=True)
class Page:
    name: str
    pixels: Pixels
    truth: str


def receipts(folder: Path, count: int) -> Iterator[Page]:
    for path in spread(folder, count):
        yield Page(path.stem, picture(path), transcript(folder / "box" / f"{path.stem}.csv"))


def spread(folder: Path, count: int) -> list[Path]:
    """`count` pictures of receipts, evenly spread over the folder."""
    images = sorted((folder / "img").glob("*.jpg"))
    return images[:: max(1, len(images) // count)][:count]


def printed(folder: Path, count: int) -> Iterator[Page]:
    """The first pages of PDFs that carry their own text, and the page of which Tesseract's project has the text."""
    for path in sorted(folder.rglob("*.pdf"))[:count]:
        content = path.read_bytes()
        page = Decode().process({"bytes": content, "page": 1}, None)
        layer = read_text_layer(content, 1, page["width_px"], page["height_px"])
        if layer:
            told = "\n".join(" ".join(word.text for word in line) for line in layer.lines)
            yield Page(path.stem, page["pixels"], told)
    phototest = folder / "tesseract/phototest.tif"
    if phototest.exists():
        yield Page("phototest", picture(phototest), phototest.with_suffix(".gold.txt").read_text())


def picture(path: Path) -> Pixels:
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def reader(engine: str) -> Callable[[Pixels], str]:
    """From pixels to text; loaded, and run once."""
    if engine == LOOP:
        import pytesseract
        from PIL import Image

        options = f"--psm 4 --tessdata-dir {tessdata_dir('eng')}"

        def read(pixels: Pixels) -> str:
            return str(pytesseract.image_to_string(Image.fromarray(pixels), config=options))
    else:
        operator = Ocr(engine=engine, text_layer=False)
        model = operator.load()

        def read(pixels: Pixels) -> str:
            return str(operator.process({"pixels": pixels, "to_source": IDENTITY}, model)["text"])

    read(np.full((64, 256, 3), 255, np.uint8))
    return read


def measured(engines: list[str], pages: Iterable[Page], per_page: bool) -> dict[str, Any]:
    """F1, CER and speed of each engine, its start left out."""
    readers = {engine: reader(engine) for engine in engines}
    f1, cer, cpu, wall = ({engine: {} for engine in engines} for _ in range(4))  # by page
    same: list[bool] = []
    for page in pages:
        texts = {}
        for engine, read in readers.items():
            cpu_before, wall_before = cpu_seconds(), time.perf_counter()
            texts[engine] = read(page.pixels)
            cpu[engine][page.name] = cpu_seconds() - cpu_before
            wall[engine][page.name] = time.perf_counter() - wall_before
            f1[engine][page.name] = word_f1(page.truth, texts[engine])
            cer[engine][page.name] = character_error_rate(page.truth, texts[engine])
        if {"tesserocr", "pytesseract"} <= texts.keys():
            same.append(texts["tesserocr"] == texts["pytesseract"])
    table = {
        engine: {
            "word_f1": round(mean(f1[engine]), 4),
            "cer": round(mean(cer[engine]), 4),
            "pages_per_second": round(1 / mean(wall[engine]), 3),
            "pages_per_cpu_second": round(1 / mean(cpu[engine]), 3),  # what a busy machine changes less
            "worst": sorted(f1[engine], key=f1[engine].__getitem__)[:10],
            **({"word_f1_of": f1[engine], "seconds_of": cpu[engine]} if per_page else {}),
        }
        for engine in engines
    }
    text = {"same_text_tesserocr_pytesseract": sum(same) / len(same)} if same else {}
    return {"pages": len(next(iter(f1.values()))), "engines": table, **text}


def mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)


def cpu_seconds() -> float:
    """CPU time of this process and its children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    here = available_engines("eng")
    engines = [*here, LOOP] if "pytesseract" in here else here
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--pages", type=int, default=60, help="of each set, at most")
    parser.add_argument("--engine", action="append", choices=engines)
    parser.add_argument("--per-page", action="store_true", help="F1 and CPU seconds of every page")
    options = parser.parse_args()
    sets = {"receipts_sroie": receipts, "ocr_pages": printed}
    found = {name: pages for name, pages in sets.items() if (options.data / name).is_dir()}
    if not found:
        sys.exit(f"neither {' nor '.join(sets)} in {options.data}; give a folder that holds one by --data")
    results = {
        name: measured(options.engine or engines, pages(options.data / name, options.pages), options.per_page)
        for name, pages in found.items()
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
