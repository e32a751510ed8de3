"""Amounts of money and plain numbers in text, in both conventions: 1,234.56 and 1.234,56."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from swath.operators.documents.shapes import pattern, spans

_NUMBER = pattern(
    r"[-−–]?\(?[-−]?"
    r"(?:[0-9OoSlI]{1,3}(?:[.,'’ ][0-9OoSlI]{3})+(?:[.,] ?[0-9OoSlI]{1,4})?"
    r"|[0-9OoSlI]{1,12}(?:[.,]{1,2} ?[0-9OoSlI]{1,4})?)"
    r"\)?[-−]?"
)
_MISREAD = str.maketrans({"O": "0", "o": "0", "l": "1", "I": "1", "S": "5"})
_JOINED = "0123456789.,/:-\\°#@_"
"""What may not touch an amount: it would be a part of a date, a time, a phone or an article number."""


@dataclass(frozen=True)
class Amount:
    """A number in a text."""

    start: int
    end: int
    value: Decimal
    decimals: int
    """Digits after the decimal mark; 0 where there is none."""
    remark: bool = False
    """In brackets after words, as the base of a tax is: no minus, and seldom what the words mean."""


def amounts(text: str) -> list[Amount]:
    """The numbers of a text that stand alone, signs and brackets (-1.00, 1.00-, (1.00)) as minus."""
    found = []
    for start, end in spans(_NUMBER, text):
        one = _amount(text, start, end)
        if one is not None:
            found.append(one)
    return found


def _amount(text: str, start: int, end: int) -> Amount | None:
    raw = text[start:end]
    digits = sum(character.isdigit() for character in raw)
    letters = sum(character.isalpha() for character in raw)
    before, after = text[start - 1 : start], text[end : end + 1]
    if not digits or letters > digits or (letters and not ("." in raw or "," in raw)):
        return None
    two_before = text[start - 2 : start - 1]
    joined = two_before.isdigit() if before == ":" else two_before.isalnum() if before == "-" else True
    if before and before in _JOINED and joined:
        return None
    if raw[0] in "-−–" and before.isalnum():
        return None
    if after.isdigit() or (after in "/:\\°#_-" and after and text[end + 1 : end + 2].isalnum()):
        return None
    if (after in (".", ",") and text[end + 1 : end + 2].isdigit()) or after == "%":
        return None
    if after == " " and text[end + 1 : end + 2] == "%":
        return None
    if before.isalpha() and letters:
        return None
    remark = raw[0] == "(" and sum(character.isalpha() for character in text[:start]) > 3
    value, decimals = number(raw.strip("()") if remark else raw)
    return None if value is None else Amount(start, end, value, decimals, remark)


def number(raw: str) -> tuple[Decimal | None, int]:
    """The value of a written number and how many decimals it was written with; None where it is none.

    Of two kinds of marks the last is the decimal one; a single mark before exactly three digits parts thousands,
    unless zero stands before it.
    """
    negative = any(sign in raw for sign in "-−–(")
    text = "".join(c for c in raw.translate(_MISREAD) if c.isdigit() or c in ".,'’ ")
    text = text.replace("..", ".").replace(",,", ",").replace(". ", ".").replace(", ", ",")
    for mark in "'’ ":
        text = text.replace(mark, "")
    last = max(text.rfind("."), text.rfind(","))
    decimals = len(text) - last - 1 if last >= 0 else 0
    if last >= 0:
        mark, head = text[last], text[:last]
        other = "," if mark == "." else "."
        thousands = decimals == 3 and head not in ("", "0") and other not in head and len(head.rpartition(mark)[2]) <= 3
        if thousands or head.count(mark):
            decimals = 0
            text = text.replace(mark, "") if other not in text else text
            if other in text:
                return None, 0
        else:
            text = head.replace(other, "") + "." + text[last + 1 :]
    if not text or text == "." or not any(c.isdigit() for c in text):
        return None, 0
    value = Decimal(text)
    return (-value if negative else value), decimals


def written(value: Decimal) -> str:
    """As it is stored: a point, no exponent, at least the decimals it has."""
    return format(value, "f")
