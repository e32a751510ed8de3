"""One wave, ready to be executed, and what of it is staged: a file of rows for every block of the manifest.

Whoever executes it, a block is done as a whole or not at all, and doing it twice leaves one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from swath.flows.work.clock import Spent
from swath.flows.work.stages import Pool
from swath.flows.work.worker import Context, Rejected
from swath.infra import parquet_files, storage


class Watch(Protocol):
    """Told as `Progress` is; of workers on a cluster also the address of their node, and of how many blocks."""

    def __call__(
        self,
        stage: str,
        items: int,
        rejects: int,
        spent: Spent,
        some: Sequence[Rejected],
        node: str = "",
        blocks: int = 1,
        /,
    ) -> None: ...


@dataclass(frozen=True)
class Work:
    """Blocks of a manifest, the stages they go through, and where their rows are staged."""

    blocks: Sequence[str]
    """URIs of manifest files."""
    rows: str
    """URI prefix for the staged rows."""
    pools: Sequence[Pool]
    context: Context

    def todo(self) -> list[str]:
        """The blocks that are not staged yet."""
        done = set(storage.list_names(self.rows))
        return [block for block in self.blocks if _name(block) not in done]


def read_block(block: str) -> pa.Table:
    """The items of a block, with the columns of `schemas.items.MANIFEST`."""
    return parquet_files.read(block)


def stage_rows(rows: str, block: str, table: pa.Table) -> None:
    """Keeps what became of a block, under the block's own name."""
    parquet_files.write(storage.join(rows, _name(block)), table)


def _name(block: str) -> str:
    return block.rpartition("/")[2]
