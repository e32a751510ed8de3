"""Fields of drawn papers: what is found, where, how surely, and what contradicts it."""

from __future__ import annotations

import random
import time
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from tests.operators.documents.papers import TODAY, WORDS, invoice, line, page, turned
from tests.operators.kit import item, step, through

from swath.operators.documents.cells import MAX_CELLS, document
from swath.operators.documents.fields import ExtractFields
from swath.schemas.types import FIELDS

Row = dict[str, Any]


def fields(*pages: Row, operator: ExtractFields | None = None, kind: str = "invoice") -> dict[str, Row]:
    """By name, the fields of one document."""
    operator = operator or ExtractFields(latest_date=TODAY)
    batch = [{**one, "document_type": kind if index == 0 else None} for index, one in enumerate(pages)]
    columns = {name: [one[name] for one in batch] for name in batch[0]}
    first, *rest = operator.run(columns, operator.load())["fields"]
    assert all(one is None for one in rest)
    pa.array([first], FIELDS)
    return {row["name"]: row for row in first}


def values(found: dict[str, Row]) -> dict[str, str | None]:
    return {name: row["value"] for name, row in found.items()}


@pytest.mark.parametrize("language", list(WORDS))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_field_of_an_invoice_is_found_whatever_language_and_layout(language: str, seed: int) -> None:
    lines, told = invoice(seed, language)
    found = fields(page(lines))
    assert {name: found.get(name, {}).get("value") for name in told} == told
    assert all(not found[name]["failed_checks"] for name in told)
    assert min(found[name]["confidence"] for name in ("total", "net", "tax", "iban")) > 0.8


def test_a_value_has_its_raw_text_its_page_and_its_box() -> None:
    lines, told = invoice(0, "de")
    found = fields(page([line(60, 60, "Deckblatt")], 1), page(lines, 2))
    total = found["total"]
    raw = next(one for one in lines if one["text"] == total["raw"] and one["box"] == total["box"])
    assert raw["box"]["y_min"] > 700
    assert (total["page"], total["item_id"], total["value"]) == (2, "d-2", told["total"])
    assert total["raw"] != total["value"], "German writes a comma"


def test_a_page_that_lies_on_its_head_says_the_same() -> None:
    lines, told = invoice(0, "en")
    found = fields(page(turned(lines, (1400.0, 2000.0))))
    assert {name: found.get(name, {}).get("value") for name in told} == told


def test_a_sum_that_does_not_add_up_fails_its_check_and_is_less_sure() -> None:
    lines, told = invoice(0, "en")
    good = fields(page(lines))
    wrong = f"{float(told['total']) + 10:,.2f}"
    changed = [line(1080, one["box"]["y_min"], wrong) if _is_total(one, told) else one for one in lines]
    assert changed != lines
    bad = fields(page(changed))
    for name in ("net", "tax", "total"):
        assert "net_plus_tax" in bad[name]["failed_checks"], name
        assert bad[name]["confidence"] < good[name]["confidence"] - 0.05
    assert "line_items_sum" not in bad["net"]["failed_checks"], "the items still say that the net is right"
    assert bad["total"]["confidence"] < good["total"]["confidence"] - 0.2


def _is_total(one: Row, told: dict[str, str]) -> bool:
    return bool(one["text"].replace(",", "") == told["total"] and one["box"]["x_min"] == 1080)


def test_items_that_do_not_add_up_are_named() -> None:
    found = fields(
        page(
            [
                line(60, 60, "Acme Ltd"),
                *[line(x, 200, head) for x, head in ((60, "Item"), (500, "Qty"), (640, "Price"), (900, "Amount"))],
                *[line(x, 240, text) for x, text in ((60, "Hammer"), (500, "2"), (640, "10.00"), (900, "25.00"))],
                line(640, 320, "Total"),
                line(900, 320, "40.00"),
            ]
        )
    )
    assert found["line_items[1].amount"]["failed_checks"] == ["line_items_sum", "quantity_times_price"]
    assert found["line_items[1].quantity"]["failed_checks"] == ["quantity_times_price"]
    assert "line_items_sum" in found["total"]["failed_checks"]


@pytest.mark.parametrize(
    ("text", "name", "check"),
    [
        ("IBAN: DE88 3704 0044 0532 0130 00", "iban", "iban_checksum"),
        ("VAT No: NL810433942B01", "tax_id", "tax_id_checksum"),
        ("Invoice date: 12.08.2027", "issue_date", "date_in_future"),
    ],
)
def test_a_checksum_or_a_date_that_cannot_be_is_named_and_doubted(text: str, name: str, check: str) -> None:
    found = fields(page([line(60, 60, "Acme Ltd"), line(60, 200, text)]))
    assert found[name]["failed_checks"] == [check]
    assert found[name]["confidence"] < 0.75


def test_a_due_date_before_the_issue_date_contradicts_both() -> None:
    found = fields(page([line(60, 200, "Invoice date: 12.08.2025"), line(60, 240, "Due date: 01.08.2025")]))
    assert found["due_date"]["failed_checks"] == found["issue_date"]["failed_checks"] == ["due_after_issue"]


def test_two_currencies_on_one_paper_contradict_each_other() -> None:
    lines = [line(60, 200, "Total EUR 12.50"), line(60, 240, "Paid USD 13.90")]
    found = fields(page(lines))
    assert (found["currency"]["value"], found["currency"]["failed_checks"]) == ("EUR", ["one_currency"])


def test_tomorrow_is_no_future_and_the_day_after_is() -> None:
    def checks(text: str) -> list[str]:
        return list(fields(page([line(60, 200, f"Date: {text}")]))["issue_date"]["failed_checks"])

    assert checks("01.07.2026") == []
    assert checks("02.07.2026") == ["date_in_future"]


def test_what_was_given_less_the_change_tells_the_total_from_other_sums() -> None:
    lines = [
        *[line(60, 40, "City Bakery"), line(60, 80, "12 High Street"), line(60, 140, "Date: 03/04/2025 10:11")],
        *[line(60, 200, "Bread"), line(300, 200, "4.33"), line(60, 230, "Cake"), line(300, 230, "6.10")],
        *[line(60, 300, "Sub-total"), line(300, 300, "10.43"), line(60, 330, "Rounding"), line(300, 330, "0.02")],
        *[line(60, 360, "Total"), line(300, 360, "10.45"), line(60, 390, "Cash"), line(300, 390, "20.00")],
        *[line(60, 420, "Change"), line(300, 420, "9.55")],
    ]
    found = values(fields(page(lines), kind="receipt"))
    assert (found["total"], found["issuer"], found["issuer_address"]) == ("10.45", "City Bakery", "12 High Street")
    assert found["issue_date"] == "2025-04-03"


@pytest.mark.parametrize(("indent", "shake"), [(40, 0), (9, 2)])
def test_items_without_a_table_are_the_list_at_one_indent_that_adds_up_to_the_total(indent: int, shake: int) -> None:
    listed = [("Storage", "4.20"), ("Transfer", "0.60"), ("Computing", "5.20")]
    lines = [line(60, 60, "Cloud Ltd"), line(60, 110, "Invoice date: 03.04.2025"), line(60, 150, "Total due")]
    lines += [line(900, 150, "10.00"), line(60, 220, "Service charges"), line(900, 220, "10.00")]
    for number, (what, amount) in enumerate(listed):
        y = 280 + 120 * number
        left = 60 + number % 2 * shake  # engines do not see every line begin where it does
        lines += [line(left, y, what), line(900, y, amount)]
        lines += [line(left + indent, y + 40, "Charges"), line(900, y + 40, amount)]
        lines += [line(60 + indent, y + 80, "Tax"), line(900, y + 80, "0.00")]
    found = values(fields(page(lines)))
    items = [(found[f"line_items[{n}].description"], found[f"line_items[{n}].amount"]) for n in (1, 2, 3)]
    assert items == listed
    assert "line_items[4].amount" not in found
    other = values(fields(page([one for one in lines if one["text"] != "Computing"])))
    assert "Transfer" not in [other.get(f"line_items[{n}].description") for n in range(1, 9)], "nothing adds up"


def test_whose_account_it_is_has_written_the_paper() -> None:
    lines = [line(60, 40, "Public notices", height=30), line(700, 200, "Bill to"), line(700, 230, "Alpine Ltd")]
    lines += [line(60, 900, "Payment by transfer"), line(400, 1100, "NETWORKS")]
    lines += [
        line(60, 90, "www.public-notices.com"),
        line(60, 1140, "VAT No: NL810433941B01 - IBAN: DE89 3704 0044 0532 0130 00"),
    ]
    assert values(fields(page(lines)))["issuer"] == "Public notices"
    told = [*lines, line(60, 930, "Account holder: NETWORKS")]
    assert values(fields(page(told)))["issuer"] == "NETWORKS"


def test_a_name_is_written_as_the_paper_writes_it_elsewhere() -> None:
    lines = [line(60, 40, "Àmazing Café GmbH"), line(60, 200, "Invoice date: 03.04.2025")]
    lines += [line(60, 300 + 40 * n, f"an Amazing thing from the café, number {n}") for n in range(4)]
    assert values(fields(page(lines)))["issuer"] == "Amazing Café GmbH"
    assert values(fields(page(lines[:3])))["issuer"] == "Àmazing Café GmbH", "once is not enough"


def test_a_date_that_reads_both_ways_follows_the_others_on_the_paper() -> None:
    first = values(fields(page([line(60, 200, "Date: 04/05/2025"), line(60, 240, "Printed 04/25/2025")])))
    other = values(fields(page([line(60, 200, "Date: 04/05/2025"), line(60, 240, "Printed 25/04/2025")])))
    dollars = values(fields(page([line(60, 200, "Date: 04/05/2025"), line(60, 240, "Total $12.00")])))
    assert (first["issue_date"], other["issue_date"]) == ("2025-04-05", "2025-05-04")
    assert dollars["issue_date"] == "2025-04-05"


def test_a_name_ends_with_a_legal_form_and_a_street_does_not() -> None:
    lines = [
        line(60, 60, "Bluebell Tools Srl"),
        line(60, 100, "117, Jalan Bagus, Sri Petaling"),
        line(60, 130, "20121 Milano"),
    ]
    found = values(fields(page(lines)))
    assert found["issuer"] == "Bluebell Tools Srl"
    assert found["issuer_address"] == "117, Jalan Bagus, Sri Petaling 20121 Milano"


def test_a_dollar_sign_among_euros_does_not_turn_the_dates() -> None:
    lines = [line(60, 200, "Date: 04/05/2025"), line(60, 240, "Total EUR 12.00"), line(60, 280, "about $ 13")]
    assert values(fields(page(lines)))["issue_date"] == "2025-05-04"


def test_a_required_field_that_is_not_there_is_a_row_without_a_value() -> None:
    found = fields(page([line(60, 200, "nothing to see here")]))
    total = found["total"]
    assert (total["value"], total["confidence"], total["failed_checks"]) == (None, 0.0, ["required"])
    assert total["box"] is None


def test_the_net_that_is_not_printed_follows_from_total_and_tax_and_has_no_box() -> None:
    found = fields(page([line(60, 200, "Total"), line(300, 200, "120.00"), line(60, 240, "GST included 20.00")]))
    assert (found["net"]["value"], found["net"]["box"], found["net"]["raw"]) == ("100.00", None, None)
    assert found["net"]["confidence"] <= found["total"]["confidence"]


def test_what_the_engine_read_badly_is_less_sure() -> None:
    def total(read: float) -> float:
        lines = [line(60, 200, "Total"), line(300, 200, "120.00", confidence=read)]
        return float(fields(page(lines))["total"]["confidence"])

    assert total(0.99) > total(0.6) > total(0.3)


def test_pages_of_two_documents_in_one_batch_stay_apart() -> None:
    operator = ExtractFields(latest_date=TODAY)
    pages = [
        page([line(60, 200, "Total"), line(300, 200, "1.00")], 1, "a"),
        page([line(60, 200, "Total"), line(300, 200, "2.00")], 1, "b"),
    ]
    batch = {name: [one[name] for one in pages] for name in pages[0]} | {"document_type": ["invoice", "invoice"]}
    first, second = operator.run(batch, operator.load())["fields"]
    assert [next(r["value"] for r in rows if r["name"] == "total") for rows in (first, second)] == ["1.00", "2.00"]


def test_in_a_chain_the_fields_land_on_the_first_page_of_their_document() -> None:
    lines, told = invoice(0, "en")
    rows = [
        item(0, document="a.pdf", lines=[line(60, 60, "Cover")], document_type="invoice"),
        item(1, document="a.pdf", lines=lines, document_type=None),
        item(2, document="b.pdf", lines=[], document_type="other"),
    ]
    first, second, third = through(rows, step(ExtractFields(latest_date=TODAY)))
    assert {row["status"] for row in (first, second, third)} == {"ok"}
    assert second["fields"] is None
    total = next(row for row in first["fields"] if row["name"] == "total")
    assert (total["value"], total["page"], total["item_id"]) == (told["total"], 2, second["item_id"])
    assert {row["value"] for row in third["fields"]} == {None}


def hostile_pages() -> list[tuple[str, list[Row]]]:
    rng = random.Random(7)
    noise = "".join(rng.choice("0123456789.,-/ :%$ABCabc()") for _ in range(300))
    every = [line(rng.randrange(2000), rng.randrange(3000), f"Total {n}.00 12/12/{n % 100:02}") for n in range(3_000)]
    return [
        ("a line of a million letters", [{**line(0, 0, "x"), "text": "1,0" * 300_000, "words": []}]),
        ("noise", [line(0, 20.0 * n, noise) for n in range(200)]),
        ("sums everywhere", every),
        ("digits", [line(0, 20.0 * n, "1 " * 150) for n in range(300)]),
        ("one place", [line(10, 10, "Total 1.00") for _ in range(2_000)]),
        (
            "not a number",
            [{**line(0, 0, "Total 1.00"), "box": dict.fromkeys(("x_min", "y_min", "x_max", "y_max"), 1e38)}],
        ),
        ("ligatures", [line(0, 0, "ﷺ" * 400)]),
        ("nothing", [{"text": None, "confidence": None, "box": line(0, 0, "x")["box"], "words": []}]),
    ]


@pytest.mark.parametrize(("what", "lines"), hostile_pages(), ids=[what for what, _ in hostile_pages()])
def test_hostile_text_takes_seconds_at_most(what: str, lines: list[Row]) -> None:
    started = time.perf_counter()
    fields(page(lines))
    assert time.perf_counter() - started < 20, what


def test_a_document_of_many_pages_is_looked_at_only_so_far() -> None:
    pages = document([page([line(0, 20.0 * n, "word") for n in range(200)], number) for number in range(1, 60)])
    assert sum(len(one.cells) for one in pages) == MAX_CELLS
    assert len(pages) == 59


def test_today_is_the_day_after_which_nothing_is_issued() -> None:
    found = fields(page([line(60, 200, f"Date: {date.today():%d.%m.%Y}")]), operator=ExtractFields())
    assert found["issue_date"]["failed_checks"] == []
