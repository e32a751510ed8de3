"""Papers as lines of text: what an engine would have read, with a box a word. Nothing is rendered."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

TODAY = date(2026, 6, 30)
LETTER = 12.0
"""Width of a letter of 20 pixels' height."""


def line(x: float, y: float, text: str, height: float = 20.0, confidence: float = 0.98) -> dict[str, Any]:
    """A line whose words stand a letter apart."""
    width = LETTER * height / 20
    words, at = [], x
    for word in text.split():
        box = {"x_min": at, "y_min": y, "x_max": at + width * len(word), "y_max": y + height}
        words.append({"text": word, "confidence": confidence, "box": box})
        at = box["x_max"] + width * 0.6
    box = {"x_min": x, "y_min": y, "x_max": words[-1]["box"]["x_max"], "y_max": y + height}
    return {"text": " ".join(text.split()), "confidence": confidence, "box": box, "words": words}


def page(lines: Sequence[dict[str, Any]], number: int | None = 1, document: str = "d") -> dict[str, Any]:
    return {"object_id": document, "item_id": f"{document}-{number}", "page": number, "lines": list(lines)}


def turned(lines: Sequence[dict[str, Any]], size: tuple[float, float]) -> list[dict[str, Any]]:
    """As they stand in a scan that lies on its head; `size` is (width, height)."""

    def over(box: dict[str, float]) -> dict[str, float]:
        return {
            "x_min": size[0] - box["x_max"],
            "y_min": size[1] - box["y_max"],
            "x_max": size[0] - box["x_min"],
            "y_max": size[1] - box["y_min"],
        }

    return [
        {**one, "box": over(one["box"]), "words": [{**word, "box": over(word["box"])} for word in one["words"]]}
        for one in lines
    ]


WORDS = {
    "en": ("Invoice", "Invoice No", "Invoice Date", "Due Date", "Subtotal", "VAT 20%", "Total", "Bill To"),
    "de": (
        "Rechnung",
        "Rechnungsnummer",
        "Rechnungsdatum",
        "Fällig am",
        "Nettobetrag",
        "MwSt. 20%",
        "Gesamtbetrag",
        "Kunde",
    ),
    "fr": ("Facture", "Numéro de facture", "Date de facture", "Échéance", "Total HT", "TVA 20%", "Total TTC", "Client"),
    "es": (
        "Factura",
        "Número de factura",
        "Fecha de factura",
        "Vencimiento",
        "Base imponible",
        "IVA 20%",
        "Total a pagar",
        "Cliente",
    ),
    "it": (
        "Fattura",
        "Numero fattura",
        "Data fattura",
        "Scadenza",
        "Imponibile",
        "IVA 20%",
        "Totale fattura",
        "Cliente",
    ),
    "nl": (
        "Factuur",
        "Factuurnummer",
        "Factuurdatum",
        "Vervaldatum",
        "Totaal excl. btw",
        "BTW 20%",
        "Totaal incl. btw",
        "Klant",
    ),
}
HEADS = {
    "en": ("Description", "Qty", "Unit Price", "Amount"),
    "de": ("Beschreibung", "Menge", "Einzelpreis", "Betrag"),
    "fr": ("Désignation", "Quantité", "Prix unitaire", "Montant"),
    "es": ("Descripción", "Cantidad", "Precio", "Importe"),
    "it": ("Descrizione", "Quantità", "Prezzo", "Importo"),
    "nl": ("Omschrijving", "Aantal", "Prijs", "Bedrag"),
}
GOODS = ("Garden hose", "Oak table", "Paper towels", "Steel bolts", "Desk lamp", "Copper wire", "Wool blanket")


def invoice(seed: int, language: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """An invoice of one of three layouts, and what it says."""
    rng = random.Random(seed)
    decimal = "." if language == "en" else ","

    def money(value: Decimal) -> str:
        text = f"{value:,.2f}"
        return text if decimal == "." else text.replace(",", " ").replace(".", ",").replace(" ", ".")

    title, number_label, date_label, due_label, net_label, tax_label, total_label, customer_label = WORDS[language]
    issued = date(2025, 1, 1) + timedelta(days=rng.randrange(400))
    due = issued + timedelta(days=30)
    number = f"{rng.choice('ABKR')}{rng.randrange(10_000, 99_999)}"
    issuer, customer = "Kessler & Brandt GmbH", "Norwood Partners"
    items = [
        (good, rng.randrange(1, 9), Decimal(rng.randrange(150, 90_000)) / 100)
        for good in rng.sample(GOODS, rng.randrange(2, 6))
    ]
    net = sum((count * price for _, count, price in items), Decimal(0))
    tax = (net * Decimal("0.2")).quantize(Decimal("0.01"))
    layout = seed % 3
    x = (60, 700, 60)[layout]
    lines = [line(x, 60, issuer, 34), line(x, 110, "Hauptstrasse 12"), line(x, 140, "10115 Berlin")]
    lines += [line((700, 60, 60)[layout], 230, title, 40)]
    pairs = [(number_label, number), (date_label, issued.strftime("%d.%m.%Y")), (due_label, due.strftime("%d.%m.%Y"))]
    for place, (label, value) in enumerate(pairs):
        if layout == 2:  # heads above their values
            lines += [line(60 + 380 * place, 300, label), line(60 + 380 * place, 330, value)]
        else:
            lines += [line(700, 300 + 30 * place, f"{label}:"), line(1050, 300 + 30 * place, value)]
    lines += [line(60, 420, f"{customer_label}:"), line(60, 450, customer), line(60, 480, "4 Mill Lane")]
    columns = (60, 640, 820, 1080)
    lines += [line(at, 560, head) for at, head in zip(columns, HEADS[language], strict=True)]
    y = 600
    for good, count, price in items:
        values = (good, str(count), money(price), money(count * price))
        lines += [line(at, y, text) for at, text in zip(columns, values, strict=True)]
        y += 36
    y += 60
    for label, value in ((net_label, net), (tax_label, tax), (total_label, net + tax)):
        lines += [line(700, y, label), line(1080, y, f"{money(value)}")]
        y += 36
    lines += [line(60, y + 80, "IBAN: DE89 3704 0044 0532 0130 00"), line(700, y + 80, "EUR")]
    rng.shuffle(lines) if layout == 1 else None  # an engine's order is not always the reader's
    told = {
        "issuer": issuer,
        "customer": customer,
        "document_number": number,
        "issue_date": issued.isoformat(),
        "due_date": due.isoformat(),
        "currency": "EUR",
        "net": f"{net:.2f}",
        "tax": f"{tax:.2f}",
        "total": f"{net + tax:.2f}",
        "iban": "DE89370400440532013000",
    }
    for place, (good, count, price) in enumerate(items, 1):
        told |= {
            f"line_items[{place}].description": good,
            f"line_items[{place}].quantity": str(count),
            f"line_items[{place}].unit_price": f"{price:.2f}",
            f"line_items[{place}].amount": f"{count * price:.2f}",
        }
    return lines, told
