"""Invoices and receipts whose totals add up, as scans and PDFs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from swath.flows.demo.files import broken, encode, write
from swath.flows.demo.paper import Page, Text, picture, scan, scanned_pdf, text_pdf
from swath.operators.core.base import Pixels
from swath.schemas.items import Reason

A4 = (595, 842)
"""Points."""
RECEIPT_WIDTH = 227
"""Points; a roll of 80 mm."""
ROWS_ON_FIRST_PAGE, ROWS_ON_PAGE = 24, 34

VENDORS = (
    ("Miller Farm Supplies Ltd", "14 Mill Lane, Norwich NR2 4TQ"),
    ("Harbour Print and Paper", "3 Quay Street, Bristol BS1 5UH"),
    ("Alder Tools Limited", "88 Station Road, Leeds LS1 4DY"),
    ("Greenfield Seeds", "Unit 6, Orchard Park, York YO10 3EP"),
    ("The Corner Bakery", "21 High Street, Oxford OX1 4AH"),
    ("Northern Office Market", "102 Bridge Street, Chester CH1 1RS"),
)
CUSTOMERS = ("Swath Demo Company, 1 Test Road, London N1 9GU", "Upland Growers, Long Barn, Ely CB7 4DL")
GOODS = (
    ("Winter wheat seed 25 kg", 3150), ("Drip hose 100 m", 4890), ("Work gloves", 795), ("Pruning shears", 2249),
    ("Copier paper A4", 459), ("Toner cartridge black", 6399), ("Ring binder", 289), ("Wooden crate", 1120),
    ("Soil test kit", 1875), ("Garden fork", 2995), ("Filter coffee 1 kg", 1399), ("Rye bread", 420),
    ("Apple juice 1 l", 265), ("Cheese roll", 380), ("Rubber boots", 3450), ("LED lamp 10 W", 649),
)  # fmt: skip
"""Description and unit price in pence."""

BROKEN = (Reason.EMPTY, Reason.TRUNCATED, Reason.NOT_AN_IMAGE)


@dataclass(frozen=True)
class Line:
    description: str
    quantity: int
    unit_price: int
    """Pence, as every amount here."""

    @property
    def amount(self) -> int:
        return self.quantity * self.unit_price


@dataclass(frozen=True)
class Document:
    """What an invoice or a receipt says; its totals add up."""

    kind: str
    vendor: str
    address: str
    customer: str
    number: str
    issued: date
    lines: tuple[Line, ...]
    tax_percent: int = 20

    @property
    def net(self) -> int:
        return sum(line.amount for line in self.lines)

    @property
    def tax(self) -> int:
        return (self.net * self.tax_percent + 50) // 100

    @property
    def total(self) -> int:
        return self.net + self.tax

    def truth(self) -> dict[str, Any]:
        """The fields as plain values, amounts as decimal strings in pounds."""
        return {
            "kind": self.kind,
            "vendor": self.vendor,
            "number": self.number,
            "date": self.issued.isoformat(),
            "currency": "GBP",
            "net": money(self.net),
            "tax": money(self.tax),
            "total": money(self.total),
            "lines": [
                {"description": line.description, "quantity": line.quantity, "amount": money(line.amount)}
                for line in self.lines
            ],
        }


def money(pence: int) -> str:
    return f"{pence // 100}.{pence % 100:02}"


def write_document(rng: np.random.Generator, kind: str, rows: int) -> Document:
    """A document of `rows` lines; `kind` is invoice or receipt."""
    vendor, address = VENDORS[rng.integers(len(VENDORS))]
    chosen = [GOODS[index % len(GOODS)] for index in rng.permutation(max(rows, len(GOODS)))[:rows]]
    return Document(
        kind=kind,
        vendor=vendor,
        address=address,
        customer=CUSTOMERS[rng.integers(len(CUSTOMERS))],
        number=f"{'INV' if kind == 'invoice' else 'R'}-{rng.integers(10_000, 99_999)}",
        issued=date(2025, 1, 2) + timedelta(days=int(rng.integers(300))),
        lines=tuple(Line(name, int(rng.integers(1, 7)), price) for name, price in chosen),
    )


def set_invoice(document: Document) -> list[Page]:
    """The invoice on as many A4 pages as its lines need."""
    width, height = A4
    head = [
        Text(50, 70, 20, document.vendor),
        Text(50, 88, 10, document.address),
        Text(width - 50, 70, 22, "INVOICE", right=True),
        Text(50, 140, 10, "Bill to: " + document.customer),
        Text(width - 50, 110, 11, f"Invoice No: {document.number}", right=True),
        Text(width - 50, 126, 11, f"Date: {document.issued:%d/%m/%Y}", right=True),
    ]
    first, rest = document.lines[:ROWS_ON_FIRST_PAGE], document.lines[ROWS_ON_FIRST_PAGE:]
    chunks = [first, *(rest[start : start + ROWS_ON_PAGE] for start in range(0, len(rest), ROWS_ON_PAGE))]
    pages = []
    for number, chunk in enumerate(chunks, start=1):
        y = 190 if number == 1 else 70
        texts = head.copy() if number == 1 else [Text(50, 45, 10, f"{document.vendor}, {document.number}")]
        texts += _columns(y, "Description", "Qty", "Unit price", "Amount")
        for line in chunk:
            y += 20
            texts += _columns(y, line.description, str(line.quantity), money(line.unit_price), money(line.amount))
        if number == len(chunks):
            for label, amount in _sums(document):
                y += 24
                texts += [Text(420, y, 12, label, right=True), Text(width - 50, y, 12, money(amount), right=True)]
        texts.append(Text(width - 50, height - 30, 9, f"Page {number} of {len(chunks)}", right=True))
        pages.append(Page(width, height, tuple(texts)))
    return pages


def set_receipt(document: Document) -> Page:
    """The receipt on one strip of paper, as long as it must be."""
    right = RECEIPT_WIDTH - 14
    texts = [
        Text(14, 34, 14, document.vendor),
        Text(14, 50, 9, document.address.partition(",")[0]),
        Text(14, 63, 9, document.address.partition(", ")[2]),
        Text(14, 84, 10, f"Receipt: {document.number}"),
        Text(14, 98, 10, f"Date: {document.issued:%d/%m/%Y}"),
    ]
    y = 122.0
    for line in document.lines:
        texts += [Text(14, y, 10, f"{line.quantity} x {line.description}")]
        texts += [Text(right, y, 10, money(line.amount), right=True)]
        y += 16
    for label, amount in _sums(document):
        y += 18
        texts += [Text(14, y, 12, label), Text(right, y, 12, money(amount), right=True)]
    texts.append(Text(14, y + 30, 10, "Thank you, please come again"))
    return Page(RECEIPT_WIDTH, y + 50, tuple(texts))


def draw_receipt(rng: np.random.Generator, rows: int = 6, skew: float = 1.2) -> tuple[Pixels, Document]:
    """A phone's photo of a receipt, (H, W, 3) uint8 sRGB, and what it says."""
    document = write_document(rng, "receipt", rows)
    return scan(rng, picture(set_receipt(document), 200), skew, shadow=0.35), document


def draw_invoice(rng: np.random.Generator, rows: int = 10, skew: float = -0.8) -> tuple[Pixels, Document]:
    """The scan of an invoice's first page, (H, W, 3) uint8 sRGB, and what it says."""
    document = write_document(rng, "invoice", rows)
    return scan(rng, picture(set_invoice(document)[0]), skew), document


def draw_folder(folder: Path, seed: int) -> dict[str, Any]:
    """The demo's documents: scans of receipts and invoices, a text PDF, a scanned PDF, and broken files.

    Returns `files`, `items` (pages), `rejects` (path in the folder to reason) and `documents` (path to what it says).
    """
    rng = np.random.default_rng([seed, 2])
    contents: dict[str, bytes] = {}
    documents: dict[str, Document] = {}
    for number in range(1, 6):
        name = f"receipt_{number}.jpg"
        pixels, documents[name] = draw_receipt(rng, 2 + number, rng.uniform(-2, 2))
        contents[name] = encode(pixels)
    for number in range(1, 5):
        name = f"invoice_{number}.png"
        pixels, documents[name] = draw_invoice(rng, 4 + 3 * number, rng.uniform(-1.5, 1.5))
        contents[name] = encode(Image.fromarray(pixels).convert("L"), "PNG")
    documents["invoice_text.pdf"] = written = write_document(rng, "invoice", 40)
    contents["invoice_text.pdf"] = text_pdf(set_invoice(written))
    documents["invoice_scanned.pdf"] = written = write_document(rng, "invoice", 30)
    scans = [scan(rng, picture(page), rng.uniform(-1, 1)) for page in set_invoice(written)]
    contents["invoice_scanned.pdf"] = scanned_pdf(scans)

    pages = len(contents) + 2  # both PDFs have two
    rejects = {"broken_encrypted.pdf": str(Reason.ENCRYPTED)}
    contents["broken_encrypted.pdf"] = text_pdf(set_invoice(written), password="not known to the demo")
    for reason in BROKEN:
        name = f"broken_{reason}.jpg"
        contents[name] = broken(reason, rng, contents["receipt_1.jpg"])
        rejects[name] = str(reason)
    for name, content in contents.items():
        write(folder / name, content)
    said = {name: document.truth() for name, document in documents.items()}
    return {"files": len(contents), "items": pages + len(rejects), "rejects": rejects, "documents": said}


def expected(said: dict[str, Any]) -> str:
    """What an office expects to be billed for, as CSV: of the drawn invoices one is dearer than it should be, and one
    was never ordered."""
    invoices = [truth for _, truth in sorted(said.items()) if truth["kind"] == "invoice"]
    rows = [f"{truth['number']},{truth['vendor']},{truth['total']}" for truth in invoices[:-2]]
    dearer = invoices[-2]
    rows.append(f"{dearer['number']},{dearer['vendor']},{Decimal(dearer['total']) - 100}")
    return "\n".join(["invoice,vendor,amount", *rows, ""])


def _columns(y: float, description: str, quantity: str, price: str, amount: str) -> list[Text]:
    return [
        Text(50, y, 11, description),
        Text(350, y, 11, quantity, right=True),
        Text(440, y, 11, price, right=True),
        Text(A4[0] - 50, y, 11, amount, right=True),
    ]


def _sums(document: Document) -> list[tuple[str, int]]:
    tax = f"VAT {document.tax_percent}%"
    return [("Subtotal", document.net), (tax, document.tax), ("Total GBP", document.total)]
