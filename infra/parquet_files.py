"""Parquet files in any store: read and written through `storage`, so that a store that fails for a while stops nobody.

A file is there as a whole or, elsewhere than on local disk, not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swath.infra import storage
from swath.infra.scratch import Scratch

COMPRESSION = "zstd"


def read(uri: str, filters: pc.Expression | None = None, schema: pa.Schema | None = None) -> pa.Table:
    """The rows of a file that is small enough for memory, as the schema has them. Raises what `storage.read` does."""
    return pq.read_table(pa.BufferReader(storage.read(uri)), schema=schema, filters=filters)


def write(uri: str, table: pa.Table) -> int:
    """Stores a table that is small enough for memory, and returns its bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=COMPRESSION)
    content = sink.getvalue().to_pybytes()
    storage.write(uri, content)
    return len(content)


class Writer:
    """A Parquet file in the making."""

    rows = 0
    bytes = 0
    """What has reached the file; its size when it is done."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._file = pq.ParquetWriter(self._sink, schema, compression=COMPRESSION)

    def write(self, table: pa.Table) -> None:
        self._file.write_table(table)
        self.rows += table.num_rows
        self.bytes = self._sink.tell()

    def close(self) -> None:
        with self._sink:
            self._file.close()
            self.bytes = self._sink.tell()


@contextmanager
def writer(uri: str, schema: pa.Schema) -> Iterator[Writer]:
    """Stores what is written to it, of any size, when the context ends; nothing where that ends with an error."""
    if storage.is_local(uri):
        path = storage.local_path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(Writer(path, schema)) as one:
            yield one
        return
    with Scratch("parquet") as folder:
        path = folder / "rows.parquet"
        with closing(Writer(path, schema)) as one:
            yield one
        storage.upload(path, uri)
