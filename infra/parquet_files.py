"""Parquet files in any store: read and written through `storage`, so that a store that fails for a while stops nobody.

A file is there as a whole or, elsewhere than on local disk, not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swath.infra import storage
from swath.infra.scratch import Scratch

COMPRESSION = "zstd"


def read(uri: str, filters: pc.Expression | None = None) -> pa.Table:
    """The rows of a file that is small enough for memory. Raises what `storage.read` does."""
    return pq.read_table(pa.BufferReader(storage.read(uri)), filters=filters)


def write(uri: str, table: pa.Table) -> int:
    """Stores a table that is small enough for memory, and returns its bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=COMPRESSION)
    content = sink.getvalue().to_pybytes()
    storage.write(uri, content)
    return len(content)


@contextmanager
def writer(uri: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Stores what is written to it, of any size, when the context ends; nothing where that ends with an error."""
    if storage.is_local(uri):
        path = storage.local_path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, schema, compression=COMPRESSION) as one:
            yield one
        return
    with Scratch("parquet") as folder:
        path = folder / "rows.parquet"
        with pq.ParquetWriter(path, schema, compression=COMPRESSION) as one:
            yield one
        storage.upload(path, uri)
