"""Operators that see all pages of a document at once."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from typing import Any, ClassVar, Literal

from swath.operators.core.base import Batch, Item, Operator, must_be, rows


class DocumentOperator(Operator):
    """Looks at the pages of one document together and writes to the first of them; the others get None."""

    scope: ClassVar[Literal["item", "object"]] = "object"

    @abstractmethod
    def process(self, pages: list[Item], model: Any) -> dict[str, Any]:
        """The output columns of one document, from its pages in their order; raises Reject."""

    def run(self, batch: Batch, model: Any) -> Batch:
        declared = self.produced()
        produced: Batch = {name: [None] * len(next(iter(batch.values()))) for name in declared}
        documents: dict[str, list[int]] = defaultdict(list)
        items = rows(batch)
        for index, item in enumerate(items):
            documents[item["object_id"]].append(index)
        for places in documents.values():
            result = self.process([items[index] for index in places], model)
            must_be(declared, result)
            for name in declared:
                produced[name][places[0]] = result[name]
        return produced
