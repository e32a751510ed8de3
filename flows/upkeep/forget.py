"""An object erased everywhere in a warehouse, and the proof of it.

In this order, so that whatever cuts it off, the same command finishes it: runs to come leave the object out; files of
exports, reviews, runs and artifacts; rows of the tables; snapshots that still hold such rows, with their files; then
every file that is left is looked through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import duckdb
import pyarrow as pa
from pydantic import BaseModel

from swath.flows.duck import parquet, scratch
from swath.flows.upkeep import leave_out
from swath.flows.upkeep.claims import Claims, claims
from swath.flows.upkeep.clean import export_without, parquet_without
from swath.flows.upkeep.proof import Looked, hits
from swath.flows.upkeep.rewrite import rewrite
from swath.flows.upkeep.sought import Sought, sought, uri_of
from swath.flows.upkeep.sweep import delete_orphans
from swath.flows.upkeep.walk import Found, kind_of, opened, walk
from swath.infra import storage
from swath.infra.crash import crash_point
from swath.infra.lake import Cell, Lake
from swath.schemas.columns import schema_of
from swath.schemas.errors import ConfigurationError, Conflict
from swath.schemas.items import MANIFEST

WORK = "_swath/forgetting"
"""Below it stands, while it is not done, which files of a table are to be deleted."""
HOUR = timedelta(hours=1)
"""A file of a table that no snapshot names may be about to be published for so long."""
ATTEMPTS = 3
_MANIFEST = re.compile(r"/manifest/[^/]*\.parquet$")
_NAMES = ("object_id", "item_id", "source_uri", "assets")
_SHAPE = pa.schema([field for field in schema_of(MANIFEST) if field.name in _NAMES])


class Table(BaseModel):
    """What one table holds of it."""

    rows: int = 0
    """In the current snapshot."""
    cells: list[tuple[str, int]] = []
    snapshots: list[int] = []
    """Those that hold such rows, or say that they have left out files with such rows."""


class Finding(BaseModel):
    """What is there of some objects."""

    uris: list[str]
    """As they were given."""
    files: list[str]
    """URIs of all files of these objects."""
    objects: list[str]
    items: list[str]
    tables: dict[str, Table]
    blocked: list[str]
    """Unfinished runs that hold, or may hold, something of it."""

    def sought(self) -> Sought:
        return sought([*self.uris, *self.files], self.objects, self.items)


class Forgotten(BaseModel):
    """What was erased, and what was looked at afterwards."""

    uris: list[str]
    objects: int
    items: int
    rows: dict[str, int] = {}
    """Rows erased from the current snapshot of each table."""
    snapshots: dict[str, int] = {}
    """Older snapshots of each table that were expired because they held it; all others can still be read."""
    artifacts: int = 0
    deleted: int = 0
    """Other files deleted: data files, manifests, staging."""
    rewritten: int = 0
    """Files written anew without it: manifests and records of runs, exports."""
    looked: Looked
    left: list[str]
    """Where something of it is still to be found, and why; empty where all is gone."""

    @property
    def done(self) -> bool:
        return not self.left and not self.looked.unread


@dataclass
class Eraser:
    """One go at forgetting some objects."""

    lake: Lake
    sought: Sought
    outcome: Forgotten
    now: datetime

    @cached_property
    def held(self) -> Claims:
        return claims(self.lake.warehouse)

    def erase_rows(self, table: str) -> None:
        """Rewrites the cells of the current snapshot that hold rows of it."""
        for _ in range(ATTEMPTS):
            with _database(self.lake, self.sought) as db:
                cells, _ = _current(db, self.lake, table)
            if not cells:
                return
            done = rewrite(
                self.lake, table, cells, "forget", keep=_kept("r"), prepare=lambda db: _load(db, self.sought)
            )
            if not done.contended:
                self._count(self.outcome.rows, table, done.rows_before - done.rows_after)
        raise Conflict(f"runs replace the same cells of {table} all the time; run the same command again")

    def erase_history(self, table: str) -> None:
        """Expires the snapshots that hold rows of it, and deletes their files."""
        work = storage.join(self.lake.warehouse, WORK, f"{table}.json")
        with _database(self.lake, self.sought) as db:
            tainted = _tainted(db, self.lake, table)
        doomed = set(_listed(work)) | tainted
        if tainted:
            named = self.lake.named(table, dropped=True)
            current = self.lake.snapshot(table)
            holding = {key for key, paths in named.by_snapshot.items() if paths & tainted}
            for key in holding:
                doomed |= named.metadata[key]
            storage.write(work, json.dumps(sorted(doomed)).encode())  # paths, no names
            crash_point("forget.listed")
            if current in holding:  # its manifests say which files it has left out, and their bounds
                with self.lake.publishing(table, "of forgetting"):
                    self.lake.shed(table, "forget")
            with self.lake.publishing(table, "of forgetting"):
                self.lake.expire(table, holding, self.held.runs)
            self._count(self.outcome.snapshots, table, len(holding))
            crash_point("forget.expired")
        if doomed:
            alive = self.lake.named(table).all()
            files = [Found(uri, uri, 0, self.now) for uri in sorted(doomed - alive)]
            self.outcome.deleted += len(delete_orphans(self.lake, table, files))
            crash_point("forget.deleted")
            storage.delete(work)

    def erase_files(self, files: Iterable[Found]) -> None:
        """Erases it from all files that are none of a table's, and from files of tables that nobody names."""
        alive: dict[str, set[str]] = {}
        dead: dict[str, list[Found]] = {}
        for one in hits(self.lake, files, self.sought, Looked()):
            top, _, rest = one.path.partition("/")
            if (kind := kind_of(one.path)) in ("data", "metadata"):
                table = one.path.split("/")[1]
                if table not in alive:
                    alive[table] = self.lake.named(table).all() if table in self.lake.tables() else {one.uri}
                if one.uri in alive[table]:
                    continue
                if kind == "metadata" or not self._may_be_published(one):
                    dead.setdefault(table, []).append(one)
            elif top == "artifacts":
                if self.sought.is_in(one.path.encode()):
                    storage.delete(one.uri)
                    self.outcome.artifacts += 1
            elif top == "_swath":
                if rest.startswith("runs/") and rest.split("/")[1] in self.held.unfinished:
                    continue
                self._clean_paper(one)
            else:
                self._clean_export(one)
        for table, unnamed in dead.items():
            # Whoever was about to commit these manifests fails now, and writes others.
            if any(kind_of(one.path) == "metadata" for one in unnamed):
                self.lake.shed(table, "forget")
            self.outcome.deleted += len(delete_orphans(self.lake, table, unnamed))

    def why(self, one: Found) -> str:
        """What is to be done about a file that still names it."""
        parts = one.path.split("/")
        at = 2 if parts[:2] == ["_swath", "runs"] else 3 if kind_of(one.path) == "data" else None
        if at and parts[at] in self.held.unfinished:
            return f"{one.path}: of run {parts[at]}, which is unfinished; resume or discard it, then forget it again"
        if one.path.endswith(".metadata.json"):
            return f"{one.path}: the reason given with an old publish names it; `swath maintain --older-than 1h`"
        if kind_of(one.path) in ("data", "metadata"):
            return f"{one.path}: somebody may be about to publish it; run the same command in an hour"
        return f"{one.path}: of a kind that is not rewritten; delete it"

    def _clean_paper(self, one: Found) -> None:
        """A record, manifest, or report of a run that is over."""
        if "/waves/" in one.path or self.sought.is_in(one.path.encode()):
            self._delete(one)
            return
        content = storage.read(one.uri)
        cleaned = (
            parquet_without(content, self.sought) if one.path.endswith(".parquet") else self.sought.without(content)
        )
        self._write(one, cleaned)

    def _clean_export(self, one: Found) -> None:
        """A file that somebody has put into the warehouse."""
        if self.sought.is_in(one.path.encode()):
            return
        try:
            cleaned = export_without(storage.read(one.uri), one.path.rpartition(".")[2].lower(), self.sought)
        except ValueError:  # not what its name says
            return
        if cleaned is not None:
            self._write(one, cleaned)

    def _may_be_published(self, one: Found) -> bool:
        owner = one.path.split("/")[3]
        if owner in self.held.runs:
            return owner in self.held.unfinished
        return one.modified > self.now - HOUR

    def _write(self, one: Found, content: bytes) -> None:
        storage.write(one.uri, content)
        self.outcome.rewritten += 1

    def _delete(self, one: Found) -> None:
        storage.delete(one.uri)
        self.outcome.deleted += 1

    @staticmethod
    def _count(counts: dict[str, int], table: str, more: int) -> None:
        counts[table] = counts.get(table, 0) + more


def find(warehouse: str, given: Collection[str]) -> Finding:
    """What is there of the objects that have a file of these URIs; reads only."""
    lake = opened(warehouse)
    uris = list(dict.fromkeys(uri_of(one) for one in given))
    first = sought(uris, (), ())
    files, objects, items = set(uris), set(first.objects), set[str]()
    tables: dict[str, Table] = {}
    manifests = [one.uri for one in walk(lake.warehouse, "_swath") if _MANIFEST.search(one.path)]
    with _database(lake, first) as db:
        db.register("shape", _SHAPE.empty_table())
        for paths in [manifests, *(_all_files(lake, name) for name in lake.tables())]:
            for object_id, item_id, source_uri, assets in _search(db, paths):
                objects.add(object_id)
                items |= {item_id} if item_id else set()
                files |= {uri for uri in (source_uri, *(assets or ())) if uri}
    found = Finding(
        uris=uris, files=sorted(files), objects=sorted(objects), items=sorted(items), tables=tables, blocked=[]
    )
    for table in lake.tables():
        with _database(lake, found.sought()) as db:
            cells, rows = _current(db, lake, table)
            tainted = _tainted(db, lake, table)
        holding = [key for key, paths in lake.named(table, dropped=True).by_snapshot.items() if paths & tainted]
        if holding:
            tables[table] = Table(rows=rows, cells=sorted(cells), snapshots=holding)
    found.tables = tables
    found.blocked = _blocked(lake, found.sought())
    return found


def forget(warehouse: str, found: Finding, now: datetime | None = None) -> Forgotten:
    """Erases what `find` has found. Raises ConfigurationError where an unfinished run holds something of it."""
    lake = Lake(warehouse)
    leave_out.forget(lake.warehouse, found.files)  # first: no run that begins from here on takes it
    crash_point("forget.left_out")
    if found.blocked:
        raise ConfigurationError(
            f"unfinished runs may hold something of it: {', '.join(found.blocked)}; `swath resume RUN` or "
            "`swath discard --run RUN`, then run the same command again. Runs to come leave it out already"
        )
    told = found.sought()
    outcome = Forgotten(uris=found.uris, objects=len(found.objects), items=len(found.items), looked=Looked(), left=[])
    eraser = Eraser(lake, told, outcome, now or datetime.now(UTC))
    eraser.erase_files(one for one in walk(lake.warehouse) if kind_of(one.path) not in ("data", "metadata"))
    crash_point("forget.files")
    for table in lake.tables():
        eraser.erase_rows(table)
        crash_point("forget.rows")
        eraser.erase_history(table)
    crash_point("forget.history")
    remaining = list(hits(lake, walk(lake.warehouse), told, outcome.looked))
    if remaining:  # left behind by somebody who was killed, or made meanwhile
        eraser.erase_files(remaining)
        outcome.looked = Looked()
        remaining = list(hits(lake, walk(lake.warehouse), told, outcome.looked))
    outcome.left = [eraser.why(one) for one in remaining]
    return outcome


@contextmanager
def _database(lake: Lake, told: Sought) -> Iterator[duckdb.DuckDBPyConnection]:
    """A scratch database with the tables `wanted_objects` and `wanted_uris`."""
    with scratch(lake.warehouse) as db:
        _load(db, told)
        yield db


def _load(db: duckdb.DuckDBPyConnection, told: Sought) -> None:
    for name, values in (("wanted_objects", told.objects), ("wanted_uris", told.uris)):
        db.register("given", pa.table({"v": pa.array(sorted(values), pa.string())}))
        db.execute(f"CREATE OR REPLACE TABLE {name} AS FROM given")
        db.unregister("given")


def _kept(row: str) -> str:
    """SQL for the rows of a table that are none of the objects'."""
    return f"coalesce({row}.object_id NOT IN (SELECT v FROM wanted_objects), true)"


def _search(db: duckdb.DuckDBPyConnection, paths: list[str]) -> list[tuple[str, str | None, str | None, list[str]]]:
    """Object, item, URI and the URIs of all files, of the rows that have a wanted file or object."""
    if not paths:
        return []
    rows = f"FROM shape UNION ALL BY NAME FROM {parquet(paths, by_name=True)}"
    uris = "list_transform(assets, lambda a: a.uri)"
    return db.execute(
        f"""SELECT DISTINCT object_id, item_id, source_uri, {uris} AS files
        FROM (SELECT object_id, item_id, source_uri, assets FROM ({rows})) AS r
        WHERE object_id IN (SELECT v FROM wanted_objects) OR source_uri IN (SELECT v FROM wanted_uris)
           OR list_has_any(coalesce({uris}, []), (SELECT list(v) FROM wanted_uris))"""
    ).fetchall()


def _current(db: duckdb.DuckDBPyConnection, lake: Lake, table: str) -> tuple[set[Cell], int]:
    """The cells of the table as it stands that hold rows of the objects, and how many rows that are."""
    files = [file.path for file in lake.files(table)]
    if not files:
        return set(), 0
    found = db.execute(
        f"""SELECT partition, bucket, count(*) FROM {parquet(files)} AS r WHERE NOT {_kept("r")} GROUP BY ALL"""
    ).fetchall()
    return {Cell(partition, bucket) for partition, bucket, _ in found}, sum(count for *_, count in found)


def _tainted(db: duckdb.DuckDBPyConnection, lake: Lake, table: str) -> set[str]:
    """The data files of all snapshots that hold rows of the objects."""
    files = _all_files(lake, table)
    if not files:
        return set()
    by_path = {str(storage.local_path(uri)) if storage.is_local(uri) else uri: uri for uri in files}
    rows = parquet(by_path, filename="file")
    found = db.execute(f"SELECT DISTINCT file FROM {rows} AS r WHERE NOT {_kept('r')}").fetchall()
    return {by_path[path] for (path,) in found}


def _all_files(lake: Lake, table: str) -> list[str]:
    return sorted({path for paths in lake.named(table).by_snapshot.values() for path in paths})


def _listed(work: str) -> list[str]:
    try:
        return [str(path) for path in json.loads(storage.read(work))]
    except FileNotFoundError:
        return []


def _blocked(lake: Lake, told: Sought) -> list[str]:
    """The unfinished runs that name one of them in their papers or staged rows, or have not listed their source yet."""
    found = []
    for run_id in claims(lake.warehouse).unfinished:
        folder = f"_swath/runs/{run_id}"
        papers = list(walk(lake.warehouse, folder))
        if not any(one.path == f"{folder}/run.json" for one in papers):
            continue
        listed = any(one.path == f"{folder}/manifest.json" for one in papers)
        staged = [one for table in lake.tables() for one in walk(lake.warehouse, f"tables/{table}/data/{run_id}")]
        if not listed or next(hits(lake, [*papers, *staged], told, Looked()), None):
            found.append(run_id)
    return found
