"""What is sensitive in a line of text: rules that find it, however OCR has split or misread it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

Span = tuple[int, int]
"""First character and the one after the last."""
Rule = Callable[[str, tuple[str, ...]], Iterator[Span]]
"""From a text and the user's regions (ISO 3166 codes, for phone numbers without a country) to what is sensitive."""

WINDOW = 1_000
"""Characters that a rule looks at at once, so that no text makes it slow; a line of print has some hundred."""
OVERLAP = 200
"""Characters that two windows share; nothing that a rule finds is longer."""
_LIKE_DIGITS = str.maketrans("OoQDIl|!ZzSsB", "0000111122558")
_TOKEN = re.compile(r"\S+")
_GAP = r"[ \u00a0.\-–/]{0,3}"


def digitised(text: str) -> str:
    """The text, same length, with letters that OCR takes for digits put right in words that are mostly digits."""

    def mended(token: re.Match[str]) -> str:
        word = token.group()
        signs = sum(char.isalnum() or char in "|!" for char in word)
        return word.translate(_LIKE_DIGITS) if 2 * sum(char.isdigit() for char in word) >= signs else word

    return _TOKEN.sub(mended, text)


def found(rule: str, text: str, regions: tuple[str, ...] = ()) -> Iterator[Span]:
    """The spans of a text that a rule calls sensitive; those of a long text may come twice."""
    for start in range(0, max(len(text) - OVERLAP, 1), WINDOW - OVERLAP):
        for low, high in RULES[rule](text[start : start + WINDOW], regions):
            yield start + low, start + high


# E-mail

_EMAIL = re.compile(
    r"""(?:[\w+%'-]{1,64}(?:\s?[._]\s(?=[\w.+%'-]{1,64}\s?[@©®])|\s\.|[.]))*[\w+%'-]{1,64}
        \s?(?:@|©|®|\(at\)|\[at\])\s?
        [a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*(?:(?<=\.[a-z][a-z])|(?<=\.[a-z][a-z][a-z])|\s?[.,]\s?[a-z]{2,24}\b)?""",
    re.VERBOSE | re.IGNORECASE,
)


def email(text: str, regions: tuple[str, ...]) -> Iterator[Span]:
    """E-mail addresses, also with blanks around the point or the at sign, or with that sign misread."""
    for match in _EMAIL.finditer(text):
        sure = re.search(r"@\s?[\w-]*[a-z]", match.group(), re.IGNORECASE)
        if sure or re.search(r"[.]\s?[a-z]{2,24}$", match.group(), re.IGNORECASE):
            yield match.span()


# Numbers with a checksum

LEAST_IBAN_DIGITS = 8
"""Of what a page calls an IBAN; the shortest, Norway's, has 13."""
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\s?[0-9OIlSBZ]\s?[0-9OIlSBZ](?=[\s.\-–]{0,3}[A-Z0-9])")
_IBAN_SHAPE = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: [A-Z0-9]{4}){3,7}(?: [A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_IBAN_LABEL = re.compile(
    r"\bIBAN\b[\s:.#\-]{0,4}(?:(?:no|nr|number)\b[\s:.#]{0,4})?([A-Za-z]{2}(?:[\s.\-]{0,2}[A-Z0-9|]){13,32})",
    re.IGNORECASE,
)


def iban(text: str, regions: tuple[str, ...]) -> Iterator[Span]:
    """Account numbers of ISO 13616: by checksum, by their groups of four, or because the page calls them IBAN."""
    valid = _stdnum("iban").is_valid
    sure = [match.span() for match in _IBAN_SHAPE.finditer(text)]
    for start in _IBAN_START.finditer(text):
        places = [index for index in range(start.start(), len(text)) if text[index].isalnum()][:34]
        for length in range(15, len(places) + 1):
            end = places[length - 1] + 1
            if end < len(text) and text[end].isalnum():
                continue
            if re.search(r"[^\sA-Za-z0-9.\-–]|\s{4}", text[start.start() : end]):
                break
            signs = "".join(text[index] for index in places[:length]).upper()
            head, body = signs[:2] + signs[2:4].translate(_LIKE_DIGITS), signs[4:]
            bodies = (body, body.translate(_LIKE_DIGITS), body[:4] + body[4:].translate(_LIKE_DIGITS))
            if any(valid(head + one) for one in bodies):
                sure.append((start.start(), end))
                break
    yield from sure
    for match in _IBAN_LABEL.finditer(text):
        low, high = match.span(1)
        digits = sum(char.isdigit() for char in match[1])
        if digits >= LEAST_IBAN_DIGITS and all(high <= start or end <= low for start, end in sure):
            yield low, high


_DIGIT_RUN = re.compile(r"(?<![\w.,])\d+(?:[ \u00a0\-–]{1,3}\d+)*(?![\w]|[.,]\d)")
_CARD = re.compile(
    r"(?:4\d{15}(?:\d{3})?|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3[0689]\d{12}|35\d{14}|6\d{15}(?:\d{3})?)"
)


def card(text: str, regions: tuple[str, ...]) -> Iterator[Span]:
    """Payment card numbers (ISO 7812): an issuer's prefix, its length, and the Luhn digit."""
    valid = _stdnum("luhn").is_valid
    for run in _DIGIT_RUN.finditer(digitised(text)):
        groups = [(run.start() + g.start(), g.group()) for g in re.finditer(r"\d+", run.group())]
        first = 0
        while first < len(groups):
            for last in range(first, min(len(groups), first + 8)):
                number = "".join(group for _, group in groups[first : last + 1])
                if _CARD.fullmatch(number) and valid(number):
                    yield groups[first][0], groups[last][0] + len(groups[last][1])
                    first = last
                    break
            first += 1


# What a label announces

_NUMBER_WORD = (
    r"(?:(?:reg(?:istration|istered)?|id(?:ent\w*)?|no|nos|nr|number|nummer|num[ée]ro|n[úu]mero|n[°ºo]|code|c[óo]digo|\#)"
    r"(?!\w)[\s.:;#\-–/()°º]*)"
)
_ANNOUNCED = r"[\s.:;#=\-–()]*(?P<value>(?:[A-Za-z]{1,4}[\s.\-–/]{0,2})?\d[\w|]*(?:[\s.\-–/]{1,3}[\w|]*\d[\w|]*){0,6})"
_TAX_LABEL = re.compile(
    rf"""\b(?:
        (?:vat|gst|sst|hst|tax(?:payer)?|tva|iva|btw|mwst|ust|u?st|moms|mva|steuer|fiscal|fiscale|fiscaal)
            [\s.\-–/]*{_NUMBER_WORD}{{1,3}}
        |(?:ust-?id(?:nr)?|vatin|tin|ein|itin|abn|gstin|siret|siren|nif|cif|nip|cuit|cnpj|rfc|partita\s?iva|p\.?\s?iva
            |steuernummer|steuer-?nr|steuer-?id|uid|umsatzsteuer\S{{0,20}})\b[\s.]*{_NUMBER_WORD}{{0,2}}
        ){_ANNOUNCED}""",
    re.VERBOSE | re.IGNORECASE,
)
_IDENTITY_LABEL = re.compile(
    rf"""\b(?:
        (?:passport|reisepass|passeport|pasaporte|personalausweis|ausweis|identity(?:\s?card)?|id\s?card|identification
            |national\s(?:id|insurance)|social\s?security|sozialversicherungs?|ssn|nric|mykad|my\s?kad|ic|dni|nie|bsn|pesel|cpf|curp|nino
            |driver'?s?\s?licen[cs]e|driving\s?licen[cs]e|f[üu]hrerschein|insured|patient|policyholder)
            (?:s?nummer)?[\s.\-–/]*{_NUMBER_WORD}{{0,3}}
        ){_ANNOUNCED}""",
    re.VERBOSE | re.IGNORECASE,
)
_PHONE_LABEL = re.compile(
    rf"""(?<![A-Za-z])(?:tel|tél|phone|telephone|telefon|tel[ée]fono|t[ée]l[ée]phone|telefax|fax|mobile|mobil|mob|handy|cell(?:ulare|phone)?
        |gsm|hp|h/p|whatsapp|hotline|call)(?:\.|\b)[\s.:/]*{_NUMBER_WORD}{{0,2}}[\s.:#=\-–]*
        (?P<value>[+(]?\s?\d(?:[\s()./\-–+&,]{{0,3}}\d){{5,30}})""",
    re.VERBOSE | re.IGNORECASE,
)


def _announced(label: re.Pattern[str], text: str) -> Iterator[Span]:
    """What follows a label, where it has the digits of a number."""
    for match in label.finditer(text):
        if sum(char.isdigit() for char in match["value"]) >= 4:
            yield match.span("value")


# Phones

_INTERNATIONAL = re.compile(r"(?<![\w+])(?:\+\s?|00\s?)[1-9](?:[\s().\-–/]{0,3}\d){6,14}(?!\d)")


def phone(text: str, regions: tuple[str, ...]) -> Iterator[Span]:
    """Phone numbers: international ones, those of the regions, and whatever a label calls a phone or a fax."""
    import phonenumbers

    plain = digitised(text)
    for match in _INTERNATIONAL.finditer(plain):
        number = "+" + re.sub(r"\D", "", match.group()).removeprefix("00")
        try:
            parsed = phonenumbers.parse(number, None)
        except phonenumbers.NumberParseException:
            continue
        # A plus means a phone; two noughts may begin any number, so that one must be given to somebody.
        plus = match.group().startswith("+")
        if phonenumbers.is_possible_number(parsed) if plus else phonenumbers.is_valid_number(parsed):
            yield match.span()
    for region in regions:
        for found in phonenumbers.PhoneNumberMatcher(plain, region):
            yield found.start, found.end
    yield from _announced(_PHONE_LABEL, plain)


# Tax and identity numbers

_DASH = r"\s?[-–]\s?"
_TAX = (
    (r"\d{2}[A-Z]{5}\d{4}[A-Z]\dZ[0-9A-Z]", "in_.gstin"),
    (r"\d{2}\s?\.\s?\d{3}\s?\.\s?\d{3}\s?/\s?\d{4}\s?-\s?\d{2}", ""),
)
_IDENTITY = (
    (rf"\d{{3}}{_DASH}\d{{2}}{_DASH}\d{{4}}", ""),
    (r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPR-T][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]", "it.codicefiscale"),
    (r"\d{8}\s?-?\s?[A-Z]", "es.dni"),
    (r"[XYZ]\s?-?\s?\d{7}\s?-?\s?[A-Z]", "es.nie"),
    (r"[12]\s?\d\d\s?[0-1]\d\s?(?:\d\d|2[AB])\s?\d{3}\s?\d{3}\s?\d\d", "fr.nir"),
    (rf"\d{{6}}{_DASH}\d{{2}}{_DASH}\d{{4}}", ""),
    (r"\d{3}\s?\.\s?\d{3}\s?\.\s?\d{3}\s?[-–]\s?\d{2}", ""),
    (r"\d{4}\s\d{4}\s\d{4}", "in_.aadhaar"),
    (r"[A-Z]{5}\d{4}[A-Z]", "in_.pan"),
    (r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d", "mx.curp"),
    (r"\d{6}[-+A]\d{3}[0-9A-Z]", "fi.hetu"),
    (r"\d{17}[0-9X]", "cn.ric"),
    (rf"\d{{6}}{_DASH}[1-4]\d{{6}}", "kr.rrn"),
    (rf"\d{{6}}{_DASH}\d{{4}}", "se.personnummer"),
    (rf"\d{{6}}{_DASH}\d{{4}}", "dk.cpr"),
    (r"756\s?\.\s?\d{4}\s?\.\s?\d{4}\s?\.\s?\d{2}", "ch.ssn"),
    (r"\d{2}\s?\.\s?\d{2}\s?\.\s?\d{2}\s?[-–]\s?\d{3}\s?\.\s?\d{2}", "be.nn"),
    (r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\s?\d{2}\s?\d{2}\s?\d{2}\s?[A-D]", ""),
    (r"(?=[A-Z0-9<]*<<)[A-Z0-9<]{28,46}", ""),
)
"""Pattern of the number as it is written, and the module of python-stdnum that checks it. Only forms that no amount,
date or order number has: the others are found where a label announces them. Those without a module are known by
their form alone, so that a digit that was misread does not show them: US social security, Malaysian and Brazilian
numbers, British National Insurance (HMRC NIM39110), and the machine-readable lines of passports (ICAO 9303)."""
_VAT = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Z]{2})[\s.\-]?(?=[A-Z0-9]*\s?[0-9])[A-Z0-9]{1,12}(?:[\s.\-]{1,2}[A-Z0-9]{1,10}){0,4}"
)


def tax_number(text: str, regions: tuple[str, ...]) -> Iterator[Span]:
    """Tax numbers: VAT numbers of the EU with their check digits, unmistakable forms, and what a label calls one."""
    valid = _stdnum("eu.vat").is_valid
    for match in _VAT.finditer(text):
        ends = [match.start() + word.end() for word in re.finditer(r"[A-Z0-9]+", match.group())]
        end = next(
            (end for end in reversed(ends) if end - match.start() >= 8 and valid(text[match.start() : end])), None
        )
        if end:
            yield match.start(), end
    yield from _checked(_TAX, text)
    yield from _announced(_TAX_LABEL, text)


def identity_number(text: str, regions: tuple[str, ...]) -> Iterator[Span]:
    """Numbers of people: unmistakable forms with their checks, and what a label calls an identity number."""
    yield from _checked(_IDENTITY, text)
    yield from _announced(_IDENTITY_LABEL, text)


def _checked(forms: tuple[tuple[str, str], ...], text: str) -> Iterator[Span]:
    for variant in {text, digitised(text)}:
        for pattern, module in forms:
            for match in _bounded(pattern).finditer(variant):
                if not module or _stdnum(module).is_valid(re.sub(r"\s", "", match.group().replace("–", "-"))):
                    yield match.span()


@cache
def _bounded(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.,/-])(?:{pattern})(?![\w/-]|[.,]\d)")


@cache
def _stdnum(module: str) -> Any:
    return importlib.import_module(f"stdnum.{module}")


RULES: dict[str, Rule] = {
    "iban": iban,
    "card": card,
    "email": email,
    "identity_number": identity_number,
    "tax_number": tax_number,
    "phone": phone,
}
"""In the order in which they claim what several of them find."""
CHECKSUMMED = frozenset({"iban", "card"})
"""Rules that do not find by chance what stands beside or below each other."""
