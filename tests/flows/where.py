"""An operator for tests of several nodes."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

from swath.operators.core.base import BYTES, Item, ItemOperator
from swath.schemas.columns import Column


class Where(ItemOperator):
    """The Ray node on which an item was worked on, which takes a while."""

    version = 1
    seconds: float = 0.1

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES,)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("node", pa.string(), "Id of the node"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        import ray

        time.sleep(self.seconds)
        return {"node": ray.get_runtime_context().get_node_id()}
