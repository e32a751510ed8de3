"""Files that crashed, hung or bombed other decoders: each gives pixels or a Reject, in good time."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "data" / "torture_pillow"
SECONDS = 120

CHILD = """
import json, sys
from pathlib import Path
from swath.operators.core.base import Reject
from swath.operators.image.codec import Decode
from swath.operators.image.formats import count_pages
for line in sys.stdin:
    name, content = line.strip(), Path(line.strip()).read_bytes()
    print(json.dumps({"starts": name}), flush=True)
    try:
        pixels = Decode().process({"bytes": content, "page": None}, None)["pixels"]
        assert pixels.dtype == "uint8" and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.flags.c_contiguous
        verdict = "ok"
    except Reject as reject:
        verdict = reject.reason
    try:
        assert count_pages(content) >= 1
    except Reject:
        pass
    print(json.dumps({"file": name, "verdict": verdict}), flush=True)
"""

KINDS_NOT_READ = (".avif", ".avifs", ".jp2", ".j2k", ".pgm", ".ppm")
"""Pillow and OpenCV read these formats, decode does not: `unsupported`."""


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """File to `ok` or reason; fails with the name of the file at which the child hung or died."""
    if not FOLDER.is_dir():
        pytest.skip(f"no torture files at {FOLDER}")
    files = sorted(str(path) for path in FOLDER.rglob("*") if path.is_file())
    try:
        child = subprocess.run(
            [sys.executable, "-c", CHILD], input="\n".join(files), text=True, capture_output=True, timeout=SECONDS
        )
        output, end = child.stdout, f"ended with {child.returncode}: {child.stderr[-2000:]}"
        assert child.stderr == "", f"libraries wrote to stderr: {child.stderr[-2000:]}"
    except subprocess.TimeoutExpired as expired:
        output, end = (expired.stdout or b"").decode(), f"took more than {SECONDS} s"
    lines = [json.loads(line) for line in output.splitlines()]
    found = {Path(line["file"]).relative_to(FOLDER).as_posix(): line["verdict"] for line in lines if "file" in line}
    assert len(found) == len(files), f"the decoder {end}, at {lines[-1] if lines else 'its start'}"
    return found


def test_every_file_gives_pixels_or_a_reject(verdicts: dict[str, str]) -> None:
    assert set(verdicts.values()) <= {
        "ok", "empty", "not_an_image", "unsupported", "truncated", "corrupt", "too_large", "encrypted",
    }  # fmt: skip


def test_what_opencv_and_pillow_both_read_is_read_or_known_to_be_broken(verdicts: dict[str, str]) -> None:
    with (FOLDER / "measured.csv").open() as file:
        both = [row["file"] for row in csv.DictReader(file) if row["pil"] == "ok" and row["opencv"].startswith("ok")]
    refused = {name: verdicts[name] for name in both if verdicts[name] != "ok"}
    other_formats = {name for name, reason in refused.items() if reason == "unsupported"}
    assert {name for name in other_formats if not name.endswith(KINDS_NOT_READ)} == set()
    # What is left decodes without complaint elsewhere to stripes and smears: JPEG scans with bytes left over or
    # missing, and fax data with bad code words. Only those compressions have no checksum to find it by.
    broken = {name: reason for name, reason in refused.items() if name not in other_formats}
    assert set(broken.values()) <= {"corrupt"}
    assert len(broken) <= 4
