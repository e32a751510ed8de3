"""An operator that kills its process with a file called deadly, unless a file beside the warehouse says otherwise."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa

from swath.operators.core.base import BYTES, Item, ItemOperator
from swath.schemas.columns import Column


class Deadly(ItemOperator):
    """Whether it lived."""

    version = 1

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES,)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("alive", pa.bool_(), "Whether it lived"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        spare = Path(os.environ["SWATH_HOME"]).parent / "spare"
        if b"deadly" in item["bytes"] and not spare.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return {"alive": True}
