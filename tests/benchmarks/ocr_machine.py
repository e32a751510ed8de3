"""Tesseract on all cores: in as many processes of ours as there are cores, and as a command in a loop, with the threads
that it takes itself. Prints one JSON object.

    python -m tests.benchmarks.ocr_machine [--data FOLDER] [--pages N]

FOLDER is `../shared/data/receipts_sroie`. Both read the same pages, prepared alike; their texts are the same where the
command and tesserocr are of one release of Tesseract, which for the wheels of tesserocr is seldom so
(`pip install --no-binary tesserocr tesserocr` builds it against the one that is installed).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.benchmarks.ocr_receipts import DATA, picture, reader, spread

THREADS = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT")


def load(engine: str) -> None:
    global read
    read = reader(engine)
    for name in THREADS:
        os.environ.pop(name, None)  # of Tesseract's command; this process has read them


def text(path: Path) -> str:
    return read(picture(path))


def measured(engine: str, processes: int, pages: list[Path]) -> tuple[float, list[str]]:
    """Pages a second, and their texts."""
    with ProcessPoolExecutor(processes, get_context("spawn"), load, (engine,)) as pool:
        list(pool.map(text, pages[:1] * 2 * processes))
        began = time.perf_counter()
        texts = list(pool.map(text, pages))
        return len(pages) / (time.perf_counter() - began), texts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA / "receipts_sroie")
    parser.add_argument("--pages", type=int, default=20)
    options = parser.parse_args()
    pages = spread(options.data, options.pages)
    if not pages:
        raise SystemExit(f"there are no pictures in {options.data / 'img'}; name a folder that holds img/ by --data")
    cores = os.cpu_count() or 1
    ours, our_texts = measured("tesserocr", cores, pages)
    loop, loop_texts = measured("pytesseract", 1, pages)
    same = sum(one == other for one, other in zip(our_texts, loop_texts, strict=True))
    figures = {"processes": cores, "tesserocr": round(ours, 3), "pytesseract_loop": round(loop, 3)}
    print(
        json.dumps(
            {"pages": len(pages), "same_text": same, "pages_per_second": figures, "ratio": round(ours / loop, 2)}
        )
    )


if __name__ == "__main__":
    main()
