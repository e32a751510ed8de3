"""An operator whose values depend on its settings, for tests of what changed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from swath.operators.core.base import BYTES, Item, ItemOperator, Reject
from swath.schemas.columns import Column
from swath.schemas.items import Reason
from swath.schemas.types import FIELDS, LABELS


class Guess(ItemOperator):
    """Guesses from the length of a file: a score, a kind, labels, and fields."""

    version = 1
    shift: float = 0
    long: int = 12
    strict: bool = False

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES,)

    def outputs(self) -> tuple[Column, ...]:
        return (
            Column("score", pa.float32(), "A number"),
            Column("kind", pa.string(), "short or long"),
            Column("tops", LABELS, "Labels"),
            Column("read", FIELDS, "Fields"),
        )

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        size = len(item["bytes"])
        if self.strict and size > 20:
            raise Reject(Reason.TOO_LARGE, "too long")
        kind = "long" if size >= self.long else "short"
        fields = {"total": f"{size + self.shift:g}", "line_items[1].amount": "1", "line_items[2].amount": "2"}
        fields |= {"iban": "X"} if self.long < 12 else {"issuer": "Y"}
        return {
            "score": size + self.shift,
            "kind": kind,
            "tops": [{"label": kind, "score": 0.9}, {"label": "other", "score": 0.1}],
            "read": [{"name": name, "value": value} for name, value in fields.items()],
        }
