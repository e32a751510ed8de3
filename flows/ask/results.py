"""The rows of a query as a table on the terminal, JSON, CSV or Parquet, batch by batch."""

from __future__ import annotations

import contextlib
import csv
import datetime
import itertools
import json
import math
import os
import sys
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TextIO

import pyarrow as pa

from swath.flows.ask.geoparquet import GeoParquetWriter
from swath.infra import storage
from swath.infra.scratch import Scratch
from swath.schemas.errors import ConfigurationError, WarehouseError

Format = Literal["table", "json", "csv", "parquet"]
SHOWN_ROWS = 100
CELL_CHARACTERS = 60
ROW_GROUP_BYTES = 64 << 20
"""Size of a row group in memory."""


def write_result(result: pa.Table | pa.RecordBatchReader, format: Format, output: str | None = None) -> int:
    """Writes the rows to a file (a path or URI, whole or not at all) or to the terminal; their number.

    Raises ConfigurationError where Parquet has no file to go to.
    """
    reader = result.to_reader() if isinstance(result, pa.Table) else result
    if output is None:
        if format == "parquet":
            raise ConfigurationError("Parquet is no text for a terminal; name a file with -o")
        return _TEXT[format](reader, sys.stdout)
    with whole_file(storage.normalize(output)) as path:
        if format == "parquet":
            return write_parquet(reader, path)
        with path.open("w", encoding="utf-8", newline="") as file:
            return _TEXT[format](reader, file)


@contextlib.contextmanager
def whole_file(uri: str) -> Iterator[Path]:
    """A local path to write to; what it holds is at `uri` when the block ends well, and nothing when it does not."""
    if not storage.is_local(uri):
        with Scratch("upload") as folder:
            path = folder / "part"
            yield path
            try:
                storage.upload(path, uri)
            except OSError as error:
                raise WarehouseError(f"{error}; check the bucket and the credentials") from error
        return
    target = storage.local_path(uri)
    path = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield path
        os.replace(path, target)
    except OSError as error:
        raise WarehouseError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        path.unlink(missing_ok=True)


def write_parquet(reader: pa.RecordBatchReader, path: Path) -> int:
    """Writes all rows to one file, in row groups that are large but fit in memory; their number. It is GeoParquet where
    there are geometries."""
    rows = size = 0
    waiting: list[pa.RecordBatch] = []
    with GeoParquetWriter(path, reader.schema) as writer:
        for batch in reader:
            waiting.append(batch)
            rows, size = rows + batch.num_rows, size + batch.get_total_buffer_size()
            if size >= ROW_GROUP_BYTES:
                writer.write(pa.Table.from_batches(waiting, reader.schema))
                waiting, size = [], 0
        if waiting or not rows:
            writer.write(pa.Table.from_batches(waiting, reader.schema))
    return rows


def write_json(reader: pa.RecordBatchReader, file: TextIO) -> int:
    """A list of objects, one a line; times in ISO 8601, numbers that JSON has not (NaN, infinity) as null."""
    rows = 0
    file.write("[")
    for row in _rows(reader):
        file.write(("," if rows else "") + "\n" + json.dumps(row, ensure_ascii=False, allow_nan=False))
        rows += 1
    file.write("\n]\n" if rows else "]\n")
    return rows


def write_csv(reader: pa.RecordBatchReader, file: TextIO) -> int:
    """A header and a line a row; nested values as JSON, null as nothing."""
    rows = 0
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_distinct(reader.schema.names))
    for row in _rows(reader):
        writer.writerow(["" if value is None else _cell(value) for value in row.values()])
        rows += 1
    return rows


def write_table(reader: pa.RecordBatchReader, file: TextIO) -> int:
    """The first rows as a table for people, and how many there are."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if reader.schema.names == ["explain_key", "explain_value"]:
        plans = reader.read_all().to_pylist()
        file.write("".join(plan["explain_value"] for plan in plans))
        return len(plans)
    console = Console(file=file, highlight=False) if file.isatty() else Console(file=file, width=10_000)
    shown: list[list[str]] = []
    rows = 0
    for batch in reader:
        shown += [[_short(value) for value in row.values()] for row in _rows([batch.slice(0, SHOWN_ROWS - len(shown))])]
        rows += batch.num_rows
    widths = [
        max(len(name), *(len(row[i]) for row in shown), 1) + 2 if shown else len(name) + 2
        for i, name in enumerate(reader.schema.names)
    ]
    columns = max(1, sum(sum(widths[: i + 1]) <= console.width for i in range(len(widths))))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for field in list(reader.schema)[:columns]:
        right = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        table.add_column(Text(field.name), justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    for row in shown:
        table.add_row(*(Text(cell) for cell in row[:columns]))
    console.print(table)
    notes = [f"{rows:,} {'row' if rows == 1 else 'rows'}"]
    if rows > len(shown):
        notes.append(f"the first {len(shown)} shown; --format csv or json gives all")
    if columns < len(widths):
        notes.append(f"{len(widths) - columns} more columns did not fit; name the ones you want, or use --format json")
    console.print("; ".join(notes), soft_wrap=True)
    return rows


_TEXT = {"table": write_table, "json": write_json, "csv": write_csv}


def _rows(batches: Any) -> Iterator[dict[str, Any]]:
    """The rows of record batches as JSON values, one dict a row."""
    for batch in batches:
        names = _distinct(batch.schema.names)
        for row in batch.rename_columns(names).to_pylist(maps_as_pydicts="lossy"):
            yield {name: json_value(value) for name, value in row.items()}


def _distinct(names: list[str]) -> list[str]:
    """Names that a row can have as a dict: the second `label` of a join becomes `label_2`."""
    seen: list[str] = []
    for name in names:
        tried = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        seen.append(next(one for one in tried if one not in seen))
    return seen


def json_value(value: Any) -> Any:
    """A Python value of Arrow as JSON has it."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    return str(value)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _number(value: float) -> str:
    """Six digits, or all before the point: an area of millions of square metres is read as one."""
    return f"{value:.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:.6g}"


def _short(value: Any) -> str:
    """One line of bounded length, without the control characters that a file's name may bring."""
    if value is None:
        return ""
    text = _number(value) if isinstance(value, float) else _cell(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: CELL_CHARACTERS * 4])
    return text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"
