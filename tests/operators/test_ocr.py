"""Every engine that is here reads drawn text, and says where it stands in the source."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from swath.operators.core.base import Pixels
from swath.operators.core.geometry import IDENTITY, orient, scaling
from swath.operators.documents.ocr import Ocr, available_engines
from swath.operators.documents.rapid import Crop, reading_order, words_of
from swath.operators.documents.tesseract import Engine, lines_of_tsv, one_thread, readable, tessdata_dir, text_height
from swath.schemas.errors import MissingDependency

ENGINES = ("cascade", "tesserocr", "pytesseract", "rapidocr")
PLACES = {"Invoice": (60, 40), "Total": (60, 140), "412.50": (420, 140)}
"""Words and the top left corner of each."""
needs_tesserocr = pytest.mark.skipif("tesserocr" not in available_engines("eng"), reason="no tesserocr or no tessdata")
EMPTY = {"lines": [], "text": "", "ocr_confidence": None, "line_engines": []}


@lru_cache
def page(size: int = 40) -> Pixels:
    """Three words, dark on light, (240, 640, 3) at the default size."""
    scale = size / 40
    image = Image.new("RGB", (round(640 * scale), round(240 * scale)), "white")
    draw = ImageDraw.Draw(image)
    for word, (x, y) in PLACES.items():
        draw.text((x * scale, y * scale), word, fill=(20, 20, 20), font=ImageFont.load_default(size))
    return np.asarray(image)


def placed(word: str) -> tuple[float, float, float, float]:
    """The box of the word's ink."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    return draw.textbbox(PLACES[word], word, font=ImageFont.load_default(40))


@pytest.fixture(scope="module", params=ENGINES)
def ocr(request: pytest.FixtureRequest) -> tuple[Ocr, Engine]:
    if request.param not in available_engines("eng"):
        pytest.skip(f"{request.param} or tessdata for eng is not installed")
    operator = Ocr(engine=request.param, text_layer=False)
    return operator, operator.load()


def read(ocr: tuple[Ocr, Engine], pixels: Pixels, to_source=IDENTITY) -> dict:
    operator, engine = ocr
    return operator.process({"pixels": pixels, "to_source": to_source}, engine)


def boxes(result: dict) -> dict[str, np.ndarray]:
    """The (4,) box of every word."""
    return {word["text"]: np.array(list(word["box"].values())) for line in result["lines"] for word in line["words"]}


def test_drawn_words_are_read_with_their_confidence_and_place(ocr) -> None:
    result = read(ocr, page())
    assert result["text"].split() == list(PLACES)
    assert 0.5 < result["ocr_confidence"] <= 1
    assert result["ocr_engine"].split()[0] == ocr[0].engine
    for word, box in boxes(result).items():
        assert np.abs(box - placed(word)).max() < 12, word  # RapidOCR's boxes have a margin
    for line in result["lines"]:
        assert line["text"] == " ".join(word["text"] for word in line["words"])
        assert line["box"]["x_min"] == min(word["box"]["x_min"] for word in line["words"])
        assert line["box"]["y_max"] == max(word["box"]["y_max"] for word in line["words"])


def test_boxes_are_in_source_pixels_after_turning_and_scaling(ocr) -> None:
    """The source lies on its side and is twice as large; the page that is read was turned upright and halved."""
    source = np.ascontiguousarray(np.rot90(page(80), 1))
    upright, turned = orient(source, 6)
    halved = np.asarray(Image.fromarray(upright).resize((640, 240), Image.Resampling.BOX))
    result = read(ocr, halved, turned @ scaling(upright.shape[:2], halved.shape[:2]))
    found = boxes(result)
    assert set(found) == set(PLACES)
    for word, (x_min, y_min, x_max, y_max) in found.items():
        ink = np.argwhere(source[..., 0] < 128)  # (N, 2) y, x
        inside = ink[(ink[:, 1] >= x_min) & (ink[:, 1] < x_max) & (ink[:, 0] >= y_min) & (ink[:, 0] < y_max)]
        left, top, right, bottom = placed(word)
        assert abs((y_max - y_min) - 2 * (right - left)) < 40, word
        assert abs((x_max - x_min) - 2 * (bottom - top)) < 40, word
        assert len(inside) > 300, word


def test_a_page_reads_the_same_whatever_was_read_before(ocr) -> None:
    before = read(ocr, page())
    read(ocr, np.ascontiguousarray(page()[:, ::-1]))
    assert read(ocr, page()) == before


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (8, 8), (9, 2000), (300, 400)])
def test_blank_and_tiny_pictures_have_no_lines(ocr, shape: tuple[int, int]) -> None:
    for grey in (0, 255):
        result = read(ocr, np.full((*shape, 3), grey, np.uint8))
        assert {name: result[name] for name in EMPTY} == EMPTY


@needs_tesserocr
def test_a_page_longer_than_16_bits_of_pixels_is_read() -> None:
    operator = Ocr(engine="tesserocr", text_layer=False)
    long = np.full((33_000, 640, 3), 255, np.uint8)
    long[32_700:32_940] = page()
    found = boxes(read((operator, operator.load()), long))
    assert set(PLACES) <= set(found)
    assert abs(found["Invoice"][1] - (32_700 + placed("Invoice")[1])) < 20


@needs_tesserocr
def test_small_print_is_enlarged_before_it_is_read() -> None:
    lines = "The quick brown fox jumps over the lazy dog and pays 1,284.75 for it"
    image = Image.new("RGB", (420, 40), "white")
    ImageDraw.Draw(image).text((5, 10), lines, fill="black", font=ImageFont.load_default(11))
    small = np.asarray(image)
    assert text_height(small[..., 0]) < 10
    grey, scale = readable(small)
    assert scale > 1.5
    assert grey.shape[0] == int(40 * scale)
    operator = Ocr(engine="tesserocr", text_layer=False)
    assert operator.process({"pixels": small, "to_source": IDENTITY}, operator.load())["text"] == lines


def test_tessdata_is_found_by_prefix_and_all_parts_of_a_language_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    (tmp_path / "xaa.traineddata").write_bytes(b"a")
    assert tessdata_dir("xaa") == tmp_path
    assert tessdata_dir("xaa+xbb") is None
    (tmp_path / "xbb.traineddata").write_bytes(b"b")
    assert tessdata_dir("xaa+xbb") == tmp_path


def test_a_missing_language_names_the_package_and_the_variable() -> None:
    with pytest.raises(MissingDependency, match=r"'xqz_vert'.*tesseract-ocr-xqz-vert.*TESSDATA_PREFIX"):
        Ocr(language="xqz_vert").check()
    with pytest.raises(MissingDependency, match="rapidocr's models do not read 'rus'"):
        Ocr(engine="rapidocr", language="rus").check()


@pytest.mark.parametrize("language", ["eng", "rus"])
def test_cascade_names_the_half_that_is_missing(language: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("swath.operators.documents.tesseract._folders", lambda: iter([tmp_path]))
    with pytest.raises(MissingDependency, match="cascade needs both engines: tessdata for"):
        Ocr(engine="cascade", language=language).check()


def test_without_tessdata_auto_falls_back_to_the_models_in_the_wheel() -> None:
    if tessdata_dir("lat") is not None:
        pytest.skip("tessdata for Latin is installed")
    assert Ocr(language="lat").chosen_engine() == "rapidocr"


@needs_tesserocr
def test_the_digest_follows_the_language_data_and_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    data = tmp_path / "xaa.traineddata"
    data.write_bytes(b"a")
    first = Ocr(language="xaa").model_digest()
    data.write_bytes(b"b")
    os.utime(data, ns=(1, 1))
    assert first.startswith("tesserocr:")
    assert Ocr(language="eng", engine="rapidocr").model_digest() == Ocr(engine="rapidocr").model_digest()
    assert Ocr(engine="rapidocr").model_digest().startswith("rapidocr:")
    assert Ocr(language="xaa").model_digest() != first


def test_the_thread_limit_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_THREAD_LIMIT", raising=False)
    with one_thread():
        assert os.environ["OMP_THREAD_LIMIT"] == "1"
    assert "OMP_THREAD_LIMIT" not in os.environ


def test_words_of_the_tsv_are_grouped_by_line_and_blank_ones_left_out() -> None:
    table = "\n".join(
        (
            "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext",
            "4\t1\t1\t1\t1\t0\t0\t0\t90\t10\t-1\t",
            "5\t1\t1\t1\t1\t1\t10\t20\t30\t40\t96.5\tTo",
            "5\t1\t1\t1\t1\t2\t50\t20\t30\t40\t95\t ",
            "5\t1\t1\t1\t2\t1\t10\t80\t30\t40\t-1\tpay",
        )
    )
    lines = lines_of_tsv(table, scale=2)
    assert [[word.text for word in line] for line in lines] == [["To"], ["pay"]]
    assert lines[0][0].corners.tolist() == [[5, 10], [20, 10], [20, 30], [5, 30]]
    assert [line[0].confidence for line in lines] == [0.965, 0]


def quad(x: float, y: float, width: float = 80, height: float = 10) -> np.ndarray:
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def test_words_stand_where_their_characters_are_and_have_the_confidence_of_their_own() -> None:
    text, confidences = "12.5 RM", [1.0, 1.0, 1.0, 0.6, 0.2, 0.9, 0.7]
    first, second = words_of(text, confidences, [0.05, 0.15, 0.25, 0.35, 0.75, 0.85], quad(0, 0, 100))
    assert (first.text, second.text) == ("12.5", "RM")
    assert [first.confidence, second.confidence] == pytest.approx([0.9, 0.8])
    assert first.corners[:, 0] == pytest.approx([0, 40, 40, 0])
    assert second.corners[:, 0] == pytest.approx([70, 90, 90, 70])


def test_words_that_would_overlap_meet_in_the_middle() -> None:
    first, second = words_of("ab cd", [1.0] * 5, [0.1, 0.4, 0.5, 0.9], quad(0, 0, 100))
    assert first.corners[1, 0] == pytest.approx(second.corners[0, 0])
    assert 40 < first.corners[1, 0] < 50


def test_a_row_is_read_from_the_left_even_where_it_is_not_quite_level() -> None:
    blank = np.zeros((20, 50, 3), np.uint8)
    crops = [Crop(blank, quad(*place, 50, 20)) for place in ((200, 8), (0, 40), (0, 12))]
    assert reading_order(crops) == [2, 0, 1]
    assert reading_order([]) == []


def test_an_engine_left_to_the_machine_is_decided_before_a_run_so_that_every_worker_reads_alike() -> None:
    settled = Ocr().settled()
    assert settled.engine == available_engines("eng")[0]
    assert settled.settled() == settled
