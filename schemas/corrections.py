"""What people decide about values: one row a decision, only ever added to."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from swath.schemas.columns import Column
from swath.schemas.items import TIMESTAMP


class Decision(StrEnum):
    """What a person says of a value."""

    CONFIRMED = "confirmed"
    """It is right as it stands."""
    CORRECTED = "corrected"
    """It is another one."""
    ABSENT = "absent"
    """The document has none."""


DECIDED = (
    Column("correction_id", pa.string(), "Name of the decision"),
    Column("decided_at", TIMESTAMP, "When it was taken"),
    Column("decided_by", pa.string(), "Who took it"),
    Column("decision", pa.string(), "confirmed (right as it stands), corrected, or absent (the document has none)"),
    Column("before", pa.string(), "The value that was published when it was taken; null where there was none"),
    Column("after", pa.string(), "The value from then on; null where the document has none"),
    Column("why", pa.string(), "Reason that the person gave; null where none"),
    Column("pipeline", pa.string(), "Table whose value it is about"),
    Column("object_id", pa.string(), "Document it is about; the latest decision of a document and path counts"),
    Column("item_id", pa.string(), "Page on which the value stood"),
    Column("path", pa.string(), "Which value: fields.total, match_status, pages[2].quality_verdict"),
    Column("source_uri", pa.string(), "Where the document's first file is"),
    Column("etag", pa.string(), "Version of the content it was taken on; for another version it does not count"),
    Column("run_id", pa.string(), "Run that made the row it was taken on"),
    Column("fingerprint", pa.string(), "Digest of the pipeline that made the row it was taken on"),
    Column("machine_value", pa.string(), "The value as it was read, without anybody's correction"),
    Column("confidence", pa.float32(), "Confidence of the machine's value, 0 to 1"),
    Column("reason", pa.string(), "Why a person was asked; null where nobody asked"),
    Column("document_type", pa.string(), "Type of the document as it was classified"),
    Column("engine", pa.string(), "Engine that read the page"),
)
CORRECTIONS = (
    *DECIDED,
    Column("partition", pa.string(), "Always 'all': every table of the lake has the column"),
    Column("bucket", pa.int32(), "Always 0: every table of the lake has the column", "position"),
)
"""The columns of the table `corrections`; `DECIDED` are those of its view."""
