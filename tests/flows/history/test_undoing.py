"""After any sequence of runs, the rollback of any of them undoes its rows and no others: with rows made up."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.flows.living import pipeline
from tests.flows.test_settle import EVENT, World, write

from swath.flows.history.rollback import preview, rollback
from swath.flows.run.plan import Plan, make_plan
from swath.flows.run.records import Record, Request, Runs, State
from swath.flows.run.settle import Outdated, check_current, settle
from swath.infra import storage
from swath.infra.lake import DataFile

Rows = list[dict[str, Any]]


class Past(World):
    """A world that keeps records of its runs, and what each run made of each object."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.runs = Runs(self.lake.warehouse)
        self.versions: dict[str, list[tuple[str, Rows]]] = defaultdict(list)

    def run(
        self,
        partitions: int = 1,
        retry: str | None = None,
        complete: bool = True,
        between: Callable[[], object] | None = None,
        cell_items: int = 8,
    ) -> Plan:
        """As World.run; `between` happens after the first of several waves is published."""
        self.ran += 1
        run_id, folder = f"r{self.ran}", storage.join(self.root, f"run-{self.ran}")
        plan = make_plan(self.bound, self.manifest(partitions, complete), self.lake, folder, retry=retry,
                         cell_items=cell_items, wave_items=6)  # fmt: skip
        self.lake.ensure("toy", self.bound.schema)
        known = {file.path for file in self.lake.files("toy")}
        adds: list[DataFile] = []
        own: set[str] = set()
        basis: dict[Any, Any] = {}
        try:
            for wave in plan.waves:
                if not plan.moved:
                    check_current(self.lake, "toy", plan, [wave], known, own)
                rows = storage.join(folder, f"rows-{wave.number}")
                self.execute(wave.pending, rows, run_id, wave.number)
                into = storage.join(self.lake.data_prefix("toy"), run_id, str(wave.number))
                settled = settle(self.lake, "toy", self.bound.schema, plan, wave, rows, into, run_id)
                if plan.moved:
                    adds, basis = adds + settled.adds(), basis | settled.replaced()
                else:
                    self.lake.publish("toy", run_id, wave.number, settled.adds(), settled.replaced())
                    own |= {file.path for file in settled.adds()}
                    self.note(run_id)
                    if between and wave.number == 1:
                        between()
        except Outdated:  # it stays half published
            pass
        if plan.moved:
            self.lake.publish("toy", run_id, 0, adds, basis)
        if plan.waves:
            self.note(run_id)
            request = Request(pipeline=pipeline(), source="file:///source", warehouse=self.lake.warehouse)
            self.runs.save(
                Record(run_id=run_id, request=request, pipeline="toy", table="toy", source="", status=State.PUBLISHED,
                       started_at=datetime.now(UTC))
            )  # fmt: skip
        return plan

    def note(self, run_id: str) -> None:
        made = defaultdict(list)
        for row in self.rows():
            if row["run_id"] == run_id:
                made[row["object_id"]].append(plain(row))
        for name, rows in made.items():
            if not self.versions[name] or self.versions[name][-1] != (run_id, rows):
                self.versions[name].append((run_id, rows))

    def rewrite(self, choose: random.Random) -> None:
        """What maintenance does: some cells get new files with the same rows."""
        for file in self.lake.files("toy"):
            if choose.random() < 0.4:
                table = pq.read_table(storage.local_path(file.path), partitioning=None)
                uri = storage.join(self.lake.data_prefix("toy"), f"kept-{choose.random()}.parquet")
                write(uri, table)
                self.lake.replace("toy", [file._replace(path=uri, bytes=1)], {file.cell: frozenset([file.path])}, "x")

    def forget(self, run_id: str) -> None:
        for versions in self.versions.values():
            versions[:] = [version for version in versions if version[0] != run_id]

    def expected(self) -> dict[str, dict[str, Any]]:
        last = [versions[-1][1] for versions in self.versions.values() if versions]
        return {row["item_id"]: row for rows in last for row in rows}


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "bucket"}


def agree(past: Past) -> None:
    rows = past.rows()
    assert len({row["item_id"] for row in rows}) == len(rows)
    assert {row["item_id"]: plain(row) for row in rows} == past.expected()


def undo(past: Past, run_id: str) -> None:
    before = past.rows()
    parts = preview(past.lake.warehouse, run_id)
    record = rollback(past.lake.warehouse, run_id, "me")
    past.forget(run_id)
    agree(past)
    after = past.rows()
    assert record.status == State.ROLLED_BACK
    assert record.rollback
    assert record.rollback.removed == sum(row["run_id"] == run_id for row in before) == sum(p.removed for p in parts)
    assert record.rollback.restored == record.rollback.removed + len(after) - len(before)
    assert record.rollback.restored == sum(part.restored for part in parts)
    assert not [row for row in after if row["run_id"] == run_id]


def scenario(folder: str, events: list[Any], seed: int) -> None:
    """The events, with something else between the waves of some runs, and rollbacks now and then."""
    choose = random.Random(seed)
    past = Past(f"file://{folder}")
    for put, deleted, partitions, retry, complete in events:
        past.objects |= put
        for number in deleted:
            past.objects.pop(number, None)
        if not any(complete or number % 2 == 0 for number in past.objects):
            continue

        def between(retry: str | None = retry, partitions: int = partitions) -> None:
            past.objects |= dict.fromkeys(choose.sample(range(31), 3), (2, choose.randrange(3), False))
            past.run(partitions if choose.random() < 0.5 else 4 - partitions, retry, choose.random() < 0.5,
                     cell_items=choose.choice((2, 8)))  # fmt: skip

        past.run(partitions, retry, complete, between if choose.random() < 0.5 else None)
        agree(past)
        if choose.random() < 0.3:
            past.rewrite(choose)
            agree(past)
        candidates = [name for name in past.runs.names() if past.runs.load(name).status == State.PUBLISHED]
        for _ in range(choose.choice((0, 1, 1, 2))):
            if candidates:
                undo(past, candidates.pop(choose.randrange(len(candidates))))
    if any(past.objects):
        partitions = choose.randrange(1, 4)
        past.run(partitions)
        past.run(partitions)  # a layout that two runs have mixed is put right where its objects are pending
        live = {row["item_id"]: row for row in past.rows() if row["status"] != "gone"}
        assert len(live) == sum(pages for pages, _, _ in past.objects.values())


EVENTS = st.lists(EVENT, min_size=3, max_size=6)
PLAIN = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


@given(EVENTS, st.integers(0, 1 << 30))
@settings(max_examples=3, **PLAIN)
def test_a_rollback_undoes_the_rows_of_its_run_and_no_others(events: list[Any], seed: int) -> None:
    within(events, seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(EVENTS, st.integers(0, 1 << 30))
@settings(max_examples=40, **PLAIN)
def test_many_rollbacks_undo_the_rows_of_their_runs_and_no_others(events: list[Any], seed: int) -> None:
    within(events, seed)


def within(events: list[Any], seed: int) -> None:
    folder = tempfile.mkdtemp(prefix="past-")
    try:
        scenario(folder, events, seed)
    finally:
        shutil.rmtree(folder)
