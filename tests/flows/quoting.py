"""An operator that does what none should: it quotes the page in what it raises."""

from __future__ import annotations

from typing import Any, ClassVar

import pyarrow as pa

from swath.operators.core.base import Item, ItemOperator
from swath.schemas.columns import Column


class Quote(ItemOperator):
    """Raises the text of pages that say so."""

    version: ClassVar[int] = 1

    def inputs(self) -> tuple[Column, ...]:
        return (Column("text", pa.string(), "All lines, joined by newlines"),)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("quoted", pa.bool_(), "Whether it went well"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        if "WRONG" in item["text"]:
            raise ValueError(item["text"])
        return {"quoted": True}
