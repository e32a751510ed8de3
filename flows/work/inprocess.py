"""The same work on this machine with no Ray: for a debugger, a notebook and a handful of images."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from swath.flows.work.engine import Watch, Work
from swath.flows.work.worker import StageWorker
from swath.infra import storage


def execute_here(work: Work, watch: Watch | None = None, *, apart: bool = False) -> None:
    """Every block through the stages into staged Parquet; blocks that are there already are left as they are.

    In the calling process, which dies with an item that kills it; `apart`, in a process beside it, where only the
    item is rejected.
    """
    done = set(storage.list_names(work.rows))
    todo = [block for block in work.blocks if _name(block) not in done]
    workers = [StageWorker(pool.stage, work.context, watched=False, progress=watch, apart=apart) for pool in work.pools]
    for block in todo:
        filesystem, path = storage.filesystem(block)
        table = pq.read_table(path, filesystem=filesystem)
        for worker in workers:
            table = worker(table)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        storage.write(storage.join(work.rows, _name(block)), sink.getvalue().to_pybytes())


def _name(block: str) -> str:
    return block.rpartition("/")[2]
