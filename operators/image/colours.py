"""Colours that tell classes apart, the same for a class in every picture."""

from __future__ import annotations

import colorsys
import hashlib

Colour = tuple[int, int, int]
"""RGB."""
FIRST: tuple[Colour, ...] = (
    *((0, 0, 0), (230, 25, 75), (60, 180, 75), (255, 190, 0), (0, 110, 230), (245, 110, 30), (150, 40, 190)),
    *((40, 200, 220), (240, 50, 230), (150, 200, 20), (250, 160, 170), (0, 128, 128), (165, 100, 40), (120, 0, 0)),
)
"""By index: far apart for the eye (after Trubetskoy, 20 distinct colours); nothing and background are black."""
NAMED: dict[str, Colour] = {
    **{"header": (200, 0, 200), "paragraph": (0, 150, 0), "table": (0, 0, 255), "cell": (255, 140, 0)},
    **{"totals_block": (220, 170, 0), "signature": (255, 0, 0), "stamp": (150, 0, 90), "logo": (0, 150, 150)},
    **{"checkbox": (220, 60, 0), "line": (60, 130, 255), "field": (255, 0, 120), "person": (245, 60, 40)},
    **{"vegetation": (60, 180, 75), "background": (0, 0, 0), "__background__": (0, 0, 0)},
    **{"tree": (90, 220, 60), "crown": (90, 220, 60), "plant": (60, 180, 75), "grass": (150, 200, 20)},
    **{"soil": (165, 100, 40), "water": (0, 110, 230), "road": (170, 170, 180), "object": (255, 190, 0)},
    **{"building": (240, 50, 230), "roof": (240, 50, 230), "car": (40, 200, 220)},
}
"""What is in many pictures, told apart by hand."""


def by_index(index: int) -> Colour:
    """The colour of a class or an instance by its number."""
    if index < len(FIRST):
        return FIRST[index]
    return _bright(index * 0.618034)  # the golden section: neighbours come out apart


def by_name(name: str) -> Colour:
    """The colour of a class by its name."""
    if name.lower() in NAMED:
        return NAMED[name.lower()]
    return _bright(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) / 2**32)


def _bright(hue: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
