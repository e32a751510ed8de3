"""A run's life from the first listing to the published table, in the calling process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.flows.living import LENGTH, TAG, House, pipeline

from swath.flows.audit.worker import AuditClient
from swath.flows.run import plan as planning
from swath.flows.run import process
from swath.flows.run.records import State
from swath.flows.work import engine
from swath.infra import storage
from swath.schemas.errors import AuditFailed, ConfigurationError, RunLocked, SourceError, SwathError
from swath.schemas.pipeline import Source, Step


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


def test_an_audit_that_fails_shows_nothing_until_it_is_forced(house: House) -> None:
    house.put("a.txt")
    house.put(*(f"{number}.txt" for number in range(5)), content="bad")
    with pytest.raises(AuditFailed, match=r"rejects_within_budget.*5 of 6.*publish --run \S+ --force") as failure:
        house.run()
    assert failure.value.exit_code == 3
    record = house.runs.latest(State.AUDIT_FAILED)
    assert record is not None
    assert (record.rejected, record.finished_at is None, house.rows()) == (5, False, [])
    with pytest.raises(ConfigurationError, match="wants the reason"):
        process.publish(house.warehouse, record.run_id, " ")
    forced = process.publish(house.warehouse, record.run_id, "known bad scans")
    assert (forced.status, forced.forced_reason) == (State.PUBLISHED, "known bad scans")
    assert house.runs.load(record.run_id) == forced
    assert house.snapshot_properties()["swath.forced"] == "known bad scans"
    house.check()
    with pytest.raises(ConfigurationError, match="published"):
        process.discard(house.warehouse, record.run_id)
    with pytest.raises(ConfigurationError, match="not held back"):
        process.publish(house.warehouse, record.run_id, "again")


def test_a_discarded_run_leaves_the_table_as_it_was(house: House) -> None:
    house.put("a.txt")
    house.run()
    before = house.rows()
    house.put(*(f"{number}.txt" for number in range(5)), content="bad")
    with pytest.raises(AuditFailed):
        house.run()
    (record,) = [one for one in house.runs.all() if one.status == State.AUDIT_FAILED]
    assert process.discard(house.warehouse, record.run_id).status == State.DISCARDED
    assert house.rows() == before
    assert record.run_id + "/" not in storage.list_names(house.lake.data_prefix("toy"))
    with pytest.raises(ConfigurationError, match="nothing to resume"):
        house.resume(record.run_id)
    house.remove(*(f"{number}.txt" for number in range(5)))
    house.run()
    house.check()


def test_the_budget_is_judged_on_the_partition_as_it_will_stand(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.put(*(f"{number:03}.txt" for number in range(95)))
    house.run(pipeline(max_rejects=0.05))
    house.put(*(f"bad-{number}.txt" for number in range(5)), content="bad")
    assert house.run(pipeline(max_rejects=0.05)).rejected == 5
    house.put("bad-6.txt", content="bad")
    with pytest.raises(AuditFailed, match=r"6 of 101 rejected \(5\.9%\)"):
        house.run(pipeline(max_rejects=0.05))
    record = house.run(pipeline(max_rejects=0.05), max_rejects=1)
    assert (record.status, record.max_rejects, record.request.max_rejects) == (State.PUBLISHED, 1, 1)
    house.check()


def test_the_budget_counts_all_waves_of_a_partition(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CELL_ITEMS", 20)
    monkeypatch.setattr(planning, "WAVE_ITEMS", 10)
    house.put(*(f"{number:03}.txt" for number in range(60)))
    house.put(*(f"bad-{number}.txt" for number in range(8)), content="bad")
    record = house.run(pipeline(max_rejects=0.12))
    assert record.waves == 4
    house.check()


def test_waves_that_pass_are_published_beside_one_that_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WAVE_ITEMS", 5)
    house.put(*(f"{site}/{number}.txt" for site in "ac" for number in range(5)))
    house.put(*(f"b/{number}.txt" for number in range(5)), content="bad")
    with pytest.raises(AuditFailed, match="2 of its 3 waves are published"):
        house.run(pipeline(publish="wave"), partition_by="{site}")
    assert {row["partition"] for row in house.rows()} == {"site=a", "site=c"}
    record = house.runs.all()[0]
    assert process.publish(house.warehouse, record.run_id, "known").ok == 10
    house.check()


def test_of_a_run_that_is_published_in_part_the_rest_is_discarded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "WAVE_ITEMS", 5)
    house.put(*(f"{site}/{number}.txt" for site in "ac" for number in range(5)))
    house.put(*(f"b/{number}.txt" for number in range(5)), content="bad")
    with pytest.raises(AuditFailed, match="swath discard"):
        house.run(pipeline(publish="wave"), partition_by="{site}")
    before = house.rows()
    record = process.discard(house.warehouse, house.runs.all()[0].run_id)
    assert (record.status, record.error) == (State.DISCARDED, "2 of its 3 waves stay published")
    assert (record.ok, record.rejected) == (10, 0)
    assert house.rows() == before
    assert {row["partition"] for row in before} == {"site=a", "site=c"}
    kept = {one.uri for one in storage.list_objects(house.lake.data_prefix("toy"))}
    assert kept == {file.path for file in house.lake.files("toy")}
    assert "waves/" not in house.staged(record.run_id)
    with pytest.raises(ConfigurationError, match="nothing to resume"):
        house.resume(record.run_id)
    house.put(*(f"b/{number}.txt" for number in range(5)))
    assert house.run(pipeline(publish="wave"), partition_by="{site}").items == 5
    house.check()


def test_two_drivers_of_one_run_are_kept_apart(house: House) -> None:
    house.put("a.txt")
    house.run()
    record = house.runs.new(house.request())
    with process._lease(house.runs, record), pytest.raises(RunLocked, match=f"run {record.run_id} is being driven by"):
        house.resume(record.run_id)
    assert house.runs.load(record.run_id).status == State.RUNNING
    assert house.resume().status == State.NOTHING


Interfering = Callable[[Callable[[], Any]], None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], Any]], None]:
    """Has something done once, at a crash point of the run under test."""
    from swath.flows.run import driver

    def arrange(at: str, action: Callable[[], Any]) -> None:
        due = [action]

        def crash_point(name: str) -> None:
            if name == at and due:
                due.pop()()

        monkeypatch.setattr(driver, "crash_point", crash_point)

    return arrange


@pytest.mark.parametrize("at", ["listed", "planned", "staged", "judged"])
def test_two_runs_at_once_over_one_source_make_every_row_once(house: House, meanwhile: Any, at: str) -> None:
    house.put(*(f"{number}.txt" for number in range(5)))
    others: list[Any] = []
    meanwhile(at, lambda: others.append(house.run()))
    record = house.run()
    assert others[0].status == State.PUBLISHED
    assert record.status in (State.PUBLISHED, State.NOTHING)
    house.check()
    assert house.run().status == State.NOTHING


@pytest.mark.parametrize("publish", ["run", "wave"])
@pytest.mark.parametrize("at", ["planned", "staged", "judged"])
def test_two_runs_at_once_with_different_partitions_make_every_row_once(
    house: House, meanwhile: Any, at: str, publish: str
) -> None:
    house.put(*(f"{site}/{number}.txt" for site in "ab" for number in range(3)))
    meanwhile(at, lambda: house.run(partition_by="{site}"))
    house.run(pipeline(publish=publish))
    house.check()


def test_a_partition_laid_out_anew_meanwhile_is_planned_again(
    house: House, meanwhile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "CELL_ITEMS", 8)
    house.put(*(f"{number:03}.txt" for number in range(7)))
    house.run()
    house.put("a.txt", "000.txt", content="changed")

    def grow() -> None:
        house.put(*(f"{number:03}.txt" for number in range(10, 30)))
        house.run()

    meanwhile("judged", grow)
    house.run()
    house.check()
    assert house.run().status == State.NOTHING


def test_two_runs_over_different_partitions_both_publish(house: House, meanwhile: Any) -> None:
    house.put("a/1.txt", "b/1.txt")
    others: list[Any] = []
    meanwhile("judged", lambda: others.append(house.run(partition_by="{site}", source=house.source)))
    house.put("a/2.txt")
    record = house.run(partition_by="{site}")
    assert (record.status, others[0].status) == (State.PUBLISHED, State.PUBLISHED)
    house.check()


def test_what_stands_is_settled_and_audited_anew_when_it_has_changed(house: House, meanwhile: Any) -> None:
    house.put("a.txt")
    house.run(pipeline(max_rejects=0.5))
    house.put(*(f"bad-{number}.txt" for number in range(4)), content="bad")

    def more() -> None:
        house.put(*(f"worse-{number}.txt" for number in range(4)), content="bad")
        house.run(max_rejects=1)

    meanwhile("judged", more)
    with pytest.raises(AuditFailed, match="8 of 9"):
        house.run(pipeline(max_rejects=0.5))
    assert house.runs.all()[1].status == State.AUDIT_FAILED
    assert len(house.rows(where="status = 'rejected'")) == 8


def test_a_source_that_cannot_be_listed_fails_in_one_sentence(house: House, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="source"):
        house.run()
    (record,) = house.runs.all()
    assert record.status == State.FAILED
    assert record.error is not None
    assert "source" in record.error
    assert house.lake.tables() == []
    house.put("a.txt")
    assert house.resume().status == State.PUBLISHED


def test_a_warehouse_that_cannot_be_written_fails_in_one_sentence(house: House, tmp_path: Path) -> None:
    house.put("a.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(SwathError, match="cannot be written") as failure:
        house.run(warehouse=str(tmp_path / "file"))
    assert failure.value.exit_code == 1


def test_a_pipeline_that_cannot_work_leaves_no_run(house: House) -> None:
    house.put("a.txt")
    with pytest.raises(ConfigurationError):
        house.run(pipeline(Step(op="tests.flows.toy:Missing")))
    assert house.runs.names() == []


def test_a_run_in_the_folder_of_a_hive_partition(tmp_path: Path, audit_socket: Path) -> None:
    house = House(f"file://{tmp_path}/status=x/partition=y/lake", f"file://{tmp_path}/bucket=7/source", audit_socket)
    house.put("a.txt")
    house.run()
    house.put("b.txt")
    assert house.run().carried == 1
    house.check()


def test_documents_that_lose_and_gain_pages(house: House, tmp_path: Path) -> None:
    from PIL import Image

    def write(pages: int) -> None:
        images = [Image.new("L", (8, 8), shade) for shade in range(pages)]
        images[0].save(Path(house.source.removeprefix("file://")) / "d.tif", save_all=True, append_images=images[1:])

    documents = pipeline(source=Source(include=("*.txt", "*.tif")))
    house.put("a.txt")
    write(4)
    assert house.run(documents).items == 5
    for pages in (2, 6, 1):
        write(pages)
        record = house.run(documents)
        assert (record.items, record.why) == (pages, {"changed": 1})
        rows = house.rows("page, run_id", "source_uri LIKE '%d.tif'")
        assert [row["page"] for row in rows] == ([None] if pages == 1 else list(range(1, pages + 1)))
        assert {row["run_id"] for row in rows} == {record.run_id}
