"""Whether a person should take the picture of a page again, and why."""

from __future__ import annotations

import cv2
import numpy as np

from swath.operators.core.base import Pixels
from swath.operators.core.geometry import resized, shrunk
from swath.operators.documents.page_ink import PageInk
from swath.operators.documents.tesseract import Grey
from swath.operators.image.quality import Flaw, cut_texts, glare_fraction, sharpness

SIDE = 512
"""Shorter side in pixels at which `cut_texts` and `glare_fraction` were measured."""
LETTERS = 20
"""Height of the letters, in pixels, at which their sharpness is measured."""
DARK_PAPER = 0.2
"""Light of the paper, 0 to 1, below which grain drowns the print however it is lit afterwards."""
LEAST_SHARPNESS = 0.25
"""Receipts had 0.45 and more; blurred until Tesseract's word-F1 fell from 0.9 to 0.25, 0.21 to 0.27."""
SOFT = 0.24
"""Sharpness of the whole below which a picture without any line of print is blurred; of `assess_quality`."""
MOST_GLARE = 0.01
"""Share of the picture."""
CUT_TEXTS = 5
"""Letters or words that touch one border."""


def retake_reasons(pixels: Pixels, ink: PageInk | None, has_lines: bool) -> list[Flaw]:
    """Of an upright page: too dark, too blurred, cropped, or hidden by glare."""
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    small = shrunk(grey, SIDE)
    paper = float(np.median(ink.paper[ink.mask > 0]) if ink else np.percentile(small, 95)) / 255
    if paper < DARK_PAPER:
        return [Flaw.TOO_DARK]  # nothing else can be told
    found = {
        Flaw.TOO_BLURRED: letter_sharpness(grey, ink) < LEAST_SHARPNESS if ink and has_lines else _is_soft(small),
        Flaw.CROPPED: cut_texts(small) >= CUT_TEXTS,
        Flaw.GLARE: glare_fraction(small) > MOST_GLARE,
    }
    return [flaw for flaw, is_so in found.items() if is_so]


def _is_soft(small: Grey) -> bool:
    return float(small.std()) >= 0.03 * 255 and sharpness(small) < SOFT  # a blank page has no edges


def letter_sharpness(grey: Grey, ink: PageInk) -> float:
    """`sharpness` with the letters `LETTERS` pixels high: what blurs a headline is not what blurs small print."""
    scale = LETTERS * ink.scale / ink.letter_size
    if scale < 1:
        height, width = grey.shape
        grey = resized(grey, (max(1, round(height * scale)), max(1, round(width * scale))))
    return sharpness(grey)
