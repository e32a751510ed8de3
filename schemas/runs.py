"""What is kept of every run."""

from __future__ import annotations

import pyarrow as pa

from swath.schemas.columns import Column
from swath.schemas.items import TIMESTAMP

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
    Column("error", pa.string(), "Why it failed; null where it did not"),
    Column("forced_reason", pa.string(), "Why somebody published it against the audit; null where nobody did"),
)
"""One row a run; the columns of the `runs` view. `<warehouse>/_swath/runs/<run_id>/run.json` has these fields."""
