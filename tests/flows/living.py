"""A source of text files, the pipeline that reads them, and what must hold of its table at any time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from swath.flows.run import process
from swath.flows.run.records import Record, Request, Runs
from swath.infra import storage
from swath.infra.lake import Lake
from swath.schemas.items import object_id
from swath.schemas.pipeline import Pipeline, Source, Step, Table

LENGTH, TAG = "tests.flows.toy:Length", "tests.flows.toy:Tag"


def pipeline(*steps: Step, publish: Any = "run", **changes: Any) -> Pipeline:
    """The toy pipeline; one step, `length`, where none is given."""
    values = {
        "name": "toy",
        "source": Source(include=("*.txt",)),
        "steps": steps or (Step(op=LENGTH),),
        "table": Table(publish=publish),
    }
    return Pipeline(**{**values, **changes})


class House:
    """A warehouse with a source beside it."""

    def __init__(self, warehouse: str, source: str, audit_socket: Path | None) -> None:
        self.warehouse, self.source, self.audit_socket = warehouse, source, audit_socket
        self.lake = Lake(warehouse)
        self.runs = Runs(warehouse)

    def put(self, *names: str, content: str = "good") -> None:
        """Writes files; one that has that content already keeps its version."""
        for name in names:
            uri, wanted = storage.join(self.source, name), f"{content} {name}".encode()
            if not storage.exists(uri) or storage.read(uri) != wanted:
                storage.write(uri, wanted)

    def remove(self, *names: str) -> None:
        for name in names:
            storage.delete(storage.join(self.source, name))

    def request(self, given: Pipeline | None = None, **changes: Any) -> Request:
        values = {"pipeline": given or pipeline(), "source": self.source, "warehouse": self.warehouse, "ray": "off"}
        return Request(**{**values, **changes})

    def run(self, given: Pipeline | None = None, **changes: Any) -> Record:
        return process.start(self.request(given, **changes), prefect=False, audit_socket=self.audit_socket)

    def resume(self, run_id: str | None = None) -> Record:
        return process.resume(self.warehouse, run_id, prefect=False, audit_socket=self.audit_socket)

    def rows(self, columns: str = "*", where: str = "true") -> list[dict[str, Any]]:
        """The published rows by name of their file."""
        files = [file.path for file in self.lake.files("toy")]
        if not files:
            return []
        with duckdb.connect() as db:
            storage.register(db, self.warehouse)
            query = f"""SELECT parse_filename(source_uri) AS file, {columns}
                FROM read_parquet(?, union_by_name = true, hive_partitioning = false) WHERE {where}
                ORDER BY source_uri, page"""
            return db.sql(query, params=[files]).to_arrow_table().to_pylist()

    def names(self, where: str = "true") -> list[str]:
        return [row["file"] for row in self.rows("1", where)]

    def check(self, gone: int = 0) -> None:
        """Every file of the source has one row, every row a file; of `gone` files the row is all that is left."""
        rows = self.rows("item_id, object_id, source_uri, status, partition, bucket")
        found = {listed.uri for listed in storage.list_objects(self.source) if listed.uri.endswith(".txt")}
        assert len({row["item_id"] for row in rows}) == len(rows)
        assert sorted(row["source_uri"] for row in rows if row["status"] != "gone") == sorted(found)
        assert sum(row["status"] == "gone" for row in rows) == gone
        for row in rows:
            assert row["object_id"] == object_id(row["source_uri"])

    def staged(self, run_id: str) -> set[str]:
        """What a run has left in its folder."""
        return {name for name in storage.list_names(self.runs.folder(run_id)) if not name.startswith(".")}

    def snapshot_properties(self) -> dict[str, str]:
        """What the newest snapshot says of itself."""
        table = self.lake._table("toy")
        assert table is not None
        snapshot = table.current_snapshot()
        assert snapshot is not None
        assert snapshot.summary is not None
        return dict(snapshot.summary.additional_properties)
