"""What is kept of every run."""

from __future__ import annotations

import pyarrow as pa

from swath.schemas.columns import Column, list_of
from swath.schemas.items import TIMESTAMP

STAGE_TIMES = list_of(
    Column("stage", pa.string(), "Its steps, joined by ' + '"),
    Column("workers", pa.int32(), "Workers that did it side by side", "workers"),
    Column("items", pa.int64(), "Items it has done", "items"),
    Column("rate", pa.float64(), "What its workers could do if they never had to wait for other stages", "items/s"),
    Column("work", pa.float64(), "Share of its workers' time in which they worked, 0 to 1"),
    Column("store", pa.float64(), "Share of it in which they waited for the object store, 0 to 1"),
    Column("waiting_for_input", pa.float64(), "Share of it in which nothing came, 0 to 1"),
    Column("waiting_for_downstream", pa.float64(), "Share of it in which the next stage could take no more, 0 to 1"),
    Column("seconds", pa.float64(), "Their time, all workers together", "seconds"),
)
RUNS = (
    Column("run_id", pa.string(), "Name of the run"),
    Column("pipeline", pa.string(), "Pipeline that ran"),
    Column("table", pa.string(), "Table it published to"),
    Column("source", pa.string(), "Where it read from"),
    Column("status", pa.string(), "running, published, nothing (to do), failed, audit_failed, discarded, rolled_back"),
    Column("started_at", TIMESTAMP, "When it started"),
    Column("finished_at", TIMESTAMP, "When it ended; null while it runs"),
    Column("items", pa.int64(), "Items that were pending", "items"),
    Column("ok", pa.int64(), "Items that came through", "items"),
    Column("rejected", pa.int64(), "Items that became rejects", "items"),
    Column("gone", pa.int64(), "Items whose object is no longer in the source", "items"),
    Column("carried", pa.int64(), "Rows of touched cells that were carried over as they were", "items"),
    Column("waves", pa.int64(), "Waves the run was cut into", "waves"),
    Column("seconds", pa.float64(), "Time from start to end", "seconds"),
    Column("throughput", pa.float64(), "Items over seconds", "items/s"),
    Column("first_pass_rate", pa.float64(), "Share of its documents that needed nobody, 0 to 1; null where none"),
    Column("stage_times", STAGE_TIMES, "Where its time went, by stage; empty where it did nothing"),
    Column("operators", pa.map_(pa.string(), pa.float64()), "Time of each step, all workers together", "seconds"),
    Column("advice", pa.string(), "What limits it and what would help; null where it was too short to tell"),
    Column("error", pa.string(), "Why it failed; null where it did not"),
    Column("forced_reason", pa.string(), "Why somebody published it against the audit; null where nobody did"),
)
"""One row a run; the columns of the `runs` view. `<warehouse>/_swath/runs/<run_id>/run.json` has these fields."""
