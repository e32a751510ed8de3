"""What each rule finds in a line, and what it leaves alone."""

from __future__ import annotations

import random
import time

import pytest

from swath.operators.documents.redact_rules import RULES, WINDOW, digitised, found

FOUND = {
    "iban": [
        ("IBAN: [DE89 3704 0044 0532 0130 00] BIC COBADEFF"),
        ("acct [FR76 3000 6000 0112 3456 7890 189] end"),
        ("[NL91ABNA0417164300]"),
        ("split by OCR [DE 89 37 04 0044 0532 01 3000] x"),
        ("misread [DE89 37O4 0O44 0532 0130 00]"),
        ("wrong check digits in its groups [DE88 3704 0044 0532 0130 01]"),
        ("IBAN [DE88370400440532013001]"),
        ("DE88370400440532013001 is no IBAN and not called one"),
        ("invoice DE12 34 of 2024"),
    ],
    "card": [
        "Card [4111 1111 1111 1111] exp 12/27",
        "[4111-1111-1111-1111]",
        "split [41 11 1111 11 11 1111]",
        "misread [4I11 1111 11l1 1111]",
        "12 [4111 1111 1111 1111] 99",
        "Amex [3782 822463 10005]",
        "one digit off 4111 1111 1111 1112",
        "an EAN 4006381333931",
        "amounts 4.11 11.11 11.11 11.11 11.11",
        "masked XXXX XXXX XXXX 1111",
    ],
    "email": [
        "mail [john.doe@example.com] now",
        "[john . doe @ example . com]",
        "[john.doe©example.org]",
        "e-mail:[anna_b+x@mail.example.com],",
        "[bob@localhost]",
        "© 2020 Foo",
        "2 @ 3.50",
    ],
    "phone": [
        "Tel: [03-8888 7777]",
        "call [+49 30 901820] now",
        "[+ 49 (0) 30 9018 20]",
        "Fax No. : [07-559 8899 / 07-559 8900]",
        "[0044 20 7946 0018]",
        "Invoice 0012345678",
        "Total 12.50",
        "Hotel 1234567",
    ],
    "tax_number": [
        "VAT [DE136695976] x",
        "USt-IdNr. [DE 136 695 976]",
        "Steuer-Nr.: [27/123/45678]",
        "GST ID No : [000123456789]",
        "Tax ID [12-3456789] Date",
        "NIF: [B12345674]",
        "GST 6% 12.00",
        "VAT 20% 1200.00",
        "TAX INVOICE NO 1234567",
        "DE136695970 fails its check",
    ],
    "identity_number": [
        "SSN [078-05-1120]",
        "[123-45-6789]",
        "Passport No: [C01X00T47]",
        "[12345678Z]",
        "[RSSMRA85T10A562S]",
        "[P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<]",
        "born [AB 12 34 56 C]",
        "ticket 20240512-1234",
        "MUSIC 12345",
    ],
}


@pytest.mark.parametrize(("rule", "marked"), [(rule, text) for rule, texts in FOUND.items() for text in texts])
def test_a_rule_finds_what_is_in_brackets_and_nothing_else(rule: str, marked: str) -> None:
    text = marked.replace("[", "").replace("]", "")
    wanted = {place for place in _bracketed(marked) if not text[place].isspace()}
    marks = {place for start, end in found(rule, text) for place in range(start, end) if not text[place].isspace()}
    assert "".join(text[place] for place in sorted(marks)) == "".join(text[place] for place in sorted(wanted))


def _bracketed(marked: str) -> set[int]:
    places, inside, place = set(), False, 0
    for char in marked:
        if char in "[]":
            inside = char == "["
            continue
        if inside:
            places.add(place)
        place += 1
    return places


def test_numbers_of_a_country_are_phones_only_where_the_pipeline_says_so() -> None:
    text = "020 7946 0018"
    assert list(found("phone", text)) == []
    assert list(found("phone", text, ("GB",))) == [(0, len(text))]


@pytest.mark.parametrize("before", [0, WINDOW - 20, WINDOW, 3 * WINDOW - 5])
def test_a_long_text_is_looked_at_to_its_end(before: int) -> None:
    text = "x " * (before // 2) + "bob@example.com"
    assert (len(text) - 15, len(text)) in list(found("email", text))


def test_letters_become_digits_only_among_digits() -> None:
    assert digitised("O1l2 Ibis BOSS 4O06 |23") == "0112 Ibis BOSS 4006 123"


@pytest.mark.parametrize("rule", RULES)
def test_no_text_of_a_stranger_makes_a_rule_slow(rule: str) -> None:
    rng = random.Random(7)
    hostile = ["4" * 10_000, "1 " * 5_000, "a." * 5_000, "a.b_c-" * 1_600 + "@", "DE12" * 2_500, "DE12 " * 2_000]
    hostile += ["tel: " * 2_000, "vat no " * 1_400, "<" * 10_000, "A1" * 5_000, "+1 " * 3_000, "a @ " * 2_500]
    hostile += ["".join(rng.choices("aAD0159 .-@/:+<", k=10_000)) for _ in range(4)]
    for text in hostile:
        started = time.process_time()
        list(found(rule, text, ("DE",)))
        assert time.process_time() - started < 2, text[:20]
