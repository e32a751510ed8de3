"""Operators for tests of a run's life: they read text files in microseconds, and fail where they are told to."""

from __future__ import annotations

import os
import time
from typing import Any

import pyarrow as pa

from swath.operators.core.base import BYTES, Item, ItemOperator, Reject
from swath.schemas.columns import Column, list_of
from swath.schemas.items import Reason


class Length(ItemOperator):
    """The length of the file; files that start with `bad` are rejects, and those that start with `slow` take time."""

    version = 1
    reason: str = "corrupt"

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES,)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("length", pa.int64(), "Length of the file", "bytes"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        content = item["bytes"]
        if content.startswith(b"bad"):
            raise Reject(Reason(os.environ.get("TOY_REASON", self.reason)), "told to be bad")
        if content.startswith(b"slow"):
            time.sleep(0.2)
        return {"length": len(content)}


class Tag(ItemOperator):
    """A constant."""

    version = 1
    value: str = "a"

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES,)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("tag", pa.string(), "What it was told"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        return {"tag": self.value}


class Number(ItemOperator):
    """A column of the name of Tag's, but a number."""

    version = 1

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES,)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("tag", pa.int64(), "A number"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        return {"tag": 1}


class Twice(ItemOperator):
    """Of a column of the table, not of the file; lengths that `refuses` divides are rejects."""

    version = 1
    refuses: int = 0
    plus: int = 0

    def inputs(self) -> tuple[Column, ...]:
        return (Column("length", pa.int64(), "Length of the file", "bytes"),)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("twice", pa.int64(), "Twice the length"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        if self.refuses and item["length"] % self.refuses == 0:
            raise Reject(Reason.CORRUPT, f"{self.refuses} divides {item['length']}")
        return {"twice": 2 * item["length"] + self.plus}


class Group(ItemOperator):
    """A nested value of a column of the table: what is carried over must come through as it was."""

    version = 1
    step: int = 1

    def inputs(self) -> tuple[Column, ...]:
        return (Column("length", pa.int64(), "Length of the file", "bytes"),)

    def outputs(self) -> tuple[Column, ...]:
        parts = list_of(Column("at", pa.float32(), "Place"), Column("text", pa.string(), "What stands there"))
        return (Column("parts", parts, "Parts of the file"), Column("rest", pa.binary(), "The rest"))

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        parts = [{"at": i / 3, "text": str(i) if i % 2 else None} for i in range(0, item["length"], self.step)]
        return {"parts": parts, "rest": bytes([item["length"] % 256])}


class Half(ItemOperator):
    """Half the length: a number with a fraction."""

    version = 1

    def inputs(self) -> tuple[Column, ...]:
        return (Column("length", pa.int64(), "Length of the file", "bytes"),)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("half", pa.float64(), "Half the length", "bytes"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        return {"half": item["length"] / 2}
