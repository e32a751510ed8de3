"""The same work on this machine with no Ray: for a debugger, a notebook and a handful of images."""

from __future__ import annotations

from swath.flows.work.wave import Watch, Work, read_block, stage_rows
from swath.flows.work.worker import StageWorker


def execute_here(work: Work, watch: Watch | None = None, *, apart: bool = False) -> None:
    """Every block that is not staged yet through the stages.

    In the calling process, which dies with an item that kills it; `apart`, in a process beside it, where only the
    item is rejected.
    """
    workers = [StageWorker(pool.stage, work.context, watched=False, progress=watch, apart=apart) for pool in work.pools]
    for block in work.todo():
        table = read_block(block)
        for worker in workers:
            table = worker(table)
        with workers[-1].clock.at("store"):
            stage_rows(work.rows, block, table)
        for worker in workers:
            worker.done()
