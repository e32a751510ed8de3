"""Operators for tests of a run's life: they read text files in microseconds, and fail where they are told to."""

from __future__ import annotations

import os
import time
from typing import Any

import pyarrow as pa

from swath.operators.core.base import BYTES, Item, ItemOperator, Reject
from swath.schemas.columns import Column
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
