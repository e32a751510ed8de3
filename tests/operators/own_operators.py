"""Operators as a user would bring them, by dotted path."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from swath.operators.core.base import PIXELS, Batch, Item, ItemOperator, Operator
from swath.schemas.columns import Column
from swath.schemas.items import MANIFEST


class MeanRed(ItemOperator):
    """Mean of the red channel."""

    version: ClassVar[int] = 3
    scale: float = 1.0

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS,)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("mean_red", pa.float64(), "Mean of red", "grey levels"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        return {"mean_red": float(np.mean(item["pixels"][..., 0])) * self.scale}


class FileSize(ItemOperator):
    """Size of the file as the manifest has it; reads no bytes."""

    version: ClassVar[int] = 1

    def inputs(self) -> tuple[Column, ...]:
        return tuple(column for column in MANIFEST if column.name == "size_bytes")

    def outputs(self) -> tuple[Column, ...]:
        return (Column("file_size", pa.int64(), "Size of the file", "bytes"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        return {"file_size": item["size_bytes"]}


class Unfinished(Operator):
    """Has neither outputs nor a version."""

    def inputs(self) -> tuple[Column, ...]:
        return ()

    def run(self, batch: Batch, model: Any) -> Batch:
        return {}


not_an_operator = 5
