"""Upkeep of warehouses that real runs have filled: what is tidied, what is left alone, and nobody's rows change."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.flows.living import House, pipeline
from tests.flows.upkeep.keeping import age, files_below, scatter

from swath.flows.run import process
from swath.flows.run.records import State
from swath.flows.upkeep.maintain import Policy, lift_retention, maintain
from swath.flows.upkeep.report import Report
from swath.flows.upkeep.retention import parse
from swath.infra import corrections, storage
from swath.infra.lake import Lake
from swath.schemas.errors import AuditFailed, ConfigurationError

SOON = datetime.now(UTC) + timedelta(days=30)
"""A time at which everything that the tests make is old."""


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path) -> House:
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


def tidy(house: House, now: datetime | None = None, **policy: Any) -> Report:
    return maintain(house.warehouse, Policy(**policy), now)


def told(report: Report) -> dict[str, Any]:
    """The actions by what they are."""
    return {action.what: action for action in report.actions}


def test_a_cell_of_many_files_becomes_one_as_a_run_would_have_written_it(house: House) -> None:
    house.put(*(f"{letter}.txt" for letter in "dacbfe"))
    house.run()
    (whole,) = house.lake.files("toy")
    scatter(house, 4)
    before, there = house.rows(), house.lake.snapshot("toy")
    foreseen = tidy(house, dry_run=True)
    assert (house.lake.snapshot("toy"), foreseen.after) == (there, foreseen.before)
    report = tidy(house)
    assert [(one.what, one.cells, one.files) for one in report.actions] == [("compaction", 1, 3)]
    assert [(one.what, one.cells, one.files) for one in foreseen.actions] == [("compaction", 1, 3)]
    assert house.rows() == before
    (file,) = house.lake.files("toy")
    assert pq.read_table(storage.local_path(file.path)).equals(pq.read_table(storage.local_path(whole.path)))
    assert told(tidy(house)) == {}
    assert house.run().status == State.NOTHING
    house.check()


def test_files_grow_to_the_target_and_no_further(house: House) -> None:
    house.put(*(f"{number}.txt" for number in range(40)))
    house.run()
    scatter(house, 12)
    total = sum(file.bytes for file in house.lake.files("toy"))
    tidy(house, target_bytes=total // 3)
    assert len(house.lake.files("toy")) == 1  # headers of the small ones are most of their bytes
    scatter(house, 2)
    assert told(tidy(house, target_bytes=1)) == {}
    house.check()


def test_decisions_of_people_are_kept_in_their_order(house: House) -> None:
    decisions = [{"correction_id": f"{number:02}", "object_id": "o", "path": "fields.total"} for number in range(6)]
    for one in decisions:
        corrections.append(house.lake, [one])
    assert len(house.lake.files("corrections")) == 6
    assert told(tidy(house))["compaction"].files == 5
    (file,) = house.lake.files("corrections")
    kept = pq.read_table(storage.local_path(file.path))["correction_id"].to_pylist()
    assert kept == [one["correction_id"] for one in decisions]


def test_old_snapshots_expire_and_the_runs_are_still_known(house: House) -> None:
    runs = []
    for name in "abcd":
        house.put(f"{name}.txt")
        runs.append(house.run().run_id)
    for run_id in runs:  # as where a driver was killed after its commit
        storage.delete_prefix(storage.join(house.runs.folder(run_id), "published"))
    assert told(tidy(house)) == {}, "they are young"
    assert told(tidy(house, datetime.now(UTC) + timedelta(hours=2))) == {}, "a week is kept"
    assert told(tidy(house, SOON, keep_snapshots=4)) == {}
    report = tidy(house, SOON, keep_snapshots=2)
    assert told(report)["expiry"].snapshots == 2
    assert told(tidy(house, SOON))["expiry"].snapshots == 1
    assert len(house.lake.snapshots("toy")) == 1
    assert [house.lake.published("toy", run_id) for run_id in runs] == [{0}] * 4
    assert len(files_below(house.lake.data_prefix("toy"))) == 1, "what only they named is swept"
    assert house.run().status == State.NOTHING
    house.check()


def test_what_a_run_that_was_held_back_builds_on_and_has_staged_stays(house: House) -> None:
    house.put("a.txt", "b.txt")
    house.run()
    house.put(*(f"bad{number}.txt" for number in range(6)), content="bad")
    with pytest.raises(AuditFailed):
        house.run(max_rejects=0.01)
    held = house.runs.latest(State.AUDIT_FAILED)
    assert held is not None
    staged = files_below(storage.join(house.lake.data_prefix("toy"), held.run_id))
    assert staged
    base = house.lake.snapshot("toy")
    for number in range(6):
        house.remove(f"bad{number}.txt")
    for name in "cd":
        house.put(f"{name}.txt")
        house.run()
    report = tidy(house, SOON)
    assert "unfinished runs build on" in report.kept[0]
    assert any(held.run_id in text and "discard" in text for text in report.kept)
    assert {base, house.lake.snapshot("toy")} == {one.id for one in house.lake.snapshots("toy")}
    assert files_below(storage.join(house.lake.data_prefix("toy"), held.run_id)) == staged
    published = process.publish(house.warehouse, held.run_id, "they are known")
    assert published.status == State.PUBLISHED
    assert sorted(house.names("status <> 'rejected'")) == ["a.txt", "b.txt", "c.txt", "d.txt"]
    told_now = told(tidy(house, SOON))
    assert told_now["expiry"].snapshots == 2
    assert len(files_below(house.lake.data_prefix("toy"))) == 1


def test_a_run_of_which_nothing_is_known_keeps_the_snapshots_since_its_start(house: House) -> None:
    house.put("a.txt")
    house.run()
    record = house.runs.new(house.request())  # killed while it was listing
    for name in "bcd":
        house.put(f"{name}.txt")
        house.run()
    assert told(tidy(house, SOON)).get("expiry") is None
    assert house.resume(record.run_id).status == State.NOTHING
    assert told(tidy(house, SOON))["expiry"].snapshots == 3
    house.check()


def test_a_record_that_cannot_be_read_counts_as_unfinished(house: House) -> None:
    house.put("a.txt")
    run_id = house.run().run_id
    house.put("b.txt")
    house.run()
    house.remove("a.txt")
    house.put("b.txt", content="changed")
    house.run()
    for file in ("run.json", "manifest.json"):
        storage.write(storage.join(house.runs.folder(run_id), file), b'{"of another": "version"}')
    before = files_below(house.warehouse)
    assert told(tidy(house, SOON)) == {}
    assert files_below(house.warehouse) == before


def test_orphans_are_swept_when_they_are_old_and_nobodys(house: House) -> None:
    house.put("a.txt")
    run_id = house.run().run_id
    data, metadata = house.lake.data_prefix("toy"), storage.join(house.warehouse, "tables/toy/metadata")
    young, old = storage.join(data, run_id, "x/young.parquet"), storage.join(data, run_id, "x/old.parquet")
    others = [
        storage.join(metadata, "lost-m0.avro"),
        storage.join(house.runs.folder(run_id), "waves/p/00001/rows/late.parquet"),
        storage.join(data, ".0123.tmp"),
        storage.join(house.warehouse, "artifacts/toy/ab", f"{'ab' * 16}-0123.png"),
    ]
    strange = storage.join(house.warehouse, "tables/unknown/data/theirs.parquet")
    mine = storage.join(house.warehouse, "notes.txt")
    for uri in (young, old, *others, strange, mine):
        storage.write(uri, b"left behind")
    age(house.warehouse, timedelta(days=2))
    os.utime(storage.local_path(young))
    before = files_below(house.warehouse)
    foreseen = tidy(house, dry_run=True)
    assert files_below(house.warehouse) == before
    report = tidy(house, orphans_older_than=timedelta(0))
    assert before - files_below(house.warehouse) == {old, *others}
    assert (foreseen.actions, foreseen.before) == (report.actions, report.before)
    assert {kind: size for kind, size in report.after.items() if size != report.before[kind]}.keys() == {
        "data", "metadata", "runs", "artifacts"}  # fmt: skip
    assert [text for text in report.kept if text.startswith("tables/unknown")]
    house.check()
    assert house.run().status == State.NOTHING


def test_a_catalog_that_is_an_old_copy_costs_no_file(house: House) -> None:
    house.put("a.txt")
    house.run()
    database = next(Path(str(storage.local_path(house.warehouse))).glob("*.db"))
    copy = database.read_bytes()
    house.put("b.txt")
    house.run()
    database.write_bytes(copy)
    age(house.warehouse, timedelta(days=2))
    before = files_below(storage.join(house.warehouse, "tables"))
    report = maintain(house.warehouse, Policy())
    assert any("old copy" in text for text in report.kept)
    assert files_below(storage.join(house.warehouse, "tables")) == before


def test_partitions_that_are_over_are_dropped_and_stay_away(house: House) -> None:
    house.put("dt=2026-01-31/a.txt", "dt=2026-02-01/b.txt", "dt=2026-02-01/c.txt", "dt=unknown/d.txt")
    sliced = {"partition_by": "dt={dt}"}
    house.run(**sliced)
    rule = parse("dt<2026-02-01", datetime.now(UTC).date())
    foreseen = tidy(house, retention=(rule,), dry_run=True)
    assert len(house.names()) == 4
    dropped = told(tidy(house, retention=(rule,)))["retention"]
    assert (dropped.partitions, dropped.rows, foreseen.actions) == (1, 1, [dropped])
    assert house.names() == ["b.txt", "c.txt", "d.txt"]
    house.put("dt=2026-01-30/late.txt", "dt=2026-02-02/e.txt")
    record = house.run(**sliced)
    assert (record.items, record.gone) == (1, 0), "what is over is not taken again"
    assert told(tidy(house)) == {}
    lift_retention(house.warehouse, ())
    assert house.run(**sliced).items == 2
    house.check()


@pytest.mark.parametrize(
    ("rule", "partition", "takes"),
    [
        ("dt<2026-02-01", "dt=2026-01-31", True),
        ("dt<2026-02-01", "dt=2026-02-01", False),
        ("dt<2026-02-01", "dt=2026-01", True),
        ("dt<2026-01-31", "dt=2026-01", False),
        ("dt<2026", "site=a/dt=20251231", True),
        ("dt<2026", "dt=2025", True),
        ("dt<2026", "dt=last", False),
        ("dt<2026", "all", False),
        ("dt>30d", "dt=2026-05-01", True),
        ("dt>30d", "dt=2026-05-02", False),
        ("site=a/*: dt>30d", "site=a/dt=2025-01-01", True),
        ("site=a/*: dt>30d", "site=b/dt=2025-01-01", False),
        ("site=test/*", "site=test/dt=2026-06-01", True),
        ("site=test/*", "site=real/dt=2026-06-01", False),
    ],
)
def test_what_a_retention_takes(rule: str, partition: str, takes: bool) -> None:
    today = datetime(2026, 6, 1, tzinfo=UTC).date()
    assert parse(rule, today).takes(partition) is takes
    assert parse(str(parse(rule, today)), today).takes(partition) is takes, "as it is remembered"


@pytest.mark.parametrize("rule", ["", "*", "dt", "dt<soon", "dt>2026-01-01", "dt=", "dt < 5 d", "dt<2026-13-01"])
def test_a_retention_that_says_nothing_clear_is_refused(rule: str) -> None:
    with pytest.raises(ConfigurationError):
        parse(rule, datetime(2026, 6, 1, tzinfo=UTC).date())


def test_rows_of_what_is_long_gone_are_erased(house: House) -> None:
    house.put("a.txt", "b.txt", "c.txt")
    house.run()
    house.remove("a.txt")
    house.run()
    house.check(gone=1)
    assert told(tidy(house, gone_older_than=timedelta(days=1))) == {}
    foreseen = tidy(house, SOON, gone_older_than=timedelta(days=29), keep_snapshots=9, dry_run=True)
    report = tidy(house, SOON, gone_older_than=timedelta(days=29), keep_snapshots=9)
    assert [told(one)["gone"].rows for one in (foreseen, report)] == [1, 1]
    house.check(gone=0)
    house.remove("b.txt", "c.txt")
    house.put("d.txt")
    house.run()
    tidy(house, SOON, gone_older_than=timedelta(0))
    assert house.names() == ["d.txt"]
    house.put("a.txt")
    assert house.run().why == {"new": 1}
    house.check()


def test_a_kept_artifact_is_one_that_a_row_of_some_snapshot_made(house: House) -> None:
    house.put("a.txt", "b.txt")
    house.run()
    row = house.rows("item_id, fingerprints")[0]
    item, made = row["item_id"], dict(row["fingerprints"])["length"]
    folder = storage.join(house.warehouse, "artifacts/toy", item[:2])
    kept, older = storage.join(folder, f"{item}-{made}.png"), storage.join(folder, f"{item}-{'0' * len(made)}.png")
    for uri in (kept, older):
        storage.write(uri, b"png")
    house.remove("a.txt")
    house.run(pipeline())
    assert told(tidy(house, SOON, keep_snapshots=9))["artifacts"].files == 1
    assert files_below(folder) == {kept}
    tidy(house, SOON, gone_older_than=timedelta(0))
    tidy(house, SOON)
    assert files_below(folder) == set()


def test_manifests_of_runs_long_over_are_deleted(house: House) -> None:
    house.put("a.txt")
    run_id = house.run().run_id
    manifest = storage.join(house.runs.folder(run_id), "manifest")
    assert tidy(house, SOON).actions == []
    assert files_below(manifest)
    assert told(tidy(house, SOON, manifests_older_than=timedelta(days=29)))["manifests"].files == 1
    assert not files_below(manifest)
    house.put("b.txt")
    assert house.run().items == 1
    house.check()


def test_tables_can_be_named(house: House) -> None:
    house.put("a.txt")
    house.run()
    corrections.append(house.lake, [{"correction_id": "1"}])
    corrections.append(house.lake, [{"correction_id": "2"}])
    assert tidy(house, tables=("toy",)).actions == []
    assert [action.table for action in tidy(house, tables=("corrections",)).actions] == ["corrections"]
    with pytest.raises(ConfigurationError, match="there is no table"):
        tidy(house, tables=("toi",))


def test_a_warehouse_that_is_not_there_is_not_made(warehouse: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no warehouse"):
        maintain(warehouse, Policy())
    assert not storage.local_path(warehouse).exists()
    storage.local_path(warehouse).mkdir()
    assert maintain(warehouse, Policy()).actions == []


@pytest.mark.parametrize("point", ["upkeep.written", "expire.marked", "upkeep.expired", "publish.before_commit"])
def test_killed_anywhere_it_is_finished_by_the_next(house: House, point: str, in_child: Callable[..., int]) -> None:
    house.put("a.txt", "b.txt", "c.txt")
    house.run()
    scatter(house, 3)
    before = house.rows()
    in_child(house.warehouse, SOON, point)
    assert house.rows() == before
    age(house.warehouse, timedelta(days=2))
    tidy(house, SOON)
    assert house.rows() == before
    assert len(house.lake.files("toy")) == len(files_below(house.lake.data_prefix("toy"))) == 1
    assert house.run().status == State.NOTHING


def test_on_s3(s3: Any, tmp_path: Path, audit_socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    house = House(s3.bucket("lake") + "/lake", s3.bucket("source") + "/in", None)
    for name in "abc":
        house.put(f"{name}.txt")
        house.run()
    scatter(house, 3)
    rows = house.rows()
    report = tidy(house, SOON)
    assert {action.what for action in report.actions} == {"compaction", "expiry", "orphans", "metadata"}
    assert told(report)["expiry"].snapshots == len("abc") + 1
    assert house.rows() == rows
    assert Lake(house.warehouse).files("toy")[0].rows == 3
    assert json.loads(report.model_dump_json())["after"]["data"]["files"] == 1
    house.check()
