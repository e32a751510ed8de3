"""A backfill in lanes of its own: what it does, what it leaves alone, and how it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.flows.living import LENGTH, TAG, House, pipeline

from swath.flows.backfill import backfill as work
from swath.flows.backfill.lane import Outcome
from swath.flows.backfill.records import Backfill, Backfills, Place, Stand
from swath.infra import storage
from swath.infra.lake import Lake
from swath.schemas.errors import AuditFailed, ConfigurationError, RunFailed
from swath.schemas.pipeline import Step

BY = "{dt}"


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.order: list[str] = []
        self.items = 0
        self.most = self.lanes = 0
        self.errors: dict[str, str] = {}

    def phase(self, name: str, detail: str = "") -> None:
        self.phases.append(name)

    def begin(self, places: Sequence[Place], lanes: int) -> None:
        self.lanes = lanes

    def started(self, place: Place) -> None:
        self.order.append(place.todo.partition)

    def advance(self, place: Place, items: int, rejects: int) -> None:
        self.items += items

    def ended(self, place: Place, outcome: Outcome) -> None:
        if outcome.error:
            self.errors[place.todo.partition] = outcome.error


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


def new(house: House, given: Any = None, **options: Any) -> Backfill:
    changes = {name: options.pop(name) for name in ("retry", "ray", "max_rejects") if name in options}
    return work.new(house.request(given, partition_by=BY, **changes), **{"parallel": 2, **options})


def do(house: House, backfill: Backfill, notes: Notes | None = None) -> work.Summary:
    return work.carry_out(backfill, notes or Notes(), audit_socket=house.audit_socket)


def days(house: House, *numbers: int, each: int = 3, content: str = "good") -> None:
    house.put(*(f"2026-01-{day:02}/{n}.txt" for day in numbers for n in range(each)), content=content)


def test_each_partition_is_a_run_and_what_is_up_to_date_is_none(house: House) -> None:
    days(house, 1, 2, 3)
    notes = Notes()
    told = do(house, new(house, newest_first=True), notes)
    assert (told.partitions, told.idle, told.stands, told.ok, told.finished) == (3, 0, {Stand.DONE: 3}, 9, True)
    # Two lanes begin at once, so that which of the first two is told of first is chance.
    assert [sorted(notes.order[:2]), notes.order[2:]] == [["dt=2026-01-02", "dt=2026-01-03"], ["dt=2026-01-01"]]
    assert (notes.lanes, notes.items, notes.phases.count("manifest")) == (2, 9, 1)
    house.check()
    assert {record.request.partition for record in house.runs.all()} == set(notes.order)
    folder = Backfills(house.warehouse).folder(told.backfill_id)
    assert "parts/" not in storage.list_names(folder), "manifests go when they have been used"
    days(house, 2, content="good and longer")
    again = do(house, new(house))
    assert (again.partitions, again.idle, again.ok) == (1, 2, 3)
    house.check()


def test_what_is_gone_from_a_partition_is_and_nothing_of_the_others(house: House) -> None:
    days(house, 1, 2, 3)
    house.run(partition_by=BY)
    house.remove("2026-01-01/0.txt", "2026-01-02/0.txt")
    house.remove(*(f"2026-01-03/{n}.txt" for n in range(3)))
    told = do(house, new(house, patterns=["dt=2026-01-01"]))
    assert (told.partitions, told.gone) == (1, 1)
    assert house.names("status = 'gone'") == ["0.txt"]
    told = do(house, new(house))
    assert (told.partitions, told.gone) == (2, 4), "also the partition of which nothing is left"
    house.check(gone=5)


def test_objects_that_were_laid_out_differently_move_and_stand_once(house: House) -> None:
    days(house, 1, 2)
    house.run()
    told = do(house, new(house))
    assert (told.partitions, told.ok) == (2, 6)
    house.check()
    assert {row["partition"] for row in house.rows("partition")} == {"dt=2026-01-01", "dt=2026-01-02"}


def test_what_another_run_has_put_elsewhere_since_the_listing_stands_once(house: House) -> None:
    days(house, 1, 2)
    backfill, backfills = new(house), Backfills(house.warehouse)
    work._prepare(backfill, backfills, Notes())
    house.run(partition_by=None)
    told = do(house, backfill)
    assert told.finished
    house.check()


def test_a_backfill_after_the_snapshot_of_its_listing_is_gone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    days(house, 1)
    house.run()
    days(house, 2)
    backfill, backfills = new(house), Backfills(house.warehouse)
    work._prepare(backfill, backfills, Notes())
    for part in storage.list_names(backfills.folder(backfill.backfill_id, "parts")):
        if part.endswith(".json"):
            uri = backfills.folder(backfill.backfill_id, "parts", part)
            before = f'"snapshot_id":{Lake(house.warehouse).snapshot("toy")}'.encode()
            assert before in storage.read(uri)
            storage.write(uri, storage.read(uri).replace(before, b'"snapshot_id":12345'))
    assert do(house, backfill).finished
    house.check()


def test_missing_stale_and_failed_choose_partitions(house: House) -> None:
    days(house, 1, 2)
    house.run(partition_by=BY)
    days(house, 3)
    days(house, 4, each=6, content="bad")
    notes = Notes()
    told = do(house, new(house, only=["missing"], patterns=["dt=2026-01-0[1-4]"]), notes)
    assert sorted(notes.order) == ["dt=2026-01-03", "dt=2026-01-04"]
    assert told.stands == {Stand.DONE: 1, Stand.HELD_BACK: 1}
    with pytest.raises(AuditFailed, match="dt=2026-01-04"):
        work.check(told)
    notes = Notes()
    told = do(house, new(house, only=["failed"], max_rejects=1.0), notes)
    assert (notes.order, told.rejected) == (["dt=2026-01-04"], 6)
    other = pipeline(Step(op=LENGTH), Step(op=TAG, config={"value": "y"}))
    notes = Notes()
    do(house, new(house, other, only=["stale"], max_rejects=1.0, patterns=["dt=2026-01-01..2026-01-02"]), notes)
    assert sorted(notes.order) == ["dt=2026-01-01", "dt=2026-01-02"]
    house.check()


def test_a_pattern_that_matches_nothing_says_what_there_is(house: House) -> None:
    days(house, 1)
    with pytest.raises(ConfigurationError, match="dt=2026-01-01"):
        do(house, new(house, patterns=["dt=2025-*"]))


def test_a_partition_that_kills_its_process_stops_no_other_and_can_be_resumed(house: House) -> None:
    days(house, 1, 3)
    house.put("2026-01-02/deadly.txt")
    killer = pipeline(Step(op=LENGTH), Step(op="tests.flows.backfill.deadly:Deadly"))
    mark = Path(house.warehouse.removeprefix("file://")).parent / "spare"
    notes = Notes()
    backfill = new(house, killer)
    told = do(house, backfill, notes)
    assert told.stands == {Stand.DONE: 2, Stand.UNFINISHED: 1}
    assert "SIGKILL" in told.failures["dt=2026-01-02"]
    with pytest.raises(RunFailed, match=r"1 of 3 partitions .*--resume"):
        work.check(told)
    mark.touch()
    notes = Notes()
    told = do(house, backfill, notes)
    assert (notes.order, told.finished, told.ok) == (["dt=2026-01-02"], True, 7)
    house.check()


def test_a_paused_backfill_begins_nothing_until_it_is_unpaused(house: House) -> None:
    days(house, 1, 2)
    backfill, backfills = new(house, parallel=1), Backfills(house.warehouse)

    class Unpausing(Notes):
        def phase(self, name: str, detail: str = "") -> None:
            super().phase(name)
            if name == "paused":
                assert not self.order
                backfills.unpause(backfill.backfill_id)

    backfills.pause(backfill.backfill_id)
    notes = Unpausing()
    assert do(house, backfill, notes).finished
    assert "paused" in notes.phases


def test_a_backfill_that_is_killed_is_gone_on_with_and_does_nothing_twice(house: House) -> None:
    days(house, 1)
    house.put(*(f"2026-01-0{day}/{n}.txt" for day in (2, 3, 4) for n in range(20)), content="slow")
    backfill, backfills = new(house, parallel=2), Backfills(house.warehouse)
    code = """
import sys
from pathlib import Path
from swath.flows.backfill import backfill as work
from swath.flows.backfill.records import Backfills
from tests.flows.backfill.test_backfill import Notes
kept = Backfills(sys.argv[1])
work.carry_out(kept.load(sys.argv[2]), Notes(), audit_socket=Path(sys.argv[3]))
"""
    command = [sys.executable, "-c", code, house.warehouse, backfill.backfill_id, str(house.audit_socket)]
    killed = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    deadline = time.monotonic() + 120
    while Stand.DONE not in [place.stand for place in backfills.places(backfill.backfill_id)]:
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.2)
    lanes = psutil.Process(killed.pid).children()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = {one.number: one.run_id for one in backfills.places(backfill.backfill_id) if one.stand == Stand.DONE}
    told = do(house, backfill)
    assert (told.finished, told.ok) == (True, 63)
    after = {one.number: one.run_id for one in backfills.places(backfill.backfill_id)}
    assert before.items() <= after.items()
    assert len(house.runs.all()) == 4, "what was begun is resumed under its name"
    house.check()
    _, alive = psutil.wait_procs(lanes, timeout=30)
    assert not alive, "lanes end with the one who started them"
