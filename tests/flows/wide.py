"""An operator whose rows are heavy between its two stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from swath.operators.core.base import BYTES, PREPARED, Batch, Item, ModelOperator, Resources
from swath.schemas.columns import Column


class Wide(ModelOperator):
    """Prepares megabytes an item in one stage, and counts them in another."""

    version = 1
    resources: Resources = Resources(cpus=0.5)
    megabytes: int = 8

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES,)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("width", pa.int64(), "What was prepared", "bytes"),)

    def prepare(self, item: Item) -> Any:
        return np.random.default_rng(len(item["bytes"])).bytes(self.megabytes << 20)

    def run(self, batch: Batch, model: Any) -> Batch:
        return {"width": [len(one) for one in batch[PREPARED.name]]}
