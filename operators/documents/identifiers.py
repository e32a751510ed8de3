"""Numbers with a shape or checksum of their own: IBAN, BIC, tax ids, document numbers, addresses of mail and web."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module

from swath.operators.documents.shapes import pattern, spans


@dataclass(frozen=True)
class Identifier:
    """Something with a shape of its own in a text."""

    start: int
    end: int
    value: str
    """Normalised: no spaces, upper case where case means nothing."""
    checksum: bool | None = None
    """Whether its checksum holds; None where it has none that is known."""


_IBAN = pattern(r"[A-Z]{2} ?[0-9]{2}(?:[ -]?[A-Z0-9]){8,30}")
_TOKEN = pattern(r"[#A-Za-z0-9][A-Za-z0-9/_.#+\-]*")
_MAIL = pattern(r"[A-Za-z0-9._%+\-]+ ?@ ?[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+")
_WEB = pattern(
    r"(?i)(?:https?://)?(?:www\.)?[a-z0-9\-]+(?:\.[a-z0-9\-]+)*"
    r"\.(?:com|org|net|info|biz|eu|io|co|[a-z]{2})(?:\.[a-z]{2})?(?:/[^ ]*)?"
)
_PHONE = pattern(r"[+(]?[0-9][0-9 ()./\-]{5,18}[0-9]")
_BIC = pattern(r"[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?")
_TAX = (
    pattern(r"\b[A-Z]{2}E?[ \-]?[A-Z0-9]{0,2}[ .\-]?[0-9](?:[ .\-]?[0-9A-Z]){5,12}"),
    pattern(r"[0-9]{2}[A-Z]{5}[0-9]{4}[A-Z][0-9A-Z]{3}"),
    pattern(r"[0-9](?:[ .\-]?[0-9]){7,14}"),
)


def ibans(text: str) -> list[Identifier]:
    """What looks like an IBAN, with its checksum (ISO 13616) and, where the text runs on, the longest valid start."""
    from stdnum import iban

    found = []
    for start, end in spans(_IBAN, text):
        if text[start - 1 : start].isalnum():
            continue
        ends = [i for i in range(start + 12, end + 1) if i == end or text[i] in " -"]
        valid = [i for i in ends if iban.is_valid(text[start:i])]
        chosen = max(valid) if valid else min(ends, key=lambda i: abs(len(_plain(text[start:i])) - 22))
        found.append(Identifier(start, chosen, _plain(text[start:chosen]), bool(valid)))
    return found


def tax_ids(text: str) -> list[Identifier]:
    """What could be a tax number; the checksum is known for those with a country's letters and some others."""
    found: list[Identifier] = []
    for start, end in (span for shape in _TAX for span in spans(shape, text)):
        taken = any(start < one.end and end > one.start for one in found)
        if taken or text[start - 1 : start].isalnum() or text[end : end + 1].isalnum():
            continue
        start = _without_lead(text, start, end)
        value = _plain(text[start:end])
        if sum(character.isdigit() for character in value) >= 5:
            found.append(Identifier(start, end, value, tax_checksum(value)))
    return found


def _without_lead(text: str, start: int, end: int) -> int:
    """Where the number itself begins, when two letters before it are a word (`ID NL810433941B01`)."""
    later = start + 3
    whole = tax_checksum(_plain(text[start:end]))
    return later if not whole and text[start + 2 : later] == " " and tax_checksum(_plain(text[later:end])) else start


_BARE = ("in_.gstin", "au.abn", "fr.siret", "fr.siren", "it.iva", "es.nif")
"""Tax numbers that are written without letters of a country; tried only to confirm, never to refuse."""


@cache
def _validator(name: str) -> object:
    return import_module(f"stdnum.{name}")


def tax_checksum(value: str) -> bool | None:
    """Whether the checksum of a VAT number with a country's letters holds; for one without letters True where that of
    a known kind holds, else None. Rules: python-stdnum, after the tax offices' own."""
    from stdnum import vatin

    if value[:2].isalpha():
        country = "el" if value[:2] == "GR" else value[:2].lower()
        try:
            vatin.compact(value)  # raises for a country it does not know
            import_module(f"stdnum.{'gr' if country == 'el' else country}")
        except Exception:
            return None
        return bool(vatin.is_valid(value))
    return True if any(_validator(name).is_valid(value) for name in _BARE) else None  # type: ignore[attr-defined]


def tokens(text: str) -> list[Identifier]:
    """The tokens of a text that could be numbers of papers: at least one digit, no decimal mark alone."""
    found = []
    for start, end in spans(_TOKEN, text):
        while end > start and text[end - 1] in "./-+":
            end -= 1
        if end > start:
            found.append(Identifier(start, end, text[start:end]))
    return found


def mails(text: str) -> list[Identifier]:
    return [Identifier(s, e, text[s:e].replace(" ", "").lower()) for s, e in spans(_MAIL, text)]


def webs(text: str) -> list[Identifier]:
    """Web addresses without the path to one of their pages; those of mail are none."""
    found = []
    for start, end in spans(_WEB, text):
        alone = not (text[start - 1 : start] and text[start - 1] in "@._-") and text[end : end + 1] not in ("@", "-")
        if alone and not text[start - 1 : start].isalnum() and not text[end : end + 1].isalnum():
            scheme, mark, rest = text[start:end].rpartition("://")
            found.append(Identifier(start, end, (scheme + mark + rest.partition("/")[0]).rstrip(".").lower()))
    return found


def phones(text: str) -> list[Identifier]:
    """What could be a telephone number: 7 to 15 digits (ITU-T E.164)."""
    found = []
    for start, end in spans(_PHONE, text):
        digits = sum(character.isdigit() for character in text[start:end])
        if 7 <= digits <= 15 and not text[start - 1 : start].isalnum() and not text[end : end + 1].isalnum():
            found.append(Identifier(start, end, text[start:end]))
    return found


def bics(text: str) -> list[Identifier]:
    from stdnum import bic

    return [
        Identifier(s, e, text[s:e], True)
        for s, e in spans(_BIC, text)
        if not text[s - 1 : s].isalnum() and not text[e : e + 1].isalnum() and bic.is_valid(text[s:e])
    ]


def _plain(text: str) -> str:
    return "".join(character for character in text.upper() if character.isalnum())
