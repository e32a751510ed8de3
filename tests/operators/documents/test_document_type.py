"""Types of drawn papers, from their words and the layout of their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.operators.documents.papers import WORDS, invoice, line, page

from swath.operators.documents.document_type import DocumentType
from swath.schemas.errors import ConfigurationError

PAPERS = {
    "receipt": [
        "City Bakery",
        "12 High Street",
        "RECEIPT",
        "Cashier: Ann",
        "Bread 4.50",
        "Total 4.50",
        "Cash 5.00",
        "Change 0.50",
        "Thank you",
    ],
    "purchase_order": [
        "Acme Ltd",
        "PURCHASE ORDER",
        "PO Number: 4711",
        "Vendor: Best Bolts",
        "Delivery date: 3 May 2025",
        "Steel bolts 40 0.50 20.00",
        "Authorized by: J. Doe",
    ],
    "remittance": [
        "Acme Ltd",
        "Remittance Advice",
        "We have paid the invoices below",
        "Payment date: 3 May 2025",
        "Invoice A1 100.00",
        "Total paid 100.00",
    ],
    "claim_form": [
        "North Insurance",
        "MOTOR CLAIM FORM",
        "Please complete in block capitals",
        "Policy number: P-99812",
        "Date of loss: 3 May 2025",
        "Description of loss",
        "Signature of insured",
    ],
    "letter": [
        "Acme Ltd",
        "Dear Mrs Brown,",
        "thank you for your letter of last week about the delay of our train to the north.",
        "We would like to ask you for a little more patience in the matter of refunds.",
        "Yours sincerely,",
        "J. Doe",
    ],
    "identity_document": [
        "PASSPORT",
        "Surname",
        "DOE",
        "Given names",
        "JANE",
        "Nationality",
        "UTOPIAN",
        "Date of birth 03 MAY 1990",
        "P<UTODOE<<JANE<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<",
    ],
    "other": [
        "A walk in the hills",
        "Take the path by the old mill and turn left at the oak.",
        "After an hour you see the lake.",
    ],
}
GERMAN = {
    "letter": [
        "Acme GmbH",
        "Sehr geehrte Frau Braun,",
        "vielen Dank für Ihr Schreiben der letzten Woche zu der Verspätung.",
        "Mit freundlichen Grüßen",
        "J. Doe",
    ],
    "claim_form": [
        "Nord Versicherung",
        "Schadenanzeige",
        "Versicherungsnummer: 123456",
        "Schadentag: 03.05.2025",
        "Unterschrift des Versicherungsnehmers",
    ],
}


def answer(*pages: dict[str, Any], operator: DocumentType | None = None) -> dict[str, Any]:
    operator = operator or DocumentType()
    batch = {name: [one[name] for one in pages] for name in pages[0]}
    return {name: made[0] for name, made in operator.run(batch, operator.load()).items()}


def paper(texts: list[str]) -> dict[str, Any]:
    heights = [20.0] + [34.0 if text.isupper() and len(text) < 20 else 20.0 for text in texts[1:]]
    return page([line(60, 60 + 50 * n, text, heights[n]) for n, text in enumerate(texts)])


@pytest.mark.parametrize(
    ("kind", "texts"), [*PAPERS.items(), *GERMAN.items()], ids=[*PAPERS, *(f"german {kind}" for kind in GERMAN)]
)
def test_papers_are_told_by_their_words(kind: str, texts: list[str]) -> None:
    found = answer(paper(texts))
    assert found["document_type"] == kind, found["document_types"]
    assert found["document_type_confidence"] > 0.4


@pytest.mark.parametrize("language", list(WORDS))
def test_invoices_are_told_in_every_language(language: str) -> None:
    assert answer(page(invoice(0, language)[0]))["document_type"] == "invoice"


def test_the_probabilities_are_of_all_types_and_sum_to_one() -> None:
    found = answer(paper(PAPERS["receipt"]))
    shares = [one["score"] for one in found["document_types"]]
    assert sum(shares) == pytest.approx(1, abs=0.001)
    assert shares == sorted(shares, reverse=True)
    assert {one["label"] for one in found["document_types"]} == {*PAPERS, "invoice"}
    assert found["document_type_confidence"] == shares[0]


def test_a_title_in_small_print_is_less_sure_than_one_at_the_top() -> None:
    texts = ["Acme Ltd", "12 High Street", "INVOICE", "Invoice No: 12", "Due date: 3 May 2025", "Total 12.00"]
    above = answer(paper(texts))
    below = answer(
        page(
            [
                line(60, 60 + 50 * n, text)
                for n, text in enumerate(
                    [*texts[:2], "Goods", "Total", "Due date: 3 May 2025", "see our invoice for more"]
                )
            ]
        )
    )
    share = {one["label"]: one["score"] for one in below["document_types"]}
    assert above["document_type"] == "invoice"
    assert share["invoice"] < above["document_type_confidence"]


def test_a_narrow_paper_with_sums_is_a_receipt_rather_than_an_invoice() -> None:
    texts = ["Corner Shop", "Tax Invoice", "Milk 2.00", "Total 2.00", "Cash 5.00", "Change 3.00"]
    assert answer(paper(texts))["document_type"] == "receipt"


def test_the_type_is_that_of_the_whole_document_and_stands_on_its_first_page() -> None:
    operator = DocumentType()
    pages = [page([line(60, 60, "Enclosed")], 1), paper(PAPERS["purchase_order"]) | {"item_id": "d-2", "page": 2}]
    batch = {name: [one[name] for one in pages] for name in pages[0]}
    assert operator.run(batch, operator.load())["document_type"] == ["purchase_order", None]


def test_a_page_without_text_is_other() -> None:
    found = answer(page([]))
    assert found["document_type"] == "other"


def test_types_of_ones_own_stand_beside_the_shipped_ones(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("types:\n  delivery_note:\n    titles: [delivery note]\n    words: [carrier, pallets]\n")
    operator = DocumentType(types=(str(own),))
    texts = ["Acme Ltd", "Delivery Note", "Carrier: Swift", "3 pallets"]
    assert answer(paper(texts), operator=operator)["document_type"] == "delivery_note"
    assert answer(paper(PAPERS["letter"]), operator=operator)["document_type"] == "letter"
    assert operator.model_digest() != DocumentType().model_digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("types:\n  a: {}\n", r"own\.yaml:2: types\.a: nothing tells this type"),
        ("types:\n  other:\n    words: [x]\n", r"own\.yaml:\d: .*cannot be called 'other'"),
        ("types:\n  a:\n    words: [x]\n    layout:\n      - {measure: width}\n", r"own\.yaml:5: .*at_least"),
        ("types:\n  a:\n    shapes: ['(']\n", r"own\.yaml:3: .*no pattern that RE2 takes"),
        ("type:\n  a:\n    words: [x]\n", r"own\.yaml:\d: .*"),
    ],
)
def test_an_error_in_a_file_of_types_names_file_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        DocumentType(types=(str(own),)).check()
