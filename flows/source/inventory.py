"""A Parquet or CSV file that names the files of a source, in place of listing them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swath.flows.source.selection import extension_of
from swath.infra.scratch import Scratch
from swath.infra.storage import Listed, is_local, list_objects, local_path, normalize, read
from swath.schemas.errors import ConfigurationError, SourceError

if TYPE_CHECKING:
    import duckdb

READERS = {"parquet": "read_parquet", "csv": "read_csv"}
ROWS = 50_000
STAT_THREADS = 16
_UNKNOWN = datetime.fromtimestamp(0, UTC)


def is_inventory(source: str) -> bool:
    """Whether the URI is that of a table of files and not of the files themselves."""
    return extension_of(source) in READERS and not (is_local(source) and local_path(source).is_dir())


def scratch_database(folder: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB that sorts more than fits into memory by way of the folder."""
    import duckdb

    options: dict[str, str | bool | int | float | list[str]] = {"memory_limit": "256MB", "temp_directory": str(folder)}
    return duckdb.connect(config={**options, "threads": 2, "preserve_insertion_order": False})


def rows_of(database: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a query's result, which is never in memory as a whole."""
    reader: Any = database.sql(query).to_arrow_reader(ROWS)
    for batch in reader:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def read_inventory(source: str) -> tuple[str, Iterator[Listed]]:
    """What the URIs of all files begin with, up to a slash, and the files, each once, in the order of their URIs.

    The table has a column `uri` and may have `etag` and `size` (bytes); where they are missing or null every file
    is asked for them. Raises SourceError for a table that cannot be read, has no such column, or no rows.
    """
    import duckdb

    scratch = Scratch("inventory")
    database = scratch_database(scratch.path)
    try:
        _load(database, source, scratch.path)
    except duckdb.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise SourceError(f"{source}: cannot be read as a table of files ({reason})") from error
    first, last = database.execute("SELECT min(uri), max(uri) FROM files").fetchall()[0]
    if first is None:
        raise SourceError(f"{source}: names no files")

    def files() -> Iterator[Listed]:
        with scratch, database:
            yield from _completed(rows_of(database, "SELECT uri, size, etag FROM files ORDER BY uri"))

    shared = os.path.commonprefix([first, last])  # noqa: RUF071 - cut back to a slash below
    return shared[: shared.rfind("/") + 1], files()


def _load(database: duckdb.DuckDBPyConnection, source: str, folder: Path) -> None:
    path = local_path(source)
    if not is_local(source):
        path = folder / "inventory"
        try:
            path.write_bytes(read(source))
        except (OSError, PermissionError) as error:
            raise SourceError(f"{source}: cannot be read ({error})") from error
    elif not path.exists():
        raise SourceError(f"{path}: no such file; check the path")
    table = f"{READERS[extension_of(source)]}('{str(path).replace(chr(39), chr(39) * 2)}')"
    columns = {str(row[0]).lower() for row in database.execute(f"DESCRIBE FROM {table}").fetchall()}
    if "uri" not in columns:
        raise SourceError(f"{source}: has no column `uri` (it has {', '.join(sorted(columns))})")
    etag = "etag::VARCHAR" if "etag" in columns else "NULL::VARCHAR"
    size = "size::BIGINT" if "size" in columns else "NULL::BIGINT"
    database.create_function("canonical", _canonical, ["VARCHAR"], "VARCHAR")
    database.execute(
        f"CREATE TABLE files AS SELECT canonical(uri::VARCHAR) AS uri, max({size}) AS size, max({etag}) AS etag "
        f"FROM {table} WHERE uri IS NOT NULL GROUP BY 1"
    )


def _canonical(uri: str) -> str:
    try:
        return normalize(uri)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


def _completed(rows: Iterator[tuple[str, int | None, str | None]]) -> Iterator[Listed]:
    """Rows with what the table left out, asked of the stores a few at a time, in order."""
    with ThreadPoolExecutor(STAT_THREADS, thread_name_prefix="stat") as pool:
        ahead: deque[Future[Listed]] = deque()
        for uri, size, etag in rows:
            if size is not None and etag is not None and not ahead:
                yield Listed(uri, size, etag, _UNKNOWN)
                continue
            ahead.append(pool.submit(_looked_up, uri, size, etag))
            if len(ahead) > 4 * STAT_THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _looked_up(uri: str, size: int | None, etag: str | None) -> Listed:
    """A file that is not there stays in the list: it is an item that will be rejected as not found."""
    if size is None or etag is None:
        try:
            found = next(list_objects(uri))
        except SourceError:
            found = Listed(uri, 0, "", _UNKNOWN)
        if found.uri != uri:  # a folder
            found = Listed(uri, 0, "", _UNKNOWN)
        size, etag = found.size if size is None else size, found.etag if etag is None else etag
    return Listed(uri, size, etag, _UNKNOWN)
