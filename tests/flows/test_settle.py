"""Whatever happens to a source, its manifest and its table agree: plan, settle and publish with rows made up."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.flows.living import pipeline

from swath.flows.pipelines.binding import Bound, bind
from swath.flows.run.plan import MANIFEST_SCHEMA, Plan, make_plan
from swath.flows.run.settle import settle
from swath.flows.source.manifest import ManifestSummary
from swath.infra import storage
from swath.infra.lake import Lake
from swath.schemas.errors import RunFailed
from swath.schemas.items import item_id, object_id

PAGES = st.integers(1, 4)
EVENT = st.tuples(
    st.dictionaries(st.integers(0, 30), st.tuples(PAGES, st.integers(0, 2), st.booleans()), max_size=12),  # put
    st.sets(st.integers(0, 30), max_size=6),  # deleted
    st.integers(1, 3),  # number of partitions
    st.sampled_from([None, "all", "corrupt"]),  # retry
    st.booleans(),  # the whole source was listed
)


class World:
    """A source of made-up objects, and the table that runs keep of it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.lake = Lake(storage.join(root, "warehouse"))
        self.bound: Bound = bind(pipeline())
        self.objects: dict[int, tuple[int, int, bool]] = {}
        """Number: pages, version, whether it is bad."""
        self.ran = 0

    def manifest(self, partitions: int, complete: bool) -> ManifestSummary:
        rows = []
        for number, (pages, version, _) in self.objects.items():
            if not complete and number % 2:
                continue
            uri = f"file:///source/{number:02}"
            rows += [
                {
                    "item_id": item_id(uri, page),
                    "object_id": object_id(uri),
                    "source_uri": uri,
                    "etag": f"{version}",
                    "size_bytes": 1,
                    "partition": f"p={number % partitions}",
                    "bucket": 0,
                    "page": page,
                }
                for page in range(1, pages + 1)
            ]
        uri = storage.join(self.root, f"manifest-{self.ran}.parquet")
        write(uri, pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA))
        return ManifestSummary("file:///source", [uri], len(self.objects), len(rows), 0, 0, {}, 0, complete)

    def run(self, partitions: int = 1, retry: str | None = None, complete: bool = True) -> Plan:
        """One run: every pending item becomes a row; the waves are published together, or each by itself."""
        self.ran += 1
        run_id, folder = f"r{self.ran}", storage.join(self.root, f"run-{self.ran}")
        plan = make_plan(self.bound, self.manifest(partitions, complete), self.lake, folder, retry=retry,
                         cell_items=8, wave_items=6)  # fmt: skip
        self.lake.ensure("toy", self.bound.schema)
        adds, basis = [], {}
        for wave in plan.waves:
            self.execute(wave.pending, storage.join(folder, f"rows-{wave.number}"), run_id, wave.number)
            into = storage.join(self.lake.data_prefix("toy"), run_id, str(wave.number))
            settled = settle(self.lake, "toy", self.bound.schema, plan, wave,
                             storage.join(folder, f"rows-{wave.number}"), into, run_id)  # fmt: skip
            if plan.moved:
                adds, basis = adds + settled.adds(), basis | settled.replaced()
            else:
                self.lake.publish("toy", run_id, wave.number, settled.adds(), settled.replaced())
        if plan.moved:
            self.lake.publish("toy", run_id, 0, adds, basis)
        return plan

    def execute(self, pending: str, into: str, run_id: str, wave: int) -> None:
        items = pq.read_table(storage.local_path(pending)).to_pylist()
        for item in items:
            bad = self.objects[int(item["source_uri"][-2:])][2]
            item |= {"status": "rejected" if bad else "ok", "reject_reason": "corrupt" if bad else None,
                     "run_id": run_id, "wave": wave, "fingerprint": self.bound.fingerprint}  # fmt: skip
        write(storage.join(into, "rows.parquet"), pa.Table.from_pylist(items, schema=self.bound.schema))

    def rows(self) -> list[dict[str, Any]]:
        files = [storage.local_path(file.path) for file in self.lake.files("toy")]
        return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def write(uri: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.write(uri, sink.getvalue().to_pybytes())


@given(st.lists(EVENT, min_size=2, max_size=5))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_after_any_sequence_of_changes_table_and_manifest_agree(events: list[Any]) -> None:
    folder = tempfile.mkdtemp(prefix="world-")
    try:
        world = World(f"file://{folder}")
        for put, deleted, partitions, retry, complete in events:
            world.objects |= put
            for number in deleted:
                world.objects.pop(number, None)
            if not any(complete or number % 2 == 0 for number in world.objects):
                continue
            world.run(partitions, retry, complete)
            check(world, partitions, complete)
    finally:
        shutil.rmtree(folder)


def check(world: World, partitions: int, complete: bool) -> None:
    rows = world.rows()
    assert len({row["item_id"] for row in rows}) == len(rows)
    live = {row["item_id"]: row for row in rows if row["status"] != "gone"}
    for number, (pages, version, _) in world.objects.items():
        if complete or number % 2 == 0:
            uri = f"file:///source/{number:02}"
            for page in range(1, pages + 1):
                row = live.pop(item_id(uri, page))
                assert (row["etag"], row["partition"]) == (f"{version}", f"p={number % partitions}")
            assert not [row for row in live.values() if row["source_uri"] == uri]
    assert not (complete and live)
    cells = {(row["partition"], row["bucket"]) for row in rows}
    for partition in {partition for partition, _ in cells}:
        highest = max(bucket for name, bucket in cells if name == partition)
        for row in rows:
            if row["partition"] == partition:
                assert row["bucket"] == int(row["object_id"][:8], 16) % (1 << highest.bit_length())
    assert not world.run(partitions, complete=complete).waves


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(f"file://{tmp_path}")


def test_rows_that_are_not_the_waves_items_are_refused(world: World) -> None:
    world.objects = dict.fromkeys(range(4), (1, 0, False))
    plan = make_plan(world.bound, world.manifest(1, True), world.lake, storage.join(world.root, "run"))
    world.lake.ensure("toy", world.bound.schema)
    (wave,) = plan.waves
    rows = storage.join(world.root, "rows")
    into = storage.join(world.lake.data_prefix("toy"), "r", "1")
    for staged in (0, 3, 8):
        items = pq.read_table(storage.local_path(wave.pending)).to_pylist()
        items = (items * 2)[:staged]
        write(storage.join(rows, "rows.parquet"), pa.Table.from_pylist(items, schema=world.bound.schema))
        with pytest.raises(RunFailed, match=f"staged {staged} rows of {min(staged, 4)} items where .* has 4"):
            settle(world.lake, "toy", world.bound.schema, plan, wave, rows, into, "r")


def test_plans_of_the_same_manifest_are_the_same(world: World) -> None:
    world.objects = {number: (1 + number % 3, 0, False) for number in range(40)}
    manifest = world.manifest(3, True)

    def made() -> tuple[Any, list[pa.Table]]:
        plan = make_plan(world.bound, manifest, world.lake, world.root, wave_items=7, cell_items=9)
        tables = [pq.read_table(storage.local_path(wave.pending)) for wave in plan.waves]
        return [(wave.number, wave.cells, wave.items, wave.bytes) for wave in plan.waves], tables

    first = made()
    assert made() == first
    waves, tables = first
    assert [table.num_rows for table in tables] == [items for _, _, items, _ in waves]
    assert sum(items for _, _, items, _ in waves) == manifest.items
    seen: list[str] = []
    for table in tables:
        ids = table.column("object_id").to_pylist()
        seen += [name for row, name in enumerate(ids) if row == 0 or ids[row - 1] != name]
    assert len(seen) == len(set(seen)) == 40  # the items of an object are neighbours, in one wave


def test_a_plan_without_a_destination_writes_nothing(world: World) -> None:
    world.objects = {1: (1, 0, False)}
    manifest = world.manifest(1, True)
    before = {one.uri for one in storage.list_objects(world.root)}
    plan = make_plan(replace(world.bound), manifest, world.lake, None)
    assert (plan.items, plan.leaving) == (1, None)
    assert {one.uri for one in storage.list_objects(world.root) if "warehouse" not in one.uri} == before
