"""The OCR engines on receipts and printed pages, in a process of their own: they fix their threads at its start.

python -m tests.benchmarks.ocr [--data FOLDER] [--pages N] [--engine NAME]... [--per-page]
"""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks.machine import REPOSITORY, measured
from tests.benchmarks.report import Options, Result

DATA = REPOSITORY / "../shared/data"
COMMAND = [sys.executable, "-m", "tests.benchmarks.ocr_receipts"]
ON_ALL_CORES = [sys.executable, "-m", "tests.benchmarks.ocr_machine"]


def receipts(options: Options) -> Result:
    """Word-F1, CER and pages a second of each engine, one thread; figures only, no bars."""
    if not (DATA / "receipts_sroie/img").is_dir():
        return Result(skipped=f"there are no receipts in {DATA}")
    pages = "1" if options.quick else "20"
    return Result(json.loads(measured([*COMMAND, "--data", str(DATA), "--pages", pages]).output))


def machine(options: Options) -> Result:
    """Pages a second of Tesseract on all cores, and of its command in a loop; no bar, which is an upper limit here."""
    if not (DATA / "receipts_sroie/img").is_dir():
        return Result(skipped=f"there are no receipts in {DATA}")
    pages = "2" if options.quick else "20"
    return Result(json.loads(measured([*ON_ALL_CORES, "--pages", pages]).output))


if __name__ == "__main__":
    sys.exit(subprocess.call([*COMMAND, *sys.argv[1:]]))
