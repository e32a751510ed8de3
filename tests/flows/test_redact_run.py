"""What a page says in confidence is nowhere in a warehouse: not in its tables, pictures, records or logs."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, ImageFont
from PIL.ExifTags import Base
from tests.operators.documents.test_codes import drawn
from tests.operators.kit import item, png, through

from swath.operators.documents.ocr import Ocr, available_engines
from swath.operators.image.codec import Decode

ROOT = Path(__file__).parents[2]
PIPELINE = """
name: claims
steps:
  - decode
  - ocr
  - redact: {patterns: {claim: 'K-\\d{6}'}, picture: png}
  - op: tests.flows.quoting:Quote
table: {leave_out: [lines, text]}
max_rejects: 1
"""
SECRETS = {
    "iban": "DE89 3704 0044 0532 0130 00",
    "card": "4111 1111 1111 1111",
    "email": "anna.schmidt@example.com",
    "phone": "+49 30 901820",
    "tax_number": "DE 136 695 976",
    "identity_number": "078-05-1120",
    "claim": "K-204817",
}
HARMLESS = ("Claim", "Storm damage", "1,250.00")


def sheet(*more: str) -> Image.Image:
    """A page with every secret on a line of its own, and one in a QR code."""
    said = ["Claim form", "Storm damage 1,250.00", *(f"See {secret} here" for secret in SECRETS.values()), *more]
    picture = Image.new("RGB", (1240, 1500), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=34)
    for number, text in enumerate(said):
        draw.text((90, 80 + 75 * number), text, fill=(10, 10, 10), font=font)
    picture.paste(Image.fromarray(drawn(SECRETS["iban"].replace(" ", ""), "QRCode", scale=8)), (900, 1200))
    return picture


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `swath run` has read a claim, and one that makes a later step raise its text."""
    if not available_engines():
        pytest.skip("no OCR engine is installed")
    home = tmp_path_factory.mktemp("claims")
    (home / "source").mkdir()
    exif = Image.Exif()
    exif[Base.Artist] = SECRETS["email"]
    sheet().save(home / "source" / "good.jpg", quality=95, exif=exif)
    sheet("WRONG").save(home / "source" / "wrong.png")
    (home / "claims.yaml").write_text(PIPELINE)
    command = [sys.executable, "-m", "swath.flows.cli", "run", "claims.yaml", "source", "--ray", "off", "--direct"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SWATH_HOME": str(home / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (home / "said").write_text(done.stdout + done.stderr)
    return home


def table(home: Path) -> list[dict[str, Any]]:
    return (
        duckdb.sql(f"FROM '{home}/warehouse/tables/claims/data/**/*.parquet' ORDER BY source_uri")
        .to_arrow_table()
        .to_pylist()
    )


def test_nothing_that_was_kept_or_said_holds_a_secret(home: Path) -> None:
    wanted = {rule: re.sub(r"\s", "", secret).encode() for rule, secret in SECRETS.items()}
    files = [path for path in home.rglob("*") if path.is_file() and home / "source" not in path.parents]
    kinds = {path.suffix for path in files}
    assert {".parquet", ".png", ".db"} <= kinds
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += json.dumps(pq.read_table(path, partitioning=None).to_pylist(), default=str).encode()
        squeezed = re.sub(rb"\s|\\n", b"", content)
        assert [rule for rule, secret in wanted.items() if secret in squeezed] == [], path


def test_the_source_would_have_been_caught(home: Path) -> None:
    assert SECRETS["email"].encode() in (home / "source" / "good.jpg").read_bytes()


def test_the_rest_of_the_page_and_what_was_masked_by_which_rule_is_kept(home: Path) -> None:
    good, wrong = table(home)
    assert not {"lines", "text"} & good.keys()
    for row in (good, wrong):
        for word in HARMLESS:
            assert word in row["redacted_text"]
        assert not re.search(r"\d{4}|@", row["redacted_text"])
        assert {found["rule"] for found in row["redactions"]} == set(SECRETS)
        assert all(word["box"] for line in row["redacted_lines"] for word in line["words"])
    assert sum(found["count"] for found in good["redactions"]) == len(SECRETS) + 1  # and the code


def test_a_later_steps_exception_is_a_reject_without_its_words(home: Path) -> None:
    good, wrong = table(home)
    assert (good["status"], wrong["status"]) == ("ok", "rejected")
    assert re.fullmatch(r"ValueError \(quoting.py:\d+\)", wrong["reject_message"])


def test_the_picture_cannot_be_read_where_it_is_black(home: Path) -> None:
    import zxingcpp

    good, _ = table(home)
    picture = Image.open(io.BytesIO(Path(good["redacted_image"].removeprefix("file://")).read_bytes()))
    assert not picture.info
    assert not picture.getexif()
    pixels = np.asarray(picture)
    assert pixels.shape == (1500, 1240, 3)
    (row,) = through([item(0, png(pixels))], Decode(), Ocr())
    text = row["text"]
    assert all(word in text for word in HARMLESS)
    assert not re.search(r"\d{4}|@|DE ?\d", text.replace("1,250", ""))
    assert zxingcpp.read_barcodes(pixels) == []
