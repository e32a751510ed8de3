"""Word-F1 and pages per second of every OCR engine on receipts, one thread each; prints one JSON object.

    python tests/benchmarks/ocr_receipts.py [--receipts FOLDER] [--pages N] [--engine NAME]...

FOLDER holds img/NNN.jpg and box/NNN.csv (x1,y1,...,x4,y4,transcript a line), as SROIE of ICDAR 2019 does. F1 is
over bags of words, case-folded, NFKC, split at everything that is no letter or digit; the mean over pages.
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
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before anything starts threads
os.environ["OMP_THREAD_LIMIT"] = "1"

import cv2
import numpy as np

from swath.operators.core.base import Pixels
from swath.operators.core.geometry import IDENTITY
from swath.operators.documents.ocr import Ocr, available_engines
from swath.operators.documents.tesseract import tessdata_dir

RECEIPTS = Path(__file__).parents[2] / "../shared/data/receipts_sroie"
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


def transcript(box_file: Path) -> str:
    """The lines of one SROIE annotation file."""
    rows = box_file.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(row.split(",", 8)[8] for row in rows if row.count(",") >= 8)


def sample(folder: Path, count: int) -> list[tuple[Pixels, str]]:
    """`count` receipts, evenly spread over the folder, with their transcripts."""
    images = sorted((folder / "img").glob("*.jpg"))
    chosen = images[:: max(1, len(images) // count)][:count]
    return [
        (cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), transcript(folder / "box" / f"{path.stem}.csv"))
        for path in chosen
    ]


def measure(engine: str, pages: list[tuple[Pixels, str]]) -> dict[str, float]:
    """F1 and speed of one engine, its start left out."""
    if engine == LOOP:
        import pytesseract
        from PIL import Image

        data = str(tessdata_dir("eng"))

        def read(pixels: Pixels) -> str:
            return str(pytesseract.image_to_string(Image.fromarray(pixels), config=f"--psm 4 --tessdata-dir {data}"))
    else:
        operator = Ocr(engine=engine, text_layer=False)
        model = operator.load()

        def read(pixels: Pixels) -> str:
            return str(operator.process({"pixels": pixels, "to_source": IDENTITY}, model)["text"])

    read(np.full((64, 256, 3), 255, np.uint8))
    cpu, wall = cpu_seconds(), time.perf_counter()
    texts = [read(pixels) for pixels, _ in pages]
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    scores = [word_f1(truth, text) for (_, truth), text in zip(pages, texts, strict=True)]
    return {
        "word_f1": round(float(np.mean(scores)), 4),
        "pages_per_second": round(len(pages) / wall, 3),
        "pages_per_cpu_second": round(len(pages) / cpu, 3),  # what a busy machine does not change
    }


def cpu_seconds() -> float:
    """CPU time of this process and its children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    here = available_engines("eng")
    engines = [*here, LOOP] if "pytesseract" in here else here
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receipts", type=Path, default=RECEIPTS)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--engine", action="append", choices=engines)
    options = parser.parse_args()
    if not (options.receipts / "img").is_dir():
        sys.exit(f"no receipts in {options.receipts}; give a folder with img/ and box/ by --receipts")
    pages = sample(options.receipts, options.pages)
    results = {engine: measure(engine, pages) for engine in options.engine or engines}
    print(json.dumps({"pages": len(pages), "engines": results}, indent=2))


if __name__ == "__main__":
    main()
