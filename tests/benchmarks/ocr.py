"""The OCR engines on receipts, in a process of their own, because they fix their threads at its start."""

from __future__ import annotations

import json
import sys

from tests.benchmarks.machine import REPOSITORY, measured
from tests.benchmarks.report import Options, Result

RECEIPTS = REPOSITORY / "../shared/data/receipts_sroie"


def receipts(options: Options) -> Result:
    """Word-F1 and pages a second of each engine, one thread; figures only, no bars."""
    if not (RECEIPTS / "img").is_dir():
        return Result(skipped=f"there are no receipts in {RECEIPTS}")
    script = REPOSITORY / "tests/benchmarks/ocr_receipts.py"
    command = [sys.executable, str(script), "--receipts", str(RECEIPTS), "--pages", "1" if options.quick else "20"]
    return Result(json.loads(measured(command).output))
