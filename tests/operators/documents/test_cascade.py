"""The cascade: every line is found, the fast engine's words are taken where it is sure, the rest is read again."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from swath.operators.core.base import Pixels
from swath.operators.documents.cascade import TRIAL, Cascade, divided, has_cascade, needed
from swath.operators.documents.rapid import Crop
from swath.operators.documents.tesseract import Word

CLEAN = (
    "The goods remain our property",
    "Please send payment within thirty days",
    "Thank you for your order",
    "All prices include delivery",
)
POOR = ("Total 284.75", "Paper 2041-77", "Net 239.28")


def page(poor: tuple[str, ...] = POOR, clean: tuple[str, ...] = CLEAN, seed: int = 1) -> Pixels:
    """Sharp lines of prose, and under them lines as a worn printer leaves them: blurred, pale, dotted."""
    random = np.random.default_rng(seed)
    font = ImageFont.load_default(26)
    picture = Image.new("L", (640, 60 + 56 * (len(clean) + len(poor))), 255)
    for row, line in enumerate((*clean, *poor)):
        strip = Image.new("L", (640, 50), 255)
        ImageDraw.Draw(strip).text((40, 8), line, fill=0, font=font)
        if row >= len(clean):
            ink = np.asarray(strip.filter(ImageFilter.GaussianBlur(1.6)), dtype=float)
            ink = 255 - 0.55 * (255 - ink)
            ink[::3] = 255  # a needle that does not print
            strip = Image.fromarray(np.clip(ink + random.normal(0, 10, ink.shape), 0, 255).astype(np.uint8))
        picture.paste(strip, (0, 30 + 56 * row))
    return np.repeat(np.asarray(picture)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    if not has_cascade("eng"):
        pytest.skip("tesserocr, rapidocr or tessdata for eng is not installed")
    return Cascade("eng")


def engines(line: list[Word]) -> set[str]:
    return {str(word.engine).split()[0] for word in line}


def text(line: list[Word]) -> str:
    return " ".join(word.text for word in line)


def test_sharp_lines_are_the_fast_engines_and_poor_ones_the_strong_ones(cascade: Cascade) -> None:
    lines = cascade.read(page())
    assert [text(line) for line in lines[: len(CLEAN)]] == list(CLEAN)
    assert len(lines) == len(CLEAN) + len(POOR)
    assert [engines(line) for line in lines[: len(CLEAN)]] == [{"tesserocr"}] * len(CLEAN)
    assert [engines(line) for line in lines[len(CLEAN) :]] == [{"rapidocr"}] * len(POOR)


def test_what_is_read_again_is_what_the_strong_engine_reads_alone(cascade: Cascade) -> None:
    pixels = page(clean=())
    alone = [text(line) for line in cascade._strong.read(pixels)]
    assert [text(line) for line in cascade.read(pixels)] == alone
    assert [line.split()[0] for line in alone] == [line.split()[0] for line in POOR]


def test_on_a_page_where_it_is_of_no_use_the_fast_engine_is_not_asked_for_every_line(cascade: Cascade) -> None:
    poor = tuple(
        f"{number * 7919 % 10000 / 100:.2f} {number * 104729 % 100000}" for number in range(11, 11 + 3 * TRIAL)
    )
    asked = []
    read_line = cascade._fast.read_line
    cascade._fast.read_line = lambda pixels: asked.append(pixels.shape) or read_line(pixels)  # type: ignore[method-assign]
    try:
        lines = cascade.read(page(poor, clean=()))
    finally:
        del cascade._fast.read_line
    assert len(lines) == len(poor)
    assert TRIAL <= len(asked) < len(poor)


def crop(width: int = 300, height: int = 20) -> Crop:
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=float)
    return Crop(np.full((height, width, 3), 255, np.uint8), corners)


def word(content: str, left: float, right: float, confidence: float) -> Word:
    return Word(content, confidence, np.array([(left, 2), (right, 2), (right, 18), (left, 18)], dtype=float))


def test_only_the_doubtful_stretch_of_a_line_is_read_again() -> None:
    line = [word("Total", 5, 60, 0.97), word("amount", 70, 140, 0.96), word("1O.5O", 160, 220, 0.6)]
    line.append(word("Euro", 240, 295, 0.97))
    kept, left = divided(line, crop())
    assert [one.text for one in kept] == ["Total", "amount", "Euro"]
    assert left[0].corners[:2, 0] == pytest.approx([150, 230])
    assert left[0].pixels.shape == (20, 80, 3)


def test_neighbouring_doubts_are_one_stretch() -> None:
    line = [word("Total", 5, 200, 0.97), word("l0", 210, 240, 0.5), word("5O", 250, 290, 0.5)]
    kept, left = divided(line, crop())
    assert [one.text for one in kept] == ["Total"]
    assert left[0].corners[:2, 0] == pytest.approx([205, 300])
    assert len(left) == 1


@pytest.mark.parametrize(
    "line",
    [
        [],
        [word("amount", 100, 295, 0.97)],  # something before it was overlooked
        [word("amount", 5, 200, 0.97)],  # something after it was overlooked
        [word("amount", 5, 90, 0.97), word("1O.5O", 100, 295, 0.4)],  # little would be left
    ],
)
def test_a_line_that_is_incomplete_or_mostly_doubtful_is_read_again_as_a_whole(line: list[Word]) -> None:
    whole = crop()
    assert divided(line, whole) == ([], [whole])


def test_numbers_and_odd_shapes_need_more_confidence_than_words() -> None:
    word_, number, odd, short = needed("Total:"), needed("1,284.75"), needed("T0tal"), needed("RM")
    assert word_ < short < number < odd
    assert needed("€12.50") == needed("-13.30") == needed("(15/06/2018)") == number
    assert needed("STRASSE") == needed("straße") == needed("Müller-Lüdenscheidt,") == word_
    assert needed("InvNo") == needed("250G") == needed("§.76") == needed("@") == odd
