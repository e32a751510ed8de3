"""SQL over published tables, read-only: DuckDB over the files of each table's current snapshot, or of an earlier one.

Names: `<pipeline>.<view>` always; the plain name of a view where the warehouse holds one pipeline. `rejects`, `runs`
and `checks` are always there under their plain names, over all pipelines (`rejects` with a column `pipeline` first).
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

import duckdb
import pyarrow as pa

from swath.flows.ask.grounds import register_functions
from swath.flows.ask.readonly import check_reads
from swath.flows.ask.records import check_records, run_records
from swath.flows.ask.results import write_result
from swath.flows.ask.reviewed import corrections_view, review_rules, review_views
from swath.flows.duck import said_by_store
from swath.flows.survey.derived import derived_views
from swath.infra import storage
from swath.infra.corrections import TABLE as CORRECTED
from swath.infra.lake import Lake
from swath.infra.scratch import Scratch
from swath.schemas.checks import CHECKS
from swath.schemas.columns import Column, schema_of
from swath.schemas.corrections import CORRECTIONS
from swath.schemas.derived import DERIVED
from swath.schemas.errors import QueryError, SwathError, WarehouseError
from swath.schemas.review import Rules
from swath.schemas.runs import RUNS
from swath.schemas.sql import literal, quoted, sql_type
from swath.schemas.views import View, views

__all__ = ["Counted", "connect", "describe", "sql", "tables", "write_result"]

BATCH_ROWS = 10_000
COLUMNS_PROPERTY = "swath.columns"
PIPELINE = Column("pipeline", pa.string(), "Pipeline whose item was rejected")

_CATALOG = "_warehouse"
_SPATIAL = re.compile(r'Function with name "?(st_\w+)')
_MISSING = re.compile(r"Table with name (\w+) does not exist")


@dataclass(frozen=True)
class Counted:
    """A view by the name it has in SQL, and the rows it has now."""

    name: str
    doc: str
    rows: int


@dataclass(frozen=True)
class Session:
    """A read-only connection and the views it has, by the names they have in SQL."""

    warehouse: str
    connection: duckdb.DuckDBPyConnection
    views: Mapping[str, View]
    pipelines: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The shortest name of each view."""
        return [name for name in self.views if "." not in name or len(self.pipelines) > 1]

    def close(self) -> None:
        self.connection.close()

    def stream(self, query: str) -> pa.RecordBatchReader:
        """The rows of a query we wrote, in batches; raises QueryError."""
        with self._explained():
            reader = self.connection.sql(query).to_arrow_reader(BATCH_ROWS)  # `execute` would hold all rows

        def batches() -> Iterator[pa.RecordBatch]:
            with self._explained():
                yield from reader

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    def checked(self, query: str) -> str:
        """The query, if it is one statement that only reads; raises QueryError."""
        with self._explained():
            check_reads(self.connection, query)
        return query

    def view(self, name: str) -> View:
        """The view of that name; raises QueryError naming what is meant perhaps."""
        if name in self.views:
            return self.views[name]
        if f"main.{name}" not in self.views:
            self._refuse_ambiguous(name)
        close = difflib.get_close_matches(name, self.names, n=3, cutoff=0.5)
        choice = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(self.names)}"
        raise QueryError(f"there is no view {name!r} in {self.warehouse}; {choice}")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """DuckDB's errors as ours."""
        try:
            yield
        except (duckdb.Error, OSError, pa.ArrowException) as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> SwathError:
        text = str(error)
        # In the middle of a stream only the text says which error of DuckDB's it was.
        unread = isinstance(error, duckdb.IOException | duckdb.HTTPException) or text.startswith(("IO Error", "HTTP E"))
        if (said := said_by_store(error)) or unread:
            return WarehouseError(f"{self.warehouse}: a table's file cannot be read ({said or text}); try again")
        if isinstance(error, duckdb.PermissionException):
            return QueryError(f"a query reads the views of the warehouse and nothing else: {text}")
        if isinstance(error, duckdb.OutOfMemoryException):
            return QueryError(f"the query wants more memory than it may have: {text}")
        if unknown := _SPATIAL.search(text):
            return QueryError(
                f"{unknown[1]}() is not among the spatial functions that swath has; `swath export VIEW FOLDER` writes "
                "GeoParquet, for a DuckDB of your own with its extension: INSTALL spatial; LOAD spatial"
            )
        if missing := _MISSING.search(text):
            self._refuse_ambiguous(missing[1])
        return QueryError(text)

    def _refuse_ambiguous(self, name: str) -> None:
        candidates = [f"{pipeline}.{name}" for pipeline in self.pipelines if f"{pipeline}.{name}" in self.views]
        if len(candidates) > 1 and name not in self.views:
            raise QueryError(f"{name!r} is in several pipelines of this warehouse; write {' or '.join(candidates)}")
        if name in DERIVED:
            raise QueryError(f"{self.warehouse} holds no table {name} yet; `{DERIVED[name].made_by}` makes it")
        if not self.pipelines:
            raise QueryError(f"{self.warehouse} holds no table yet; `swath run` makes one, --warehouse names another")


def connect(warehouse: str) -> duckdb.DuckDBPyConnection:
    """A locked in-memory DuckDB connection with the views of every pipeline; it can read their files and no others."""
    from swath.flows.ask.spatial import register_spatial

    connection = open_session(warehouse).connection
    register_spatial(connection)
    return connection


def sql(warehouse: str, query: str, as_of: str | None = None) -> pa.RecordBatchReader:
    """The rows of one reading statement, in batches. Raises QueryError where it is wrong or would write."""
    session = open_session(warehouse, query, as_of=as_of)
    try:
        if "st_" in query.lower():  # a twentieth of a second that other queries need not wait for
            from swath.flows.ask.spatial import register_spatial

            register_spatial(session.connection)
        reader = session.stream(session.checked(query))
    except BaseException:
        session.close()
        raise

    def batches() -> Iterator[pa.RecordBatch]:
        with contextlib.closing(session):
            yield from reader

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def tables(warehouse: str, as_of: str | None = None) -> list[Counted]:
    """All views with their rows; the qualified names where there are several pipelines, the plain ones else."""
    with contextlib.closing(open_session(warehouse, as_of=as_of)) as session:
        return [Counted(name, session.views[name].doc, _count(session, name)) for name in session.names]


def describe(warehouse: str, view: str, as_of: str | None = None) -> View:
    """A view's doc and columns with types, units and docs. Raises QueryError where there is none of that name."""
    with contextlib.closing(open_session(warehouse, query="", as_of=as_of)) as session:
        return session.view(view)


def relation(name: str) -> str:
    """The name of a view, quoted for SQL."""
    return ".".join(quoted(part) for part in name.split("."))


def _count(session: Session, name: str) -> int:
    return int(session.stream(f"SELECT count(*) FROM {relation(name)}").read_all()[0][0].as_py())


def open_session(
    warehouse: str, query: str | None = None, rules: Rules | None = None, as_of: str | None = None
) -> Session:
    """A session; where a query is given, only what it names is looked up, and the rest stands empty. `rules` say what
    stands in `review`; those of the environment where none are given.

    `as_of` names a run or a time: items, and decisions of people, as they stood then. `runs` and `checks` are records
    of what happened, and always all of them.
    """
    root = storage.normalize(warehouse)
    lake = Lake(root)
    there = not storage.is_local(root) or storage.local_path(root).is_dir()  # asking the lake would make the folder
    held = lake.tables() if there else []
    ours = [name for name in held if name not in (CORRECTED, *DERIVED)]
    then, past = None, {}
    if as_of:
        from swath.flows.history.asof import moment  # with it come the records of runs, which few queries need

        then = moment(lake, ours, as_of)
        past = dict(then.snapshots)
    schemas = {name: schema for name in ours if (schema := lake.schema(name, past.get(name))) is not None}
    named = _named(query)
    connection = _new_connection()
    found: dict[str, View] = {}
    allowed: list[str] = []
    try:
        corrections = [path_of(file.path) for file in lake.files(CORRECTED)] if CORRECTED in held else []
        for file in corrections[:1]:
            storage.register(connection, file)
        allowed += corrections
        decided = scan(schema_of(CORRECTIONS), corrections)
        if then:
            decided = f"(FROM {decided} WHERE decided_at <= {literal(then.at.isoformat())}::TIMESTAMPTZ)"
        found["corrections"] = corrections_view(connection, decided)
        for name in sorted({*held} & {*DERIVED}):
            kept = [path_of(file.path) for file in lake.files(name)] if named(name[:-1]) else []
            for file in kept[:1]:
                storage.register(connection, file)
            allowed += kept
            found |= derived_views(connection, name, partial(scan, files=kept))
        for name, schema in schemas.items():
            files: list[str] = []
            if (named(name) or named("rejects") or len(schemas) == 1) and (not then or name in past):
                files = [path_of(file.path) for file in lake.files(name, snapshot_id=past.get(name))]
                for file in files[:1]:
                    storage.register(connection, file)
            allowed += files
            steps = _steps(lake.properties(name))
            made = _create_views(connection, name, views(schema, steps), scan(schema, files))
            people = review_views(connection, _CATALOG, name, schema, steps, made, rules or review_rules())
            found |= made | people
        if len(schemas) == 1:
            found |= _plain_views(connection, {name: view for name, view in found.items() if "." in name})
        found |= _global_views(connection, root, tuple(schemas), found, named)
        _lock(connection, allowed)
    except BaseException:
        connection.close()
        raise
    return Session(root, connection, found, tuple(schemas))


def _named(query: str | None) -> Callable[[str], bool]:
    """Whether a query may read the relation of that name; no query: it may read all."""
    return lambda name: query is None or name in query.lower()


def path_of(uri: str) -> str:
    """As DuckDB is to read it: local files by their path, so that nothing in it is taken for an escape."""
    return str(storage.local_path(uri)) if storage.is_local(uri) else uri


@cache
def _spills() -> Scratch:
    """Goes with this process."""
    return Scratch("query")


def _new_connection() -> duckdb.DuckDBPyConnection:
    """In memory, with a catalog name that no pipeline can have; spills to a folder that DuckDB makes and removes."""
    connection = duckdb.connect()
    spill = f"{_spills().path}/{uuid.uuid4().hex}"
    connection.execute(
        f"ATTACH ':memory:' AS {_CATALOG}; USE {_CATALOG}; DETACH memory; SET TimeZone = 'UTC'; "
        f"SET memory_limit = '50%'; SET temp_directory = {literal(spill)}; SET python_enable_replacements = false; "
        "SET autoinstall_known_extensions = false; SET autoload_known_extensions = false"
    )
    register_functions(connection)
    return connection


def _lock(connection: duckdb.DuckDBPyConnection, allowed: Iterable[str]) -> None:
    """From here on the connection reads these files and no others, and cannot be told otherwise."""
    connection.execute(f"SET allowed_paths = [{', '.join(map(literal, allowed))}]")
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")


def scan(schema: pa.Schema, files: list[str]) -> str:
    """The relation of a table's files. With the schema given, no footer is read before it is needed, and columns that
    a file lacks are null."""
    if not files:
        nulls = (f"CAST(NULL AS {sql_type(field.type)}) AS {quoted(field.name)}" for field in schema)
        return f"(SELECT {', '.join(nulls)} WHERE false)"
    columns = ", ".join(
        f"{literal(field.name)}: {{'name': {literal(field.name)}, 'type': {literal(sql_type(field.type))}, "
        "'default_value': NULL}"
        for field in schema
    )
    listed = ", ".join(map(literal, files))
    return f"read_parquet([{listed}], hive_partitioning = false, schema = MAP {{{columns}}})"


def _steps(properties: Mapping[str, str]) -> dict[str, str]:
    """Which step made a column, as the planner wrote it."""
    described = json.loads(properties.get(COLUMNS_PROPERTY, "{}"))
    return {name: column["step"] for name, column in described.items() if column.get("step")}


def _create_views(
    connection: duckdb.DuckDBPyConnection, pipeline: str, made: Iterable[View], scan: str
) -> dict[str, View]:
    """The views of a pipeline, in a schema of its name, all of them over `stored`."""
    schema = f"{_CATALOG}.{quoted(pipeline)}"
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    by_name = {view.name: view for view in made}
    for name in ("stored", *(name for name in by_name if name != "stored")):
        body = by_name[name].over(scan if name == "stored" else f"{schema}.stored")
        connection.execute(f"CREATE OR REPLACE VIEW {schema}.{quoted(name)} AS {body}")
    return {f"{pipeline}.{name}": view for name, view in by_name.items()}


def _plain_views(connection: duckdb.DuckDBPyConnection, qualified: Mapping[str, View]) -> dict[str, View]:
    for name, view in qualified.items():
        connection.execute(f"CREATE OR REPLACE VIEW main.{quoted(view.name)} AS FROM {_CATALOG}.{relation(name)}")
    return {view.name: view for view in qualified.values()}


def _global_views(
    connection: duckdb.DuckDBPyConnection,
    root: str,
    pipelines: tuple[str, ...],
    qualified: Mapping[str, View],
    named: Callable[[str], bool],
) -> dict[str, View]:
    """`rejects`, `runs` and `checks` of the whole warehouse."""
    one = next(view for view in views(pa.schema([]), {}) if view.name == "rejects")
    rejects = replace(one, doc="One row an item that was rejected, in any pipeline", columns=(PIPELINE, *one.columns))
    parts = [
        f"SELECT {literal(pipeline)} AS pipeline, * FROM {_CATALOG}.{relation(pipeline)}.rejects"
        for pipeline in pipelines
        if f"{pipeline}.rejects" in qualified
    ]
    nothing = scan(schema_of(rejects.columns), [])
    connection.execute(f"CREATE OR REPLACE VIEW main.rejects AS {' UNION ALL '.join(parts) or f'FROM {nothing}'}")
    folder = storage.join(root, "_swath", "runs")
    runs = [name.rstrip("/") for name in storage.list_names(folder)] if named("runs") or named("checks") else []
    connection.register("runs", run_records(folder, runs) if named("runs") else schema_of(RUNS).empty_table())
    connection.register("checks", check_records(folder, runs) if named("checks") else schema_of(CHECKS).empty_table())
    return {
        "rejects": rejects,
        "runs": View("runs", "One row a run", RUNS, ""),
        "checks": View("checks", "One row a data-quality check of a wave", CHECKS, ""),
    }
