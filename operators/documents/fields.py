"""From the lines of a document to its fields: typed, checked against each other, each with a box and a confidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pyarrow as pa

from swath.operators.core.base import Item, Resources
from swath.operators.documents import fields_addresses, fields_checks, fields_items, fields_money, fields_parties
from swath.operators.documents.by_document import DocumentOperator
from swath.operators.documents.cells import Page, document
from swath.operators.documents.fields_labels import Labelled, Labels, rivals_of
from swath.operators.documents.fields_tables import ItemColumns, table_of
from swath.operators.documents.fields_values import Choice, Values, choose, date_order, text_of
from swath.operators.documents.templates import Template, digest, load_templates
from swath.schemas.columns import Column
from swath.schemas.items import MANIFEST
from swath.schemas.types import FIELDS, LINES

BY_SHAPE = (
    *("text", "identifier", "number", "date", "iban", "bic", "tax_id", "email", "phone", "website"),
    "amount",
)


class ExtractFields(DocumentOperator):
    """Finds the fields of a document (issuer, dates, sums, line items ...) wherever on its pages they stand."""

    version: ClassVar[int] = 3

    templates: tuple[str, ...] = ()
    """YAML files of your own, one a document type: labels, types, shapes and checks of its fields."""
    latest_date: date | None = None
    """The day after which no paper can have been issued; today when left out."""
    resources: Resources = Resources(memory_bytes=64 << 20)

    def inputs(self) -> tuple[Column, ...]:
        given = {column.name: column for column in MANIFEST}
        return (
            *(given[name] for name in ("object_id", "item_id", "page")),
            Column("lines", LINES, "Lines of text in reading order, with their words"),
            Column("document_type", pa.string(), "What kind of paper it is"),
        )

    def outputs(self) -> tuple[Column, ...]:
        return (Column("fields", FIELDS, "What the document says: issuer, dates, sums, items; on its first page"),)

    def model_digest(self) -> str:
        return digest(self.templates)

    def check(self) -> None:
        load_templates(self.templates)

    def load(self) -> dict[str, Reader]:
        return {kind: Reader(template) for kind, template in load_templates(self.templates).items()}

    def process(self, pages: list[Item], model: dict[str, Reader]) -> dict[str, Any]:
        kind = next((item["document_type"] for item in pages if item["document_type"]), "")
        reader = model.get(kind, model[""])
        return {"fields": reader.read(document(pages), self.latest_date or date.today())}


@dataclass(frozen=True)
class Judged:
    """A choice and what the checks say of it."""

    choice: Choice
    failed: list[str]
    """The names of the checks that contradict it."""
    passed: int
    """How many confirm it."""


class Reader:
    """A template made ready to read documents with."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self._labels = Labels(template)
        self._rivals = rivals_of(template)
        items = next((name for name, one in template.fields.items() if one.type == "line_items"), None)
        self._columns = ItemColumns(template.fields[items]) if items else None

    def read(self, pages: list[Page], today: date) -> list[dict[str, Any]]:
        """The rows of a document's column `fields`."""
        judged = self.judge(pages, today)
        found = {one.choice.name for one in judged}
        lacking = [name for name, field in self.template.fields.items() if field.required and name not in found]
        return [_row(one) for one in judged] + [_missing(name) for name in lacking]

    def judge(self, pages: list[Page], today: date) -> list[Judged]:
        """The choice for every field that was found, checked: the template's in its order, then the line items."""
        labelled = Labelled(pages, self._labels)
        latest = today + timedelta(days=1)
        values = Values(labelled, None, self._rivals, latest)
        mentions = fields_money.currencies(labelled.cells, values.of("amount"))
        counted_in = fields_money.currency(mentions, {})
        values.order = date_order(labelled.cells, counted_in is not None and counted_in.value == "USD")
        chosen = self._chosen(labelled, values)
        money = fields_money.currency(mentions, chosen)
        if money is not None and "currency" in self.template.fields:
            chosen["currency"] = money
        sums = [one.value for name in ("net", "total") if (one := chosen.get(name)) and isinstance(one.value, Decimal)]
        entries = fields_items.line_items(self._columns, labelled, sums) if self._columns else []
        codes = [code for code, _ in mentions]
        failed, passed = fields_checks.failed_checks(self.template, chosen, entries, codes, today)
        ordered = [chosen[name] for name in self.template.fields if name in chosen]
        return [Judged(one, failed[one.name], passed[one.name]) for one in (*ordered, *fields_items.choices(entries))]

    def _chosen(self, labelled: Labelled, values: Values) -> dict[str, Choice]:
        chosen = fields_money.money(self.template, values)
        chosen |= fields_money.derived(chosen, self.template.fields)
        for name, template in self.template.fields.items():
            if name in fields_money.NAMES and template.type == "amount":
                continue
            found = choose(name, template, values, labelled) if template.type in BY_SHAPE else None
            if template.type == "party":
                found = fields_parties.party(name, template, labelled)
            if found is not None:
                chosen[name] = found
        return chosen | self._issuer(labelled, chosen)

    def _issuer(self, labelled: Labelled, chosen: dict[str, Choice]) -> dict[str, Choice]:
        by_type = {one.type: name for name, one in self.template.fields.items()}
        found: dict[str, Choice] = {}
        if "issuer" in by_type:
            tables = [table_of(page, self._columns) for page in labelled.pages] if self._columns else []
            heads = [cell for table in tables if table for cell in table.heads]
            name, lines = fields_parties.issuer(
                labelled,
                heads,
                {str(one.value) for name, one in chosen.items() if self.template.fields[name].type == "party"},
            )
            address = fields_addresses.address(lines, labelled)[0] if "address" in by_type else None
            if name is not None:
                found[by_type["issuer"]] = name
            if address is not None:
                found[by_type["address"]] = address
        return found


def _row(judged: Judged) -> dict[str, Any]:
    one, cell = judged.choice, judged.choice.cell
    return {
        "name": one.name,
        "value": text_of(one.value),
        "raw": one.raw,
        "confidence": fields_checks.confidence(one, len(judged.failed), judged.passed),
        "item_id": cell.page.item_id if cell else None,
        "page": cell.page.number if cell else None,
        "box": dict(zip(("x_min", "y_min", "x_max", "y_max"), one.box, strict=True)) if one.box else None,
        "failed_checks": judged.failed,
    }


def _missing(name: str) -> dict[str, Any]:
    empty = dict.fromkeys(("value", "raw", "item_id", "page", "box"))
    return {"name": name, **empty, "confidence": 0.0, "failed_checks": ["required"]}
