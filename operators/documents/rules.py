"""Checks between fields, as a template writes them: `net + tax = total`, `due_date >= issue_date`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict

_RULE = re.compile(r"\s*([^=<>]{1,200}?)\s*(>=|<=|=)\s*([^=<>]{1,200}?)\s*")
_TERM = re.compile(r"\s*([+-]?)\s*(sum\(\s*[a-z][a-z0-9_.]*\s*\)|[a-z][a-z0-9_]*)")
TOLERANCE = Decimal("0.05")
"""Of equal sums: what cash is rounded to, and the rounding of a tax a line at a time."""

Value = Decimal | date
Terms = tuple[tuple[int, str], ...]
"""Sign and name; `line_items.amount` for the sum of a column."""


class Rule(BaseModel):
    """A comparison of two sums of fields; the right side may name alternatives with `|`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    left: Terms
    relation: Literal["=", ">=", "<="]
    right: tuple[Terms, ...]

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Raises ValueError for what is no rule."""
        match = _RULE.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is no check; write one like `net + tax = total` or `due_date >= issue_date`")
        left, relation, right = match.groups()
        return cls(left=_terms(left, text), relation=relation, right=tuple(_terms(p, text) for p in right.split("|")))

    @property
    def names(self) -> set[str]:
        """The fields it reads."""
        return {name.partition(".")[0] for terms in (self.left, *self.right) for _, name in terms}

    def confirmed(self, values: Mapping[str, Value], columns: Mapping[str, Sequence[Decimal]]) -> set[str]:
        """The fields that it confirms: of alternatives, those of the ones that hold."""
        left = _sum(self.left, values, columns)
        holding = [terms for terms in self.right if _compared(left, self.relation, _sum(terms, values, columns))]
        return {name.partition(".")[0] for terms in (self.left, *holding) for _, name in terms} if holding else set()

    def holds(self, values: Mapping[str, Value], columns: Mapping[str, Sequence[Decimal]]) -> bool | None:
        """Whether it holds; None where a field it needs is missing. `columns` has those of the line items."""
        left = _sum(self.left, values, columns)
        results = [_compared(left, self.relation, _sum(terms, values, columns)) for terms in self.right]
        known = [result for result in results if result is not None]
        return any(known) if known else None


def _terms(text: str, rule: str) -> Terms:
    terms: list[tuple[int, str]] = []
    at = 0
    for match in _TERM.finditer(text):
        if match.start() != at or (terms and not match[1]):
            break
        name = match[2].removeprefix("sum(").removesuffix(")").strip()
        terms.append((-1 if match[1] == "-" else 1, name))
        at = match.end()
    if not terms or text[at:].strip():
        raise ValueError(f"{rule!r} is no check: {text[at:].strip() or text!r} is no sum of fields")
    return tuple(terms)


def _sum(terms: Terms, values: Mapping[str, Value], columns: Mapping[str, Sequence[Decimal]]) -> Value | None:
    if len(terms) == 1 and isinstance(values.get(terms[0][1]), date):
        return values[terms[0][1]]
    total = Decimal(0)
    for sign, name in terms:
        value = sum(columns[name], Decimal(0)) if columns.get(name) else values.get(name)
        if not isinstance(value, Decimal):
            return None
        total += sign * value
    return total


def _compared(left: Value | None, relation: str, right: Value | None) -> bool | None:
    if isinstance(left, date) and isinstance(right, date):
        return {"=": left == right, ">=": left >= right, "<=": left <= right}[relation]
    if not (isinstance(left, Decimal) and isinstance(right, Decimal)):
        return None
    if relation == "=":
        return abs(left - right) <= max(TOLERANCE, abs(right) / 2000)
    return left >= right - TOLERANCE if relation == ">=" else left <= right + TOLERANCE
