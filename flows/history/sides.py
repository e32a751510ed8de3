"""Two states of one table beside each other, in a database out of core: what `swath diff` asks."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from swath.flows.ask.query import path_of, scan
from swath.flows.duck import parquet, scratch
from swath.flows.history.asof import published_by
from swath.flows.run.records import Record, Runs
from swath.infra import storage
from swath.infra.lake import Lake
from swath.schemas.errors import ConfigurationError
from swath.schemas.items import MANIFEST, VERDICT
from swath.schemas.sql import literal, quoted, shape
from swath.schemas.types import LABELS

PROVENANCE = ("run_id", "wave", "fingerprint", "fingerprints", "models", "step_runs", "seconds", "processed_at")
"""Columns whose change is none of the data."""
_NOT_COMPARED = {*PROVENANCE, "item_id", "object_id", "source_uri", "bucket", "status", "reject_reason",
                 "reject_operator", "reject_message"}  # fmt: skip
_MADE_BEFORE = {column.name for column in (*MANIFEST, *VERDICT)}
FEW = 100
"""Values of a text column up to which it is told what became what."""


@dataclass(frozen=True)
class Compared:
    """A column, and how it is compared."""

    name: str
    kind: str
    """number, float, category (few texts, or the first of labels), text, other or nested."""
    sql: str
    """Its value over a row, or a hash of it."""
    of_source: bool
    """Whether the manifest says it, and no step."""

    def differs(self, number: int, tolerance: float) -> str:
        """SQL for whether the values a{number} and b{number} of a pair are two."""
        a, b = f"a{number}", f"b{number}"
        if self.kind != "float":
            return f"({a} IS DISTINCT FROM {b})"
        near = f"abs({a} - {b}) <= {tolerance!r} * greatest(abs({a}), abs({b}))"
        same = f"isnan({a}) = isnan({b}) AND isinf({a}) = isinf({b}) AND {near}"
        return f"({a} IS DISTINCT FROM {b} AND NOT coalesce({same}, false))"


@dataclass(frozen=True)
class Sides:
    """A database with the views `a` and `b` (rows of files that the states do not share) and `common` (of those that
    they do), all of the objects that either run covers."""

    db: duckdb.DuckDBPyConnection
    records: tuple[Record, Record]
    schema: pa.Schema
    steps: dict[str, str]
    whole: bool
    """Whether all objects of the table count, because it is no longer known which of them the runs have covered."""

    def columns(self) -> list[Compared]:
        """What is compared of a row."""
        fields = [field for field in self.schema if field.name not in _NOT_COMPARED]
        texts = [field.name for field in fields if shape(field.type) == "string" and field.name != "etag"]
        few: set[str] = set()
        if texts:
            counts = ", ".join(f"approx_count_distinct({quoted(name)})" for name in texts)
            chosen = ", ".join(map(quoted, texts))
            row = self.db.execute(
                f"SELECT {counts} FROM (SELECT {chosen} FROM a UNION ALL SELECT {chosen} FROM b)"
            ).fetchall()[0]
            few = {name for name, count in zip(texts, row, strict=True) if count <= FEW}
        found = []
        for field in fields:
            kind, sql = _kind(field, few)
            found.append(Compared(field.name, kind, sql, field.name in _MADE_BEFORE))
            if shape(field.type) == shape(LABELS):
                found.append(Compared(f"{field.name}[1].label", "category", f"{quoted(field.name)}[1].label", False))
        return found

    def of_type(self, kind: pa.DataType) -> list[str]:
        return [field.name for field in self.schema if shape(field.type) == shape(kind)]

    def pair(self, columns: list[Compared]) -> None:
        """Table `pairs`: a row an item of either side, what decides of it, and the columns of both as a0, b0, a1 ..."""
        own = "item_id, object_id, status, reject_reason, hash(fingerprints) AS made"
        sides = []
        for side in "ab":
            values = [f"{column.sql} AS {side}{number}" for number, column in enumerate(columns)]
            sides.append(f"(SELECT {', '.join([own, *values])} FROM {side}) AS {side}")
        pairs = ", ".join(f"a{number}, b{number}" for number in range(len(columns)))
        self.db.execute(
            f"""CREATE TABLE pairs AS
            SELECT coalesce(a.item_id, b.item_id) AS item_id, coalesce(a.object_id, b.object_id) AS object_id,
                   a.made AS made_a, b.made AS made_b,
                   {_state("a")} AS was, {_state("b")} AS is_now{", " + pairs if pairs else ""}
            FROM {sides[0]} FULL JOIN {sides[1]} ON a.item_id = b.item_id"""
        )

    def check(self, column: str) -> None:
        """Raises ConfigurationError unless the table has such a column to compare."""
        known = [field.name for field in self.schema if field.name not in _NOT_COMPARED] + ["status"]
        if column not in known:
            close = difflib.get_close_matches(column, known, n=3) or known
            raise ConfigurationError(f"there is no column {column!r} to compare; try {', '.join(close[:12])}")


@contextmanager
def sides(warehouse: str, run_a: str, run_b: str) -> Iterator[Sides]:
    """The table of two runs as the one and the other left it. Raises ConfigurationError where one has published nothing
    or its snapshot has expired, or where they are of two tables."""
    lake = Lake(warehouse)
    runs = Runs(lake.warehouse)
    (table, before), (other, after) = published_by(lake, run_a), published_by(lake, run_b)
    if table != other:
        raise ConfigurationError(
            f"run {run_a} is of table {table}, run {run_b} of {other}: there is nothing to compare"
        )
    schema = lake.schema(table)
    assert schema is not None
    files = [{file.path for file in lake.files(table, snapshot_id=snapshot.id)} for snapshot in (before, after)]
    shared = files[0] & files[1]
    with scratch(lake.warehouse) as db:
        whole = not _cover(db, runs, (run_a, run_b), schema, sorted(files[0] | files[1]))
        covered = "" if whole else " SEMI JOIN covered USING (object_id)"
        for name, chosen in {"a": files[0] - shared, "b": files[1] - shared, "common": shared}.items():
            rows = scan(schema, [path_of(file) for file in sorted(chosen)])
            db.execute(f"CREATE VIEW {name} AS FROM {rows}{covered}")
        yield Sides(db, (runs.load(run_a), runs.load(run_b)), schema, steps_of(lake, table), whole)


def steps_of(lake: Lake, table: str) -> dict[str, str]:
    """Which step made a column."""
    described = json.loads(lake.properties(table).get("swath.columns", "{}"))
    return {name: column["step"] for name, column in described.items() if column.get("step")}


def _cover(
    db: duckdb.DuckDBPyConnection, runs: Runs, names: tuple[str, str], schema: pa.Schema, files: list[str]
) -> bool:
    """Table `covered`: the objects that the runs found or made; False where their manifests are no longer there."""
    manifests: list[str] = []
    for name in names:
        with suppress(FileNotFoundError, KeyError, ValueError):
            listed = json.loads(storage.read(storage.join(runs.folder(name), "manifest.json")))["manifest"]["files"]
            if all(storage.exists(uri) for uri in listed):
                manifests += listed
                continue
        return False
    for uri in manifests[:1]:
        storage.register(db, uri)
    made = f"FROM {scan(schema, [path_of(file) for file in files])} WHERE run_id IN ({', '.join(map(literal, names))})"
    found = f"SELECT object_id FROM {parquet(manifests)} UNION " if manifests else ""
    db.execute(f"CREATE TABLE covered AS SELECT DISTINCT object_id FROM ({found}SELECT object_id {made})")
    return True


def _kind(field: pa.Field, few: set[str]) -> tuple[str, str]:
    name, kind = quoted(field.name), field.type
    if pa.types.is_floating(kind):
        return "float", f"{name}::DOUBLE"
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return "number", name
    if field.name in few:
        return "category", name
    if pa.types.is_nested(kind) or shape(kind) in ("string", "binary"):
        whole = "nested" if pa.types.is_nested(kind) else "text"
        return whole, f"CASE WHEN {name} IS NOT NULL THEN hash({name}) END"
    return "other", name


def _state(side: str) -> str:
    """SQL: ok, gone, absent, or rejected with the reason."""
    rejected = f"{side}.status || ': ' || coalesce({side}.reject_reason, '?')"
    return f"coalesce(CASE WHEN {side}.status = 'rejected' THEN {rejected} ELSE {side}.status END, 'absent')"
