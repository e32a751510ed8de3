"""Tables of files in place of a listing: an S3 Inventory, or any Parquet or CSV of URIs."""

from __future__ import annotations

import hashlib
import json
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swath.flows.source.selection import extension_of
from swath.infra import storage
from swath.infra.uris import is_local, join, local_path, normalize, parent, split_bucket
from swath.schemas.errors import ConfigurationError, SourceError
from swath.schemas.sql import literal

if TYPE_CHECKING:
    import duckdb

READERS = {"parquet": "read_parquet", "csv": "read_csv"}
FORMATS = {"Parquet": "parquet", "CSV": "csv"}
"""Of an S3 Inventory; there is a third, ORC, which nothing here reads."""


def kind_of(uri: str) -> str:
    """The extension of a file's name, that of what is packed where it ends in `.gz`."""
    return extension_of(uri.removesuffix(".gz"))


def local_copy(uri: str, folder: Path, md5: str | None = None) -> Path:
    """The file on this machine. Raises SourceError where it cannot be read, or is not what its manifest says."""
    path = local_path(uri) if is_local(uri) else folder / f"copy{'.gz' if uri.endswith('.gz') else ''}"
    try:
        if is_local(uri):
            path.stat()
        else:
            storage.download(uri, path)
        if md5 is not None:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "md5").hexdigest() != md5:
                    raise SourceError(f"{uri}: is not the file that its manifest names (the MD5 differs)")
    except FileNotFoundError as error:
        raise SourceError(f"{path if is_local(uri) else uri}: no such file; check the path") from error
    except (OSError, PermissionError) as error:
        raise SourceError(f"{uri}: cannot be read ({error})") from error
    return path


def load_table(database: duckdb.DuckDBPyConnection, uri: str, folder: Path) -> None:
    """Table `files (uri, size, etag)` of a Parquet or CSV file with the columns `uri`, or `bucket` and `key`, and
    perhaps `size` and `etag`, also as S3 Inventory writes them."""
    _create(database)
    _insert(database, uri, local_copy(uri, folder), {})


def s3_inventory(path: Path) -> dict[str, Any] | None:
    """What the file says, where it is the `manifest.json` of an S3 Inventory."""
    try:
        said = json.loads(path.read_bytes()) if path.stat().st_size < 64 << 20 else None
    except ValueError:
        return None
    return (
        said
        if isinstance(said, dict) and {"sourceBucket", "fileFormat", "fileSchema", "files"} <= said.keys()
        else None
    )


def load_s3_inventory(database: duckdb.DuckDBPyConnection, uri: str, said: dict[str, Any], folder: Path) -> str:
    """Table `files` of all files that a `manifest.json` names; returns the URI of the bucket they tell of.

    Layout: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html.
    """
    kind = FORMATS.get(said["fileFormat"])
    if kind is None:
        raise SourceError(f"{uri}: an inventory in {said['fileFormat']} cannot be read; let S3 write Parquet or CSV")
    names = [name.strip() for name in said["fileSchema"].split(",")] if kind == "csv" else []
    _create(database)
    for file in said["files"]:
        data = _beside(uri, str(file["key"]))
        _insert(
            database, data, local_copy(data, folder, file.get("MD5checksum")), dict.fromkeys(names, "VARCHAR"), kind
        )
    return f"s3://{said['sourceBucket']}"


def _beside(manifest: str, key: str) -> str:
    """Where a data file is: in the manifest's own bucket, or in a copy of its folders on this machine."""
    if not is_local(manifest):
        scheme, bucket = manifest.partition("://")[0], split_bucket(manifest)[0]
        return f"{scheme}://{bucket}/{key}"
    folder, name = parent(manifest), posixpath.basename(key)
    tried = [join(folder, name), join(folder, "data", name), join(parent(folder), "data", name)]
    for uri in tried:
        if local_path(uri).exists():
            return uri
    raise SourceError(f"{manifest}: names {key}, which is not there; it was looked for at {', '.join(tried)}")


def _create(database: duckdb.DuckDBPyConnection) -> None:
    database.create_function("canonical", _canonical, ["VARCHAR"], "VARCHAR")
    database.execute("CREATE TABLE files (uri VARCHAR, size BIGINT, etag VARCHAR)")


def _insert(
    database: duckdb.DuckDBPyConnection, uri: str, path: Path, columns: dict[str, str], kind: str | None = None
) -> None:
    """Adds a file's rows; `columns` are those of a CSV without a header."""
    import duckdb

    options = f", header = false, columns = {columns}" if columns else ""
    table = f"{READERS[kind or kind_of(uri)]}({literal(str(path))}{options})"
    try:
        named = {str(row[0]).lower().replace("_", ""): row[0] for row in
                 database.execute(f"DESCRIBE FROM {table}").fetchall()}  # fmt: skip
        have = {name: f'"{column}"' for name, column in named.items()}
        taken = " AND ".join([
            f"coalesce({have['islatest']}::BOOLEAN, true)" if "islatest" in have else "true",
            f"NOT coalesce({have['isdeletemarker']}::BOOLEAN, false)" if "isdeletemarker" in have else "true",
        ])  # fmt: skip
        if "uri" in have:
            place = f"{have['uri']}::VARCHAR"
        elif {"bucket", "key"} <= have.keys():
            key = f"url_decode(replace({have['key']}, '+', ' '))" if columns else f"{have['key']}::VARCHAR"
            place = f"'s3://' || {have['bucket']} || '/' || {key}"
            taken += f" AND NOT regexp_matches({key}, '(^|/)[.]|/$')"  # as in a listing: folders and hidden names
        else:
            raise SourceError(
                f"{uri}: has no column `uri`, nor `bucket` and `key` (it has {', '.join(sorted(named.values()))}); "
                "of an S3 Inventory, give the manifest.json"
            )
        etag = f"trim({have['etag']}::VARCHAR, '\"')" if "etag" in have else "NULL"
        size = f"{have['size']}::BIGINT" if "size" in have else "NULL"
        database.execute(
            f"""INSERT INTO files SELECT
                CASE WHEN regexp_matches(place, '^s3://[^/]+/.*[^/]$') THEN place ELSE canonical(place) END, size, etag
            FROM (SELECT {place} AS place, {size} AS size, {etag} AS etag FROM {table} WHERE {taken})
            WHERE place IS NOT NULL"""
        )
    except duckdb.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise SourceError(f"{uri}: cannot be read as a table of files ({reason})") from error


def _canonical(uri: str) -> str:
    try:
        return normalize(uri)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
