"""The rasters of a published table, and the windows they were cut into."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from swath.flows.ask.query import COLUMNS_PROPERTY, Session, open_session, relation
from swath.flows.run.records import Runs
from swath.flows.survey.windows import Rectangle
from swath.infra import storage
from swath.infra.lake import Lake
from swath.operators.core.ground import Georef
from swath.schemas.errors import QueryError
from swath.schemas.items import Status
from swath.schemas.sql import literal, quoted

_RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f].*")
TO_GROUND = "to_ground"


@dataclass(frozen=True)
class Raster:
    """A raster that was cut into windows."""

    uri: str
    width: int
    height: int
    georef: Georef

    COLUMNS: ClassVar[tuple[str, ...]] = ("crs", TO_GROUND, "raster_width_px", "raster_height_px")
    """Of `read_raster`: what it takes to know one."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Raster:
        """From those columns, and `source_uri`."""
        matrix = np.array(row[TO_GROUND], np.float64).reshape(3, 3)
        return cls(row["source_uri"], row["raster_width_px"], row["raster_height_px"], Georef(row["crs"], matrix))

    @property
    def whole(self) -> Rectangle:
        return Rectangle(0, 0, self.width, self.height)

    def area_of(self, window: dict[str, int] | None) -> Rectangle:
        """The pixels of an item's window."""
        if window is None:
            return self.whole
        left, top = window["x"], window["y"]
        return Rectangle(left, top, min(left + window["width"], self.width), min(top + window["height"], self.height))


@dataclass(frozen=True)
class Survey:
    """A published table, as it stands now or as a run left it."""

    session: Session
    name: str
    run_id: str | None

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type) for c in self.session.views[f"{self.name}.stored"].columns])

    @property
    def prefix(self) -> str | None:
        """What the columns of `read_raster` begin with, empty where the step has its operator's name; None where the
        table has none."""
        return next((n.removesuffix(TO_GROUND) for n in self.schema.names if n.endswith(TO_GROUND)), None)

    def step_of(self, column: str) -> str:
        """The step that made a column."""
        described = json.loads(Lake(self.session.warehouse).properties(self.name).get(COLUMNS_PROPERTY, "{}"))
        return str(described.get(column, {}).get("step") or column)

    def rows(self, columns: str, where: str = "true", view: str = "stored", then: str = "") -> pa.RecordBatchReader:
        """Of a view, without the items that vanished; `item` is the item's row in the table."""
        of = f"{relation(f'{self.name}.{view}')} AS one"
        joined = "" if view == "stored" else f" JOIN {relation(f'{self.name}.stored')} AS item USING (item_id)"
        item = "one" if view == "stored" else "item"
        condition = f"{item}.status <> {literal(Status.GONE)} AND ({where})"
        return self.session.stream(f"SELECT {columns} FROM {of}{joined} WHERE {condition} {then}")

    def ours(self, item: str = "one") -> str:
        """SQL condition of the items that belong to the files that the run looked at; of all where there is none."""
        if self.run_id is None:
            return "true"
        stored = relation(f"{self.name}.stored")
        return f"{item}.source_uri IN (SELECT source_uri FROM {stored} WHERE run_id = {literal(self.run_id)})"

    def rasters(self, uri: str | None = None) -> list[Raster]:
        """Those whose pixels have a place, by URI; one where it is named. Raises QueryError where there is none."""
        prefix = self.prefix
        if prefix is None:
            raise QueryError(
                f"{self.name} holds no windows of rasters; a pipeline with a step `read_raster` makes them"
            )
        chosen = ", ".join(f"any_value(one.{quoted(prefix + name)}) AS {quoted(name)}" for name in Raster.COLUMNS)
        where = f"one.{quoted(prefix + TO_GROUND)} IS NOT NULL AND {self.ours()}"
        if uri is not None:
            where += f" AND one.source_uri = {literal(storage.normalize(uri))}"
        rows = self.rows(f"one.source_uri, {chosen}", where, then="GROUP BY one.source_uri ORDER BY 1").read_all()
        if not len(rows):
            raise QueryError(f"{self.name} holds no windows of {uri or 'a raster'}; `swath sql` tells what it holds")
        return [Raster.of(row) for row in rows.to_pylist()]


@contextlib.contextmanager
def opened(warehouse: str, what: str) -> Iterator[Survey]:
    """A table by its name, or as the run of that id left it. Raises QueryError where there is none."""
    run_id = what if _RUN_ID.fullmatch(what) else None
    name = Runs(warehouse).load(what).table if run_id else what
    with contextlib.closing(open_session(warehouse, f"{name}.", as_of=run_id)) as session:
        if name not in session.pipelines:
            there = f"there are {', '.join(session.pipelines)}" if session.pipelines else "there is none yet"
            raise QueryError(f"there is no table {name!r} in {session.warehouse}; {there}. Or name a run")
        yield Survey(session, name, run_id)
