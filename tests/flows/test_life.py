"""A run's life from the first listing to the published table, in the calling process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swath.flows import engine, process
from swath.flows import plan as planning
from swath.flows.audit_worker import AuditClient
from swath.flows.records import State
from swath.infra import storage
from swath.schemas.errors import AuditFailed, ConfigurationError, RunLocked, SourceError, SwathError
from swath.schemas.pipeline import Source, Step, Table
from tests.flows.living import LENGTH, TAG, House, pipeline


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path) -> House:
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


def test_every_file_becomes_one_row(house: House) -> None:
    house.put(*(f"{number:02}.txt" for number in range(10)))
    record = house.run()
    assert (record.status, record.items, record.ok, record.waves) == (State.PUBLISHED, 10, 10, 1)
    assert record.snapshot_id == house.lake.snapshot("toy")
    house.check()


def test_a_second_run_does_nothing_and_starts_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.put("a.txt", "b.txt")
    house.run()
    before = house.rows()

    def never(*_: Any) -> Any:
        raise AssertionError("started for nothing")

    monkeypatch.setattr(AuditClient, "start", never)
    monkeypatch.setattr(engine, "start", never)
    record = house.run(ray="local")
    assert (record.status, record.items, record.unchanged, record.waves) == (State.NOTHING, 0, 2, 0)
    assert house.rows() == before


def test_ten_new_files_are_ten_processed_and_the_others_as_they_were(house: House) -> None:
    house.put(*(f"old-{number}.txt" for number in range(20)))
    first = house.run()
    before = house.rows()
    house.put(*(f"new-{number}.txt" for number in range(10)))
    record = house.run()
    assert (record.items, record.ok, record.carried, record.unchanged) == (10, 10, 20, 20)
    assert record.why == {"new": 10}
    assert house.rows(where=f"run_id = '{first.run_id}'") == before
    house.check()


def test_a_changed_file_is_replaced_and_only_that(house: House) -> None:
    house.put("a.txt", "b.txt")
    first = house.run()
    house.put("b.txt", content="good and longer")
    record = house.run()
    assert (record.items, record.why) == (1, {"changed": 1})
    assert [row["run_id"] for row in house.rows()] == [first.run_id, record.run_id]
    assert house.rows()[1]["length"] == len("good and longer b.txt")
    house.check()


def test_a_deleted_file_is_gone_and_may_come_back(house: House) -> None:
    house.put("a.txt", "b.txt", "c.txt")
    house.run()
    house.remove("b.txt")
    record = house.run()
    assert (record.status, record.items, record.gone, record.carried) == (State.PUBLISHED, 0, 1, 2)
    house.check(gone=1)
    again = house.run()
    assert (again.status, again.gone) == (State.NOTHING, 0)
    house.put("b.txt")
    assert house.run().why == {"new": 1}
    house.check()


@pytest.mark.parametrize("part", [{"limit": 1}, {"include": ("a*",)}, {"exclude": ("b*",)}])
def test_what_a_partial_run_does_not_look_at_is_not_gone(house: House, part: dict[str, Any]) -> None:
    house.put("a.txt", "b.txt")
    house.run()
    house.remove("b.txt")
    house.put("a.txt", content="changed")
    assert house.run(**part).gone == 0
    assert house.names("status = 'ok'") == ["a.txt", "b.txt"]


def test_a_folder_beside_is_not_gone(house: House) -> None:
    house.put("one/a.txt", "two/a.txt")
    house.run()
    house.remove("two/a.txt")
    house.put("one/b.txt")
    house.run(source=house.source + "/one")
    house.put("two/a.txt")
    house.check()


def test_rejects_are_tried_again_only_when_asked_for(house: House) -> None:
    house.put("a.txt", "b.txt")
    house.put("c.txt", "d.txt", content="bad")
    first = house.run()
    assert (first.ok, first.rejected, first.reasons) == (2, 2, {"corrupt": 2})
    assert house.run().status == State.NOTHING
    assert house.run(retry="truncated").status == State.NOTHING
    again = house.run(retry="corrupt")
    assert (again.items, again.why, again.carried) == (2, {"retried": 2}, 2)
    assert house.run(retry="all").items == 2
    house.check()


def test_retries_ask_for_what_the_latest_runs_asked_for(house: House) -> None:
    house.put("a.txt")
    house.run(partition_by="{site}", limit=1)
    (request,) = process.retries(house.warehouse, "corrupt", "off")
    assert (request.retry, request.limit, request.partition_by) == ("corrupt", None, "{site}")


def test_other_steps_or_settings_mean_that_all_is_made_anew(house: House) -> None:
    house.put("a.txt", "b.txt")
    house.run()
    record = house.run(pipeline(Step(op=LENGTH), Step(op=TAG, config={"value": "x"})))
    assert record.why == {"recomputed": 2}
    assert [row["tag"] for row in house.rows()] == ["x", "x"]
    record = house.run(pipeline(Step(op=LENGTH), Step(op=TAG, config={"value": "y"})))
    assert record.why == {"recomputed": 2}
    assert [row["tag"] for row in house.rows()] == ["y", "y"]


def test_a_removed_step_keeps_its_column_and_a_new_one_adds_its_own(house: House) -> None:
    house.put("a.txt", "b.txt")
    house.run(pipeline(Step(op=TAG, config={"value": "x"})))
    house.put("0.txt")
    record = house.run(pipeline(Step(op=LENGTH)), limit=1)
    assert (record.items, record.carried) == (1, 2)
    assert [(row["tag"], row["length"]) for row in house.rows()] == [(None, 10), ("x", None), ("x", None)]


def test_a_column_of_another_type_is_refused_before_any_work(house: House) -> None:
    house.put("a.txt")
    house.run(pipeline(Step(op=TAG, name="size")))
    house.put("b.txt")
    with pytest.raises(ConfigurationError, match="size_tag"):
        house.run(pipeline(Step(op="tests.flows.toy:Number", name="size")))
    assert house.names() == ["a.txt"]


@pytest.mark.parametrize("publish", ["run", "wave"])
def test_objects_move_when_the_partitions_do(house: House, publish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WAVE_ITEMS", 3)
    house.put(*(f"{site}/{number}.txt" for site in "abc" for number in range(3)))
    house.run(pipeline(publish=publish))
    house.put("a/1.txt", content="changed and moved")
    before = house.lake.snapshot("toy")
    record = house.run(pipeline(publish=publish), partition_by="{site}")
    assert (record.why, record.waves) == ({"changed": 1, "moved": 8}, 3)
    house.check()
    assert {row["partition"] for row in house.rows()} == {"site=a", "site=b", "site=c"}
    assert record.snapshot_id == house.lake.snapshot("toy") != before
    assert house.run(pipeline(publish=publish), partition_by="{site}").status == State.NOTHING
    house.run(pipeline(publish=publish))
    house.check()


def test_a_gone_object_that_comes_back_into_another_partition_stands_once(house: House) -> None:
    house.put("x/a.txt", "x/b.txt")
    house.run()
    house.remove("x/a.txt")
    house.run()
    house.put("x/a.txt")
    house.run(pipeline(publish="wave"), partition_by="{dir}")
    house.check()


def test_a_partition_that_grows_is_laid_out_in_more_cells(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CELL_ITEMS", 8)
    monkeypatch.setattr(planning, "WAVE_ITEMS", 4)
    house.put(*(f"{number:03}.txt" for number in range(6)))
    house.put("gone.txt")
    first = house.run()
    house.remove("gone.txt")
    house.run()
    for count in (10, 30, 60):
        house.put(*(f"{number:03}.txt" for number in range(count)))
        house.run(pipeline(publish="wave"))
        house.check(gone=1)
        buckets = 1 << max(row["bucket"] for row in house.rows("bucket")).bit_length()
        assert 8 * buckets >= count + 1
        for row in house.rows("bucket, object_id"):
            assert row["bucket"] == int(row["object_id"][:8], 16) % buckets
    assert len(house.rows(where=f"run_id = '{first.run_id}'")) == 6
    house.put("007.txt", content="changed")
    assert house.run().items == 1
    house.check(gone=1)


def test_waves_are_published_one_by_one_or_together(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WAVE_ITEMS", 4)
    house.put(*(f"{site}/{number}.txt" for site in "abcde" for number in range(2)))
    record = house.run(pipeline(publish="wave"), partition_by="{site}")
    assert record.waves == 3
    assert house.lake.published("toy", record.run_id) == {1, 2, 3}
    house.put(*(f"{site}/new.txt" for site in "abcde"))
    record = house.run(partition_by="{site}")
    assert record.waves == 2
    assert house.lake.published("toy", record.run_id) == {0}
    house.check()


def test_a_published_run_leaves_no_staging(house: House) -> None:
    house.put("a.txt")
    record = house.run()
    kept = {"checks/", "docs/", "judged/", "manifest.json", "manifest/", "plan.json", "published/", "run.json"}
    assert house.staged(record.run_id) == kept
    assert house.staged(house.run().run_id) == {"manifest.json", "plan.json", "run.json"}
