"""Codes drawn by ZXing's own writer, on pages that were turned, scaled and cut."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from tests.operators.kit import item, page_picture, png, through

from swath.operators.core.base import Pixels
from swath.operators.core.geometry import IDENTITY
from swath.operators.documents.codes import FORMATS, ReadCodes
from swath.operators.image.codec import Decode
from swath.schemas.types import CODES


def drawn(content: str | bytes, format: str, scale: int = 4) -> Pixels:
    import zxingcpp

    code = zxingcpp.create_barcode(content, getattr(zxingcpp.BarcodeFormat, format))
    grey = np.array(zxingcpp.write_barcode_to_image(code, scale=scale))
    return np.repeat(grey[..., None], 3, axis=2)


def on_page(*placed: tuple[Pixels, int, int], height: int = 800, width: int = 1000) -> Pixels:
    page = page_picture(height=height, width=width)
    for code, x, y in placed:
        page[y - 10 : y + code.shape[0] + 10, x - 10 : x + code.shape[1] + 10] = 255
        page[y : y + code.shape[0], x : x + code.shape[1]] = code
    return page


def read(page: Pixels, **config: Any) -> list[dict[str, Any]]:
    (row,) = through([item(0, png(page))], Decode(), ReadCodes.model_validate(config))
    assert row["status"] == "ok", row["reject_message"]
    found: list[dict[str, Any]] = pa.array([row["codes"]], CODES).to_pylist()[0]
    return found


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("QRCode", "https://example.org/pay?to=Ünïcode"),
        ("EAN13", "4006381333931"),
        ("Code128", "INV-2024-00017"),
        ("DataMatrix", "lot 17"),
        ("PDF417", "boarding pass"),
        ("Aztec", "ticket"),
    ],
)
@pytest.mark.parametrize("turned", [0, 1, 2, 3])
def test_a_code_is_read_whichever_way_it_is_turned(format: str, content: str, turned: int) -> None:
    (code,) = read(np.ascontiguousarray(np.rot90(on_page((drawn(content, format), 100, 200)), turned)))
    assert (code["format"], code["text"]) == (format, content)


def test_the_box_is_where_the_code_stands_in_the_source() -> None:
    code = drawn("somewhere", "QRCode", scale=5)
    page = on_page((code, 300, 220))
    dark = np.argwhere(code[..., 0] < 128)
    (top, left), (bottom, right) = dark.min(axis=0), dark.max(axis=0) + 1
    (found,) = read(page)
    expected = (300 + left, 220 + top, 300 + right, 220 + bottom)
    assert list(found["box"].values()) == pytest.approx(expected, abs=3)
    half = ReadCodes().process(
        {"pixels": cv2.resize(page, None, fx=2, fy=2), "to_source": np.diag([0.5, 0.5, 1])}, None
    )
    assert list(half["codes"][0]["box"].values()) == pytest.approx(expected, abs=3)


def test_several_codes_come_from_top_to_bottom_and_no_more_than_are_wanted() -> None:
    page = on_page((drawn("4006381333931", "EAN13", 2), 60, 500), (drawn("upper", "QRCode"), 400, 60))
    assert [code["text"] for code in read(page)] == ["upper", "4006381333931"]
    assert [code["text"] for code in read(page, most=1)] == ["upper"]
    assert [code["format"] for code in read(page, formats=["EAN13"])] == ["EAN13"]


def test_what_a_stranger_wrote_into_a_code_is_data() -> None:
    hostile = "\x1b[2J\x00'; DROP TABLE codes; --\u202egnp.exe"
    (code,) = read(on_page((drawn(hostile, "QRCode"), 100, 100)))
    assert code["text"] == "\ufffd[2J\ufffd'; DROP TABLE codes; --\ufffdgnp.exe"
    assert b"\x1b[2J\x00" in code["content"]


def test_a_code_with_more_content_than_allowed_is_left_out() -> None:
    page = on_page((drawn("x" * 300, "QRCode"), 100, 100))
    assert [len(code["text"]) for code in read(page)] == [300]
    assert read(page, max_bytes=299) == []


def test_a_page_without_a_code_has_none() -> None:
    rules = page_picture(height=900)
    rules[::7] = 0
    assert read(page_picture(height=600)) == []
    assert ReadCodes().process({"pixels": rules, "to_source": IDENTITY}, None) == {"codes": []}


def test_an_unknown_format_is_refused() -> None:
    assert "Codabar" not in FORMATS
    assert ReadCodes(formats=("Codabar",)).formats == ("Codabar",)
    with pytest.raises(ValidationError, match="formats are some of QRCode"):
        ReadCodes(formats=("qr",))
    with pytest.raises(ValidationError, match="formats are some of"):
        ReadCodes(formats=())
