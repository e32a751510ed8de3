"""Dates in text, in the orders and languages that business papers use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Literal

from swath.operators.documents.cells import fold
from swath.operators.documents.shapes import pattern, spans

Order = Literal["day_first", "month_first"]
EARLIEST = date(1970, 1, 1)

_NUMERIC = pattern(r"[0-9]{1,4} ?[-/.\\] ?[0-9]{1,2} ?[-/.\\] ?(?:[0-9]{4}|[0-9]{2})")
_CJK = pattern(r"[0-9]{4} ?年 ?[0-9]{1,2} ?月 ?[0-9]{1,2} ?日")
_COMPACT = pattern(r"[0-9]{8}")
_DIGITS = pattern(r"[0-9]+")
_TIME = pattern(r"^[0-9]{1,2}:[0-9]{2}")
"""What OCR joins to the year before it."""
MONTHS = (
    "jan january januar janner janvier janv enero ene gennaio gen januari janeiro jän",
    "feb february februar feber fevrier fevr febrero febbraio februari fevereiro fev",
    "mar march marz mar mrz mars marzo maart mrt marco",
    "apr april avril avr abril abr aprile",
    "may mai mayo maggio mag mei maio",
    "jun june juni juin junio giugno giu junho",
    "jul july juli juillet juil julio luglio lug julho",
    "aug august aout agosto ago augustus",
    "sep sept september septembre septiembre settembre set setembro",
    "oct october oktober okt octobre octubre ottobre ott outubro out",
    "nov november novembre noviembre novembro",
    "dec december dezember dez decembre diciembre dic dicembre dezembro",
)
"""Names of the months and their short forms: English, German, French, Spanish, Italian, Dutch, Portuguese."""


@dataclass(frozen=True)
class Found:
    """A date in a text. Where day and month could be exchanged, `value` has the day first and `other` the month."""

    start: int
    end: int
    value: date
    other: date | None = None
    compact: bool = False
    """Eight digits without marks: a date only where something else says so."""


def dates(text: str) -> list[Found]:
    """The dates of a text, left to right."""
    found = [one for start, end in spans(_NUMERIC, text) if (one := _numeric(text, start, end))]
    found += [one for start, end in spans(_CJK, text) if (one := _cjk(text, start, end))]
    found += [one for start, end in spans(_named(), fold(text)) if (one := _with_month(text, start, end))]
    found += [one for start, end in spans(_COMPACT, text) if (one := _eight(text, start, end))]
    return sorted(found, key=lambda one: one.start)


def order_of(text: str) -> Order | None:
    """The order that one numeric date tells by a number above 12; None where it tells none."""
    for start, end in spans(_NUMERIC, text):
        parts = _numbers(text[start:end])
        if len(parts) == 3 and len(parts[0]) <= 2 and len(parts[2]) == 4 and _alone(text, start, end):
            first, second = int(parts[0]), int(parts[1])
            if 12 < first <= 31 and 1 <= second <= 12:
                return "day_first"
            if 12 < second <= 31 and 1 <= first <= 12:
                return "month_first"
    return None


def _numbers(text: str) -> list[str]:
    return [text[start:end] for start, end in spans(_DIGITS, text)]


def _alone(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    joined = before != "" and before in "/-_.\\" and text[start - 2 : start - 1].isalnum()
    more = after.isdigit() and _TIME.search(text[end : end + 5]) is None
    return not (before.isdigit() or more or joined)


def _numeric(text: str, start: int, end: int) -> Found | None:
    parts = _numbers(text[start:end])
    if len(parts) != 3 or not _alone(text, start, end):
        return None
    one, two, three = (int(part) for part in parts)
    if len(parts[0]) == 4:
        value = _date(one, two, three) if len(parts[2]) <= 2 else None
        return Found(start, end, value) if value else None
    if len(parts[0]) == 3 or (text[end : end + 1] in ("/", "-", ".") and text[end + 1 : end + 2].isdigit()):
        return None
    if text[start - 1 : start].isalpha() and len(parts[2]) < 4:
        return None
    year = three if len(parts[2]) == 4 else 2000 + three if three < 70 else 1900 + three
    day_first, month_first = _date(year, two, one), _date(year, one, two)
    if day_first is None and month_first is None:
        return None
    if day_first is None or month_first is None:
        return Found(start, end, day_first or month_first)  # type: ignore[arg-type]
    return Found(start, end, day_first, month_first)


def _cjk(text: str, start: int, end: int) -> Found | None:
    value = _date(*(int(part) for part in _numbers(text[start:end])))
    return Found(start, end, value) if value else None


def _eight(text: str, start: int, end: int) -> Found | None:
    raw = text[start:end]
    around = text[start - 1 : start], text[end : end + 1]
    if any(one.isalnum() or one in ("-", ".", "/", "_") for one in around if one):
        return None
    value = _date(int(raw[4:]), int(raw[2:4]), int(raw[:2])) or _date(int(raw[:4]), int(raw[4:6]), int(raw[6:]))
    return Found(start, end, value, compact=True) if value and 1990 <= value.year <= 2100 else None


@cache
def _month_numbers() -> dict[str, int]:
    return {fold(name): number for number, names in enumerate(MONTHS, 1) for name in names.split()}


@cache
def _names() -> list[str]:
    return sorted(_month_numbers(), key=len, reverse=True)


@cache
def _named() -> object:
    """Over folded text: digits there may have become letters (0 an o, 1 an l)."""
    names = "|".join(_names())
    digit = "[0-9ol]"
    day, year = f"{digit}{{1,2}}(?:st|nd|rd|th|er|º|°)?", f"(?:{digit}{{4}}|{digit}{{2}})"
    of = "(?: *de *| *di *| *of *| *)"
    return pattern(
        rf"(?:{day}){of}(?:{names}){of}(?:{year})"
        rf"|(?:{names}) *(?:{day}) *(?:{year})|(?:{year}) *(?:{names}) *(?:{day})",
        longest=True,
    )


def _with_month(text: str, start: int, end: int) -> Found | None:
    before, after = text[start - 1 : start], text[end : end + 1]
    if before.isalnum() or after.isalnum():
        return None
    if any(not (character.isalnum() or character in " .,-/'’º°") for character in text[start:end]):
        return None
    folded = fold(text[start:end])
    name = next((one for one in _names() if one in folded), "")
    at = start + folded.find(name)
    outside = f"{text[start:at]} {text[at + len(name) : end]}"
    digits = _numbers(outside.replace("O", "0").replace("o", "0").replace("l", "1"))
    month = _month_numbers().get(name, 0)
    if len(digits) != 2:
        return None
    first, second = digits
    day, year = (second, first) if len(first) == 4 else (first, second)
    century = int(year) if len(year) == 4 else 2000 + int(year)
    value = _date(century, month, int(day))
    return Found(start, end, value) if value else None


def _date(year: int, month: int, day: int) -> date | None:
    try:
        value = date(year, month, day)
    except ValueError:
        return None
    return value if value >= EARLIEST and value.year < 2200 else None
