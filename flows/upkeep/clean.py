"""Files without what is forgotten: rows and records are left out, words in the papers of runs are replaced."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from swath.flows.upkeep.sought import Sought

PACKED = ("gz", "zip", "zst", "bz2", "xz", "7z", "tar", "tgz", "lz4")
"""Suffixes of files that are not looked into."""


def parquet_without(content: bytes, sought: Sought) -> bytes:
    """The file without the rows that name one of them, the others in their order."""
    file = pq.ParquetFile(io.BytesIO(content))
    schema = file.schema_arrow
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in file.iter_batches(batch_size=10_000):
            kept = pa.array([not sought.is_in_row(row) for row in batch.to_pylist(maps_as_pydicts=None)], pa.bool_())
            writer.write_table(pa.Table.from_batches([batch]).filter(kept))
    return sink.getvalue()


def export_without(content: bytes, suffix: str, sought: Sought) -> bytes | None:
    """An exported file without the records that name one of them; None where it is of a kind we do not write."""
    match suffix:
        case "parquet":
            return parquet_without(content, sought)
        case "csv":
            return _csv_without(content.decode("utf-8-sig"), sought).encode()
        case "json" | "geojson":
            return (json.dumps(_without(json.loads(content), sought), indent=1, ensure_ascii=False) + "\n").encode()
        case "jsonl" | "ndjson":
            return b"".join(line for line in content.splitlines(keepends=True) if not sought.is_in(line))
        case _:
            return None


def _csv_without(text: str, sought: Sought) -> str:
    out = io.StringIO(newline="")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    kept = [row for row in rows if not any(sought.is_in(cell.encode()) for cell in row)]
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(kept)
    return out.getvalue()


def _without(value: Any, sought: Sought) -> Any:
    """Elements of lists that name one of them are left out; elsewhere, what names one is replaced."""
    if isinstance(value, list):
        return [_without(one, sought) for one in value if not sought.is_in_row(one)]
    if isinstance(value, dict):
        return {key: _without(one, sought) for key, one in value.items()}
    return sought.without(value.encode()).decode() if isinstance(value, str) else value
