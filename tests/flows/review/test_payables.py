"""Accounts payable, from a folder of PDFs and a table of orders to what matches, what does not, and who must look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas
from tests.flows.review.conftest import Swath

ORDERS = """number,vendor,amount
PO-0017,Nordwind Trading,119.00
PO-0018,Acme Components,208.00
"""
PIPELINE = """
name: payables
steps:
  - decode
  - ocr
  - document_type
  - extract_fields
  - match_reference:
      reference: orders.csv
      key: number
      numbers: {purchase_order: number}
      names: {issuer: vendor}
      amounts: {total: amount}
"""
ASKED = "document_number,purchase_order,issuer,issue_date,total"


def draw_invoice(path: Path, vendor: str, number: str, order: str, net: float, tax: float) -> None:
    canvas = Canvas(str(path), pagesize=A4)
    canvas.setFont("Helvetica-Bold", 16)
    canvas.drawString(60, 780, vendor)
    canvas.setFont("Helvetica", 11)
    canvas.drawString(60, 760, "12 Harbour Street, Dublin D02 X285")
    canvas.drawString(60, 690, "INVOICE")
    said = {"Invoice number": number, "Purchase order": order, "Invoice date": "2026-05-12"}
    amounts = {"Subtotal": net, "Tax": tax, "Total due": net + tax}
    for y, (label, text) in zip(range(660, 0, -18), said.items(), strict=False):
        canvas.drawString(60, y, f"{label}: {text}")
    for y, (label, amount) in zip(range(480, 0, -18), amounts.items(), strict=False):
        canvas.drawString(380, y, label)
        canvas.drawRightString(530, y, f"EUR {amount:.2f}")
    canvas.save()


def printed(swath: Swath, *arguments: str) -> Any:
    """The JSON that a command prints."""
    code, text, errors = swath(*arguments)
    assert code == 0, errors
    return json.loads(text)


def test_a_folder_of_invoices_becomes_matches_mismatches_and_a_list_for_a_person(
    swath: Swath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"HOME": str(tmp_path / "home"), "USER": "anna", "REVIEW_FIELDS": ASKED, "REVIEW_THRESHOLD": "0.5"}
    for name, value in settings.items():
        monkeypatch.setenv(f"SWATH_{name}", value)
    monkeypatch.chdir(tmp_path)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    draw_invoice(inbox / "a.pdf", "Nordwind Trading Ltd.", "INV-1001", "PO-0017", 100, 19)
    draw_invoice(inbox / "b.pdf", "Acme Components GmbH", "RE-2002", "PO-0018", 200, 38)
    draw_invoice(inbox / "c.pdf", "Harbour Supplies Inc.", "77-3003", "PO-0999", 50, 9.5)
    (tmp_path / "orders.csv").write_text(ORDERS)
    (tmp_path / "payables.yaml").write_text(PIPELINE)
    printed(swath, "run", "payables.yaml", "inbox", "--ray", "off", "--json")

    query = "SELECT source_uri, match_status, match_key FROM items ORDER BY source_uri"
    statuses = printed(swath, "sql", query, "--format", "json")
    assert [(row["match_status"], row["match_key"]) for row in statuses] == [
        ("matched", "PO-0017"),
        ("mismatch", "PO-0018"),
        ("unknown", None),
    ]
    waiting = printed(swath, "review", "list", "--json")
    assert [(Path(row["source_uri"]).name, row["reason"]) for row in waiting] == [
        ("b.pdf", "mismatch"),
        ("c.pdf", "unknown"),
    ]
    assert waiting[0]["detail"] == "total 238.00, expected 208.00 (+30.00)"
    (rate,) = printed(swath, "sql", "SELECT documents, first_pass FROM review_rate", "--format", "json")
    assert rate == {"documents": 3, "first_pass": 1}
    printed(swath, "review", "next", "--crop", "look.jpg", "--json")
    assert (tmp_path / "look.jpg").stat().st_size > 1000

    printed(swath, "review", "decide", waiting[0]["review_id"], "--value", "matched", "--why", "freight", "--json")
    statuses = printed(swath, "sql", query, "--format", "json")
    assert [row["match_status"] for row in statuses] == ["matched", "matched", "unknown"]
    assert len(printed(swath, "review", "list", "--json")) == 1
