"""How right the machine was, measured by what people decided."""

from __future__ import annotations

import contextlib
import math

from swath.flows.ask.query import open_session
from swath.flows.review.desk import Row

_LATEST = """
SELECT pipeline, regexp_replace(path, '\\[[0-9]+\\]', '[]', 'g') AS path, document_type, engine,
       count(*) AS decided, count(*) FILTER (machine_value IS NOT DISTINCT FROM after) AS "right",
       avg(confidence) AS mean_confidence
FROM (FROM corrections
      QUALIFY row_number() OVER (PARTITION BY pipeline, object_id, path, etag
                                 ORDER BY decided_at DESC, correction_id DESC) = 1)
GROUP BY ALL ORDER BY ALL
"""


def accuracy(warehouse: str) -> list[Row]:
    """One row a pipeline, path, document type and engine: how many values were decided, how many of them the machine
    had right, and the 95 % interval of that share (Wilson 1927). Of each value the latest decision counts."""
    with contextlib.closing(open_session(warehouse)) as session:
        rows: list[Row] = session.stream(_LATEST).read_all().to_pylist()
    return [
        {**row, "accuracy": row["right"] / row["decided"], **_interval(row["right"], row["decided"])} for row in rows
    ]


def _interval(right: int, decided: int) -> Row:
    z = 1.959964
    share, spread = right / decided, 1 + z**2 / decided
    middle = (share + z**2 / (2 * decided)) / spread
    half = z / spread * math.sqrt(share * (1 - share) / decided + z**2 / (4 * decided**2))
    return {"low": max(0.0, middle - half), "high": min(1.0, middle + half)}
