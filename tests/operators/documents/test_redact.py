"""What is sensitive is black in the picture and masked in the text, wherever OCR has put it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError
from tests.operators.documents.test_codes import drawn
from tests.operators.kit import page_picture

from swath.operators.core.base import Artifact, Matrix, Pixels, Reject
from swath.operators.core.geometry import IDENTITY, map_box, map_points
from swath.operators.documents.redact import Redact
from swath.operators.documents.redact_page import MASK
from swath.schemas.types import LINES, REDACTIONS

IBAN = "DE89 3704 0044 0532 0130 00"
WIDTH, HEIGHT = 900, 600
LETTER, LINE = 10, 20
"""Pixels of a drawn letter: a grey cell, so that what is not blackened is seen."""


def line(text: str, x: float = 50, y: float = 50) -> dict[str, Any]:
    """A line whose letters are cells of the same size."""
    words, at = [], x
    for word in text.split(" "):
        box = {"x_min": at, "y_min": y, "x_max": at + LETTER * len(word), "y_max": y + LINE}
        words.append({"text": word, "confidence": 0.9, "box": box})
        at += LETTER * (len(word) + 1)
    box = {"x_min": x, "y_min": y, "x_max": at - LETTER, "y_max": y + LINE}
    return {"text": text, "confidence": 0.9, "box": box, "words": words}


def page(*lines: dict[str, Any], **columns: Any) -> dict[str, Any]:
    pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    for word in (word for one in lines for word in one["words"]):
        corners = [round(word["box"][name]) for name in ("x_min", "y_min", "x_max", "y_max")]
        pixels[corners[1] : corners[3], corners[0] : corners[2]] = 120
    return {"pixels": pixels, "to_source": IDENTITY, "lines": list(lines), **columns}


def redacted(given: dict[str, Any], **config: Any) -> dict[str, Any]:
    operator = Redact.model_validate({"picture": "png", **config})
    result = operator.process(given, operator.load())
    pa.array([result["redacted_lines"]], LINES)
    pa.array([result["redactions"]], REDACTIONS)
    return result


def shown(result: dict[str, Any]) -> Pixels:
    artifact = result["redacted_image"]
    assert isinstance(artifact, Artifact)
    return np.asarray(Image.open(io.BytesIO(artifact.content)))


def grey_left(result: dict[str, Any]) -> list[str]:
    """The words of the page whose cells are still seen."""
    picture = shown(result)
    seen = []
    for word in (word for one in result["redacted_lines"] for word in one["words"]):
        box = word["box"]
        cell = picture[round(box["y_min"]) : round(box["y_max"]), round(box["x_min"]) : round(box["x_max"])]
        assert np.unique(cell).tolist() in ([0], [120]), word
        seen += [word["text"]] if cell.max() else []
    return seen


def masked(text: str) -> str:
    return "".join(char if char.isspace() else MASK for char in text)


def test_a_number_over_several_words_is_black_and_masked_and_its_neighbours_are_not() -> None:
    result = redacted(page(line(f"to {IBAN} please"), line("Total 12.50", y=120)))
    assert result["redacted_text"] == f"to {masked(IBAN)} please\nTotal 12.50"
    assert grey_left(result) == ["to", "please", "Total", "12.50"]
    assert not shown(result)[60, 80:350].any()  # the gaps between its words too
    (found,) = result["redactions"]
    assert (found["rule"], found["count"]) == ("iban", 1)
    assert found["box"] == {"x_min": 80, "y_min": 50, "x_max": 350, "y_max": 70}


def test_a_line_is_its_words_joined_and_a_word_that_is_sensitive_in_part_is_masked_in_part() -> None:
    result = redacted(page(line("mail:bob@example.com, thanks")))
    (found,) = result["redacted_lines"]
    assert found["text"] == f"mail:{masked('bob@example.com')}, thanks"
    assert found["text"] == " ".join(word["text"] for word in found["words"])
    assert grey_left(result) == ["thanks"]


def test_a_number_that_ocr_has_put_into_several_lines_is_found() -> None:
    beside = redacted(page(line("DE89 3704 0044", x=50), line("Total 7.00", y=120), line("0532 0130 00", x=400)))
    assert beside["redacted_text"] == f"{masked('DE89 3704 0044')}\nTotal 7.00\n{masked('0532 0130 00')}"
    below = redacted(page(line("pay to DE89 3704 0044", y=50), line("0532 0130 00 today", y=80)))
    assert below["redacted_text"] == f"pay to {masked('DE89 3704 0044')}\n{masked('0532 0130 00')} today"
    assert [found["count"] for found in below["redactions"]] == [1, 0]
    label = redacted(page(line("Tel", x=50), line("020 7946 0018", x=500)))
    assert label["redacted_text"] == f"Tel\n{masked('020 7946 0018')}"


def test_what_stands_below_a_number_that_is_found_is_left_alone() -> None:
    result = redacted(page(line("Tel: 03-8888 7777"), line("12.50 3.00", y=80)))
    assert result["redacted_text"] == f"Tel: {masked('03-8888 7777')}\n12.50 3.00"


@pytest.mark.parametrize("turn", ["quarter", "skewed", "half size"])
def test_boxes_are_source_pixels_and_the_picture_is_the_working_one(turn: str) -> None:
    given = page(line(f"to {IBAN} please"))
    angle = np.radians(3)
    matrices: dict[str, Matrix] = {
        "quarter": np.array([[0, 1, 0], [-1, 0, WIDTH], [0, 0, 1.0]]),
        "skewed": np.array([[np.cos(angle), -np.sin(angle), 30], [np.sin(angle), np.cos(angle), 5], [0, 0, 1]]),
        "half size": np.diag([2.0, 2, 1]),
    }
    to_source = given["to_source"] = matrices[turn]
    upright = given["lines"]
    moved = [
        {**one, "words": [{**word, "box": map_box(to_source, tuple(word["box"].values()))} for word in one["words"]]}
        for one in upright
    ]
    result = redacted({**given, "lines": moved})
    picture = shown(result)
    assert not picture[50:70, 80:350].any()
    assert (picture[55:65, 50:65] == 120).all()
    (found,) = result["redactions"]
    corners = map_points(to_source, [(80, 50), (350, 70)])
    x_min, y_min, x_max, y_max = found["box"].values()
    assert (corners >= np.array([x_min, y_min]) - 0.01).all()
    assert (corners <= np.array([x_max, y_max]) + 0.01).all()


def test_own_patterns_and_values_of_columns_are_masked_whatever_their_blanks_case_and_accents() -> None:
    given = page(line("patient ANNA B. Müller, file K 17 204"), line("Mueller anna", y=120), owner="anna b muller")
    result = redacted(given, rules=[], columns=["owner"], patterns={"file_number": r"K\d{5}"})
    assert result["redacted_text"] == f"patient {masked('ANNA B. Müller')}, file {masked('K 17 204')}\nMueller anna"
    assert sorted(found["rule"] for found in result["redactions"]) == ["column_owner", "file_number"]


def test_a_pattern_does_not_begin_or_end_inside_a_word_that_ocr_did_not_split() -> None:
    result = redacted(page(line("no BK 172048 here")), patterns={"file_number": r"K\d{5}"})
    assert result["redacted_text"] == "no BK 172048 here"


def test_a_code_that_holds_what_a_rule_finds_is_black_and_another_is_not() -> None:
    given = page(line("Scan to pay"))
    payment, link = (
        drawn(f"BCD\n002\n1\nSCT\n\nAnna\n{IBAN.replace(' ', '')}", "QRCode"),
        drawn("https://a.de", "QRCode"),
    )
    for code, x in ((payment, 100), (link, 500)):
        given["pixels"][200 : 200 + code.shape[0], x : x + code.shape[1]] = code
    result = redacted(given)
    ((rule, box),) = [(found["rule"], found["box"]) for found in result["redactions"]]
    assert rule == "iban"
    assert box["x_max"] < 400
    assert decoded(shown(result)) == ["https://a.de"]
    assert decoded(shown(redacted(given, codes="all"))) == []
    assert len(decoded(shown(redacted(given, codes="none")))) == 2


def decoded(picture: Pixels) -> list[str]:
    import zxingcpp

    return [code.text for code in zxingcpp.read_barcodes(picture)]


def test_a_page_of_which_nothing_was_read_has_no_picture() -> None:
    result = redacted({"pixels": page_picture(), "to_source": IDENTITY, "lines": []})
    assert result == {"redacted_lines": [], "redacted_text": "", "redactions": [], "redacted_image": None}


@pytest.mark.parametrize(("kind", "suffix", "format"), [("jpeg", ".jpg", "JPEG"), ("png", ".png", "PNG")])
def test_the_picture_is_one_of_its_own_without_metadata(kind: str, suffix: str, format: str) -> None:
    given = page(line(f"to {IBAN}"))
    before = given["pixels"].copy()
    artifact = redacted(given, picture=kind)["redacted_image"]
    assert (given["pixels"] == before).all()
    picture = Image.open(io.BytesIO(artifact.content))
    assert (artifact.suffix, picture.format) == (suffix, format)
    assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert np.asarray(picture)[52:68, 82:348].max() < 16
    assert "redacted_image" not in redacted(given, picture="none")


def test_what_goes_wrong_is_not_quoted() -> None:
    given = page(line(f"to {IBAN}"))
    del given["lines"][0]["words"][1]["box"]
    given["lines"][0]["words"][2] = {IBAN: IBAN}
    with pytest.raises(Reject, match="KeyError while redacting; not quoted") as error:
        redacted(given)
    assert error.value.__cause__ is None
    assert IBAN not in str(error.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rules": ["ssn"]}, "rules are some of iban, card, email"),
        ({"patterns": {"iban": "x"}}, "no rule's already, not 'iban'"),
        ({"patterns": {"own": "(x"}}, "own: '\\(x' is no RE2 expression"),
        ({"patterns": {"own": "x*"}}, "would mask everything"),
        ({"regions": ["Germany"]}, "no country has the code Germany; write DE, GB, US"),
    ],
)
def test_a_wrong_configuration_is_said(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Redact.model_validate(config)


def test_named_columns_are_inputs() -> None:
    assert [column.name for column in Redact(columns=("owner",)).inputs()] == ["pixels", "to_source", "lines", "owner"]
