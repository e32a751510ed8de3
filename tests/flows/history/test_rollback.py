"""The rollback of real runs: killed anywhere, done twice, beside others that publish, and from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.flows.living import LENGTH, TAG, House, pipeline
from typer.testing import CliRunner

from swath.flows.cli import app
from swath.flows.history import rollback as history
from swath.flows.history.rollback import preview, rollback
from swath.flows.run import plan as planning
from swath.flows.run import process
from swath.flows.run.records import Record, State
from swath.infra import storage
from swath.infra.lake import Lake
from swath.schemas.errors import AuditFailed, ConfigurationError, Conflict, RunLocked, SwathError
from swath.schemas.pipeline import Step

CHILD = """
import sys
from swath.flows.history.rollback import rollback
rollback(sys.argv[1], sys.argv[2], "me", "it was wrong")
"""
POINTS = ("rollback.built", "rollback.noted", "publish.before_commit", "publish.after_commit", "publish.after_marker",
          "rollback.committed")  # fmt: skip


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path) -> House:
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


def killed(house: House, run_id: str, point: str) -> None:
    environment = {**os.environ, "SWATH_CRASH_AT": point,
                   "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}  # fmt: skip
    command = [sys.executable, "-c", CHILD, house.warehouse, run_id]
    child = subprocess.run(command, env=environment, capture_output=True, timeout=200, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-2000:]


def overlapping(house: House) -> tuple[list[dict[str, Any]], Record, list[dict[str, Any]]]:
    """Three runs, of which the second made new rows, changed and deleted ones, and the third replaced some of these:
    the rows before the second, the second, and what should stand when it is undone."""
    house.put("a.txt", "b.txt", "c.txt", "d.txt")
    house.run()
    before = house.rows()
    house.put("b.txt", "c.txt", "e.txt", content="good and longer")
    house.remove("d.txt")
    second = house.run()
    house.put("c.txt", "f.txt", content="good, the third")
    third = house.run()
    was = {row["file"]: row for row in before}
    now = {row["file"]: row for row in house.rows(where=f"run_id = '{third.run_id}'")}
    after = {**was, **now}
    return before, second, [after[name] for name in sorted(after)]


def test_a_run_is_undone_and_what_others_did_since_stays(house: House) -> None:
    _, second, expected = overlapping(house)
    record = rollback(house.warehouse, second.run_id, "me", "it was wrong")
    assert house.rows() == expected
    assert record.rollback
    assert (record.status, record.rollback.removed, record.rollback.restored) == (State.ROLLED_BACK, 3, 2)
    assert record.rollback.snapshot_id == house.lake.snapshot("toy")
    said = house.snapshot_properties()
    assert said["swath.rollback"] == second.run_id
    assert (said["swath.rollback.by"], said["swath.rollback.why"]) == ("me", "it was wrong")
    assert house.runs.load(second.run_id) == record
    again = house.run()
    assert (again.why, again.gone) == ({"changed": 1, "new": 1}, 1)
    house.check(gone=1)


def test_files_that_nobody_has_replaced_since_are_put_back_as_they_are(house: House) -> None:
    house.put("one/a.txt", "two/a.txt")
    house.run(partition_by="{site}")
    before, files = house.rows(), house.lake.files("toy")
    house.put("one/a.txt", "two/b.txt", "three/a.txt", content="good and longer")
    second = house.run(partition_by="{site}")
    parts = {part.partition: (part.removed, part.restored, part.put_back, part.rebuilt)
             for part in preview(house.warehouse, second.run_id)}  # fmt: skip
    assert parts == {"site=one": (1, 1, 1, 0), "site=two": (1, 0, 1, 0), "site=three": (1, 0, 1, 0)}
    rollback(house.warehouse, second.run_id, "me")
    assert (house.lake.files("toy"), house.rows()) == (files, before)


def test_of_the_first_run_nothing_is_left(house: House) -> None:
    house.put("a.txt", "b.txt")
    record = house.run()
    rollback(house.warehouse, record.run_id, "me")
    assert (house.rows(), house.lake.files("toy")) == ([], [])
    assert house.run().why == {"new": 2}
    house.check()


def test_a_partition_that_was_laid_out_anew_goes_back_as_it_was_or_row_by_row(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "CELL_ITEMS", 4)
    house.put(*(f"{number}.txt" for number in range(3)))
    house.run()
    before, files = house.rows(), house.lake.files("toy")
    house.put(*(f"{number}.txt" for number in range(3, 30)))
    second = house.run()
    assert len(house.lake.files("toy")) > 4
    rollback(house.warehouse, second.run_id, "me")
    assert (house.rows(), house.lake.files("toy")) == (before, files)
    third = house.run()
    house.put("new.txt")
    fourth = house.run()
    rollback(house.warehouse, third.run_id, "me")
    assert house.names() == ["0.txt", "1.txt", "2.txt", "new.txt"]
    assert [row["run_id"] for row in house.rows(where="file = 'new.txt'")] == [fourth.run_id]
    house.run()
    house.check()


def test_waves_that_were_published_one_by_one_go_together(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WAVE_ITEMS", 2)
    given = pipeline(publish="wave")
    house.put(*(f"{site}/{number}.txt" for site in "abc" for number in range(2)))
    house.run(given, partition_by="{site}")
    before = house.rows()
    house.put(*(f"{site}/0.txt" for site in "abcd"), content="good and longer")
    second = house.run(given, partition_by="{site}")
    assert len(house.lake.published("toy", second.run_id)) > 1
    assert len({snapshot.id for snapshot in house.lake.snapshots("toy")}) > 3
    rollback(house.warehouse, second.run_id, "me")
    assert house.rows() == before


def test_objects_that_moved_to_another_partition_move_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WAVE_ITEMS", 2)
    house.put(*(f"{site}/{number}.txt" for site in "ab" for number in range(3)))
    house.run(partition_by="{site}")
    before = house.rows()
    second = house.run(partition_by="{part}")
    assert second.why == {"moved": 6}
    house.put("a/0.txt", content="good and longer")
    house.run(partition_by="{part}")
    rollback(house.warehouse, second.run_id, "me")
    assert house.rows()[1:] == before[1:]
    assert house.rows()[0]["partition"] == "part=a"
    house.check()


def test_rows_of_a_run_that_was_rolled_back_do_not_come_back_with_a_later_rollback(house: House) -> None:
    house.put("a.txt", "b.txt")
    house.run()
    before = house.rows()
    house.put("a.txt", content="second")
    second = house.run()
    house.put("a.txt", content="third")
    third = house.run()
    rollback(house.warehouse, second.run_id, "me")
    assert house.rows()[0]["run_id"] == third.run_id
    assert house.runs.load(second.run_id).rollback.removed == 0  # type: ignore[union-attr]
    rollback(house.warehouse, third.run_id, "me")
    assert house.rows() == before


def test_another_pipeline_of_the_table_is_undone_with_its_columns(house: House) -> None:
    house.put("a.txt", "b.txt")
    house.run()
    before = house.rows()
    second = house.run(pipeline(Step(op=LENGTH), Step(op=TAG)))
    house.put("c.txt")
    house.run(pipeline(Step(op=LENGTH), Step(op=TAG)))
    rollback(house.warehouse, second.run_id, "me")
    rows = house.rows()
    assert [{**row, "tag": None} for row in before] == rows[:2]
    assert rows[2]["tag"] == "a"


@pytest.mark.parametrize("point", POINTS)
def test_a_rollback_that_was_killed_is_finished_by_another(house: House, point: str) -> None:
    before, second, expected = overlapping(house)
    standing = house.rows()
    killed(house, second.run_id, point)
    committed = point in POINTS[3:]
    assert house.rows() == (expected if committed else standing)
    status = house.runs.load(second.run_id).status
    assert status == (State.PUBLISHED if point == "rollback.built" else State.ROLLING_BACK)
    if status == State.ROLLING_BACK:
        for refused in (house.resume, lambda run_id: process.discard(house.warehouse, run_id)):
            with pytest.raises(ConfigurationError, match=f"swath rollback {second.run_id}` finishes it"):
                refused(second.run_id)
    record = rollback(house.warehouse, second.run_id, "you")
    assert house.rows() == expected
    assert record.rollback
    assert (record.status, record.rollback.removed, record.rollback.restored) == (State.ROLLED_BACK, 3, 2)
    assert (record.rollback.by, record.rollback.why) == (("me", "it was wrong") if committed else ("you", None))
    assert record.rollback.snapshot_id == house.lake.snapshot("toy")
    snapshot = house.lake.snapshot("toy")
    assert rollback(house.warehouse, second.run_id, "again") == record
    assert house.lake.snapshot("toy") == snapshot
    assert len(before) == 4


def test_two_rollbacks_at_once_are_one(house: House) -> None:
    _, second, expected = overlapping(house)
    snapshots = len(house.lake.snapshots("toy"))

    def undo(_: int) -> object:
        try:
            return rollback(house.warehouse, second.run_id, "me").status
        except RunLocked as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(undo, range(2)))
    assert State.ROLLED_BACK in ended
    assert house.rows() == expected
    assert len(house.lake.snapshots("toy")) == snapshots + 1


def test_rollbacks_of_two_runs_at_once_both_happen(house: House) -> None:
    house.put("a.txt", "b.txt", "c.txt")
    house.run()
    before = house.rows()
    runs = []
    for name in ("a.txt", "b.txt", "d.txt"):
        house.put(name, content="good and longer")
        runs.append(house.run().run_id)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda run_id: rollback(house.warehouse, run_id, "me"), runs))
    assert house.rows() == before


def test_a_rollback_while_others_publish_undoes_its_run_alone(house: House) -> None:
    house.put("one/a.txt", "one/b.txt")
    house.run(partition_by="{site}")
    house.put("one/b.txt", content="good and longer")
    second = house.run(partition_by="{site}")
    stop, failures = threading.Event(), []

    def publish() -> None:
        for number in range(50):
            if stop.is_set():
                return
            house.put(f"one/{number}.txt")
            try:
                house.run(partition_by="{site}", include=("*/[0-9]*",))
            except SwathError as error:
                failures.append(error)

    other = threading.Thread(target=publish)
    other.start()
    try:
        rollback(house.warehouse, second.run_id, "me")
    finally:
        stop.set()
        other.join()
    assert not failures
    assert not house.rows(where=f"run_id = '{second.run_id}'")
    assert house.rows("length", "file = 'b.txt'") == [{"file": "b.txt", "length": len("good one/b.txt")}]
    assert house.run(partition_by="{site}").why == {"changed": 1}
    house.check()


def test_a_rollback_that_others_always_outrun_waits_for_its_turn(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second, _ = overlapping(house)
    whole, attempts = history.Undoing.adds, []

    def outrun(undoing: Any, into: str) -> Any:
        attempts.append(into)
        if len(attempts) < history.ATTEMPTS:
            (file, *_) = house.lake.files("toy")
            again = storage.join(storage.parent(file.path), f"again-{len(attempts)}.parquet")
            storage.write(again, storage.read(file.path))
            house.lake.replace("toy", [file._replace(path=again)], {file.cell: frozenset([file.path])}, "test")
        return whole(undoing, into)

    monkeypatch.setattr(history.Undoing, "adds", outrun)
    assert rollback(house.warehouse, second.run_id, "me").status == State.ROLLED_BACK
    assert len(attempts) == history.ATTEMPTS
    folder = storage.join(house.lake.data_prefix("toy"), second.run_id)
    assert sum(name.startswith("rollback-") for name in storage.list_names(folder)) == 1


def test_what_others_replace_without_asking_leaves_the_run_as_it_was(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second, _ = overlapping(house)
    monkeypatch.setattr(history, "ATTEMPTS", 1)
    rows, record = house.rows(), house.runs.load(second.run_id)
    publish = Lake.publish

    def outrun(lake: Lake, *given: Any) -> Any:
        (file, *_) = lake.files("toy")
        again = storage.join(storage.parent(file.path), "again.parquet")
        storage.write(again, storage.read(file.path))
        lake.replace("toy", [file._replace(path=again)], {file.cell: frozenset([file.path])}, "test")
        return publish(lake, *given)

    monkeypatch.setattr(Lake, "publish", outrun)
    with pytest.raises(Conflict, match="nothing was undone"):
        rollback(house.warehouse, second.run_id, "me")
    assert (house.rows(), house.runs.load(second.run_id)) == (rows, record)


def test_a_run_that_stopped_half_way_is_undone_and_cannot_be_resumed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "WAVE_ITEMS", 5)
    house.put(*(f"{site}/{number}.txt" for site in "ac" for number in range(5)))
    house.put(*(f"b/{number}.txt" for number in range(5)), content="bad")
    with pytest.raises(AuditFailed, match="2 of its 3 waves are published"):
        house.run(pipeline(publish="wave"), partition_by="{site}")
    (record,) = house.runs.all()
    rollback(house.warehouse, record.run_id, "me")
    assert house.rows() == []
    for refused in (
        lambda: house.resume(record.run_id),
        lambda: process.discard(house.warehouse, record.run_id),
        lambda: process.publish(house.warehouse, record.run_id, "anyway"),
    ):
        with pytest.raises(ConfigurationError, match="was rolled back; `swath run` makes anew"):
            refused()


def test_what_cannot_be_undone_is_said_in_a_sentence(house: House) -> None:
    house.put("a.txt")
    first = house.run()
    nothing = house.run()
    house.put("a.txt", content="good and longer")
    second = house.run()
    with pytest.raises(ConfigurationError, match="is nothing and has published nothing to roll back"):
        rollback(house.warehouse, nothing.run_id, "me")
    with pytest.raises(ConfigurationError, match="there is no run 'x'"):
        rollback(house.warehouse, "x", "me")
    with process._lease(house.runs, second), pytest.raises(RunLocked, match="is being driven by"):
        rollback(house.warehouse, second.run_id, "me")
    house.lake.expire("toy", [house.lake.snapshots("toy")[0].id], [first.run_id])
    rows = house.rows()
    for run_id in (first.run_id, second.run_id):
        with pytest.raises(ConfigurationError, match=f"what stood before run {run_id} has expired; the oldest"):
            rollback(house.warehouse, run_id, "me")
        assert house.runs.load(run_id).status == State.PUBLISHED
    assert house.rows() == rows


def test_the_command_asks_shows_and_tells(house: House) -> None:
    _, second, expected = overlapping(house)
    rows = house.rows()

    def swath(*given: str) -> Any:
        return CliRunner().invoke(app, [*given, "--warehouse", house.warehouse])

    refused = swath("rollback", second.run_id)
    assert isinstance(refused.exception, ConfigurationError)
    assert "--yes" in str(refused.exception)
    shown = swath("rollback", second.run_id, "--dry-run").output.splitlines()
    assert shown[1].split() == ["all", "3", "2", "0", "1"]
    parts = json.loads(swath("rollback", second.run_id, "--dry-run", "--json").output)["partitions"]
    assert parts == [{"partition": "all", "removed": 3, "restored": 2, "put_back": 0, "rebuilt": 1}]
    assert house.rows() == rows
    done = swath("rollback", second.run_id, "--yes", "--why", "the model", "--by", "ada").output
    assert f"run {second.run_id} is rolled back: 3 rows of it are gone, 2 earlier ones are back" in done
    assert house.rows() == expected
    assert "already" in swath("rollback", second.run_id, "--yes").output
    told = json.loads(swath("rollback", second.run_id, "--yes", "--json").output)
    assert (told["rollback"]["by"], told["rollback"]["why"], told["status"]) == ("ada", "the model", "rolled_back")
    assert "rolled back" in next(line for line in swath("runs").output.splitlines() if second.run_id in line)


def test_a_rollback_on_s3(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, audit_socket: Path) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    house = House(s3.bucket("lake") + "/lake", s3.bucket("source") + "/in", None)
    _, second, expected = overlapping(house)
    rollback(house.warehouse, second.run_id, "me")
    assert house.rows() == expected
    fourth = house.run()
    rollback(house.warehouse, fourth.run_id, "me")
    assert house.rows() == expected
