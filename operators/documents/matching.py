"""A document's fields against the user's own table: does the order exist, is it this vendor, is it that sum."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, model_validator

from swath.operators.core.base import Item, Resources
from swath.operators.documents.by_document import DocumentOperator
from swath.operators.documents.reference import Reference, code, name, read_reference, reference_path
from swath.operators.models.files import file_digest
from swath.schemas.columns import Column
from swath.schemas.items import MANIFEST
from swath.schemas.types import FIELDS, MATCHES

MATCHED, MISMATCH, UNKNOWN = "matched", "mismatch", "unknown"
_SLIP_LENGTH = 5
"""Characters of a number from which on one wrong one still points to a single order."""


class MatchReference(DocumentOperator):
    """Looks a document up in a table of the user's, by number or name, and says what agrees and what differs.

    `numbers`, `names` and `amounts` map a field of the document to a column of the table. The row is found by the
    first of the numbers, else by the names; where neither leads to one row, the outcome is `unknown`.
    """

    version: ClassVar[int] = 1

    reference: str
    """Path or file:// URI of a Parquet or CSV file (UTF-8, with a header; commas, semicolons or tabs)."""
    key: str
    """The column that names a row: an order's or a vendor's number."""
    numbers: dict[str, str] = Field(default_factory=dict)
    """Compared by letters and digits alone: `purchase_order: number`, `currency: currency`."""
    names: dict[str, str] = Field(default_factory=dict)
    """Compared by likeness: `issuer: vendor`."""
    amounts: dict[str, str] = Field(default_factory=dict)
    """Compared with a tolerance: `total: amount`."""
    min_similarity: float = Field(default=0.85, gt=0, le=1)
    """From this likeness on two names are one; 1 is equal but for case, accents, punctuation and legal form."""
    tolerance: Decimal = Field(default=Decimal("0.01"), ge=0)
    """Difference of amounts that is none, in the currency of the document."""
    tolerance_percent: Decimal = Field(default=Decimal(0), ge=0, le=100)
    """The same as a share of the expected amount; the larger of the two counts."""
    resources: Resources = Resources(cpus=0.25)

    @model_validator(mode="after")
    def _says_how(self) -> MatchReference:
        if not self.numbers and not self.names:
            raise ValueError("give `numbers:` or `names:`, by which a row of the reference table is found")
        return self

    def inputs(self) -> tuple[Column, ...]:
        owner = next(column for column in MANIFEST if column.name == "object_id")
        return (owner, Column("fields", FIELDS, "What the document says; on its first page"))

    def outputs(self) -> tuple[Column, ...]:
        return (
            Column("match_status", pa.string(), "matched; mismatch, `matches` says in what; or unknown: no row fits"),
            Column("match_key", pa.string(), "Key of the row of the reference table; null where unknown"),
            Column("matches", MATCHES, "Each field that was compared, with the outcome"),
        )

    def model_digest(self) -> str | None:
        return file_digest(reference_path(self.reference))

    def check(self) -> None:
        self.load()

    def load(self) -> Reference:
        columns = (self.key, *self.numbers.values(), *self.names.values(), *self.amounts.values())
        return read_reference(self.reference, columns, self.amounts.values(), self.numbers, self.names)

    def process(self, pages: list[Item], model: Any) -> dict[str, Any]:
        fields = next((page["fields"] for page in pages if page["fields"] is not None), None)
        return dict.fromkeys(self.produced()) if fields is None else self._match(fields, model)

    def _match(self, fields: list[dict[str, Any]], reference: Reference) -> dict[str, Any]:
        found = {field["name"]: field["value"] for field in fields if field["value"] is not None}
        compared = [self._compare(found, reference, row) for row in self._candidates(found, reference)]
        compared.sort(key=lambda one: one.distance)
        best = compared[:1]
        if len(compared) > 1 and compared[1].distance == best[0].distance and compared[1].key != best[0].key:
            return self._unknown(found, f"several rows: {best[0].key}, {compared[1].key}")
        if not best:
            return self._unknown(found, None)
        agrees = all(one["outcome"] == MATCHED for one in best[0].elements)
        return {
            "match_status": MATCHED if agrees else MISMATCH,
            "match_key": best[0].key,
            "matches": best[0].elements,
        }

    def _candidates(self, found: dict[str, Any], reference: Reference) -> Iterable[int]:
        """The rows that may be meant: those of the number; without one that is known, those of the name, but where
        the number is only one character off, or is missing altogether, another field must agree as well."""
        for field in self.numbers:
            if rows := reference.by_number(field, code(found.get(field))):
                return rows
        for field in self.names:
            rows = reference.by_name(field, found.get(field), self.min_similarity)
            if rows and not self.numbers:
                return rows
        first = next(iter(self.numbers), None)
        if first is None:
            return ()
        near = reference.near_number(first, code(found.get(first)), _SLIP_LENGTH)
        named = [row for field in self.names for row in reference.by_name(field, found.get(field), self.min_similarity)]
        if found.get(first) is not None:
            return [row for row in near if row in named or self._same_amount(found, reference, row)]
        return [row for row in named if self._same_amount(found, reference, row)]

    def _same_amount(self, found: dict[str, Any], reference: Reference, row: int) -> bool:
        elements = [self._amount(field, column, found, reference, row) for field, column in self.amounts.items()]
        return any(one["outcome"] == MATCHED for one in elements if one)

    def _compare(self, found: dict[str, Any], reference: Reference, row: int) -> _Compared:
        key = reference.text(self.key, row) or ""
        elements = [
            *(self._number(field, column, found, reference, row) for field, column in self.numbers.items()),
            *(self._name(field, column, found, reference, row) for field, column in self.names.items()),
            *(self._amount(field, column, found, reference, row) for field, column in self.amounts.items()),
        ]
        return _Compared(key, [{"key": key, **one} for one in elements if one])

    def _number(self, field: str, column: str, found: dict[str, Any], reference: Reference, row: int) -> Any:
        expected = reference.text(column, row)
        if not expected:
            return None
        return _element(field, found.get(field), expected, code(found.get(field)) == code(expected))

    def _name(self, field: str, column: str, found: dict[str, Any], reference: Reference, row: int) -> Any:
        from rapidfuzz import fuzz

        expected = reference.text(column, row)
        if not expected:
            return None
        similarity = fuzz.token_sort_ratio(name(found.get(field)), name(expected)) / 100
        return _element(field, found.get(field), expected, similarity >= self.min_similarity, similarity=similarity)

    def _amount(self, field: str, column: str, found: dict[str, Any], reference: Reference, row: int) -> Any:
        expected = reference.amount(column, row)
        if expected is None:
            return None
        try:
            difference = Decimal(str(found[field])) - expected
        except (KeyError, InvalidOperation):
            return _element(field, found.get(field), str(expected), agrees=False)
        allowed = max(self.tolerance, abs(expected) * self.tolerance_percent / 100)
        agrees = difference.is_finite() and abs(difference) <= allowed
        return _element(field, found[field], str(expected), agrees, difference=float(difference))

    def _unknown(self, found: dict[str, Any], expected: str | None) -> dict[str, Any]:
        field = next(iter(self.numbers), None) or next(iter(self.names))
        element = {**_element(field, found.get(field), expected, agrees=False), "key": None, "outcome": UNKNOWN}
        return {"match_status": UNKNOWN, "match_key": None, "matches": [element]}


@dataclass(frozen=True)
class _Compared:
    """One row of the reference table beside the document."""

    key: str
    elements: list[dict[str, Any]]

    @property
    def distance(self) -> tuple[float, ...]:
        """How far off it is: fields that differ, then unlikeness of names, then difference of amounts."""
        differ = [one for one in self.elements if one["outcome"] != MATCHED]
        unlike = sum(1 - one["similarity"] for one in self.elements if one["similarity"] is not None)
        amounts = sum(abs(one["difference"]) for one in self.elements if one["difference"] is not None)
        return len(differ), round(unlike, 6), round(amounts, 6) if math.isfinite(amounts) else math.inf


def _element(
    field: str,
    found: Any,
    expected: str | None,
    agrees: bool,
    difference: float | None = None,
    similarity: float | None = None,
) -> dict[str, Any]:
    """A value of the list `swath.schemas.types.MATCHES`, but for its key."""
    return {
        "field": field,
        "found": found,
        "expected": expected,
        "outcome": MATCHED if agrees else MISMATCH,
        "difference": difference,
        "similarity": similarity,
    }
