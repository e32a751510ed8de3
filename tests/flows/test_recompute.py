"""Only what changed is computed again: a table that grew step by step is the one that is made from scratch."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.flows.living import LENGTH, TAG, House, pipeline

from swath.flows.console.preview import preview
from swath.flows.demo.photos import draw_photos
from swath.flows.pipelines.binding import bind, parse
from swath.flows.run import plan as planning
from swath.flows.run import process
from swath.flows.run.records import Record, Request, State
from swath.infra import storage
from swath.infra.lake import Lake
from swath.schemas.items import VERDICT
from swath.schemas.pipeline import Pipeline, Step, Table

TWICE, GROUP = "tests.flows.toy:Twice", "tests.flows.toy:Group"
MADE_BY = {"run_id", "wave", "processed_at", "seconds", "step_runs"}
"""What two runs that computed the same differ in."""


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path) -> House:
    house = House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)
    house.put("a/one.txt", "a/three.txt", "b/seven.txt")
    house.put("b/ill.txt", content="bad")
    return house


def given(*steps: Step, **changes: Any) -> Pipeline:
    return pipeline(*steps, max_rejects=1, **changes)


def run(house: House, *steps: Step, **changes: Any) -> Record:
    return house.run(given(*steps, **changes), partition_by="{site}")


def contents(house: House) -> list[dict[str, Any]]:
    """The rows without what tells runs apart."""
    return [{name: value for name, value in row.items() if name not in MADE_BY} for row in house.rows()]


def fresh(house: House, pipeline: Pipeline, folder: Path) -> list[dict[str, Any]]:
    """The rows of the same source and pipeline in a warehouse of its own."""
    other = House(f"file://{folder}", house.source, house.audit_socket)
    other.run(pipeline, partition_by="{site}")
    return contents(other)


def test_a_new_step_that_reads_the_table_runs_alone_and_opens_no_object(house: House, tmp_path: Path) -> None:
    first = run(house, Step(op=LENGTH), Step(op=TAG))
    steps = (Step(op=LENGTH), Step(op=TAG), Step(op=TWICE))
    found = preview(house.request(given(*steps), partition_by="{site}"))
    # The one that was rejected by `length` stays rejected by it: nothing before its reject has changed.
    assert (found.pending, found.not_read, found.why) == (4, 4, {"recomputed": 4})
    assert [(part.items, part.stale, part.reads) for part in found.parts if part.items] == [(4, ["twice"], False)]
    second = run(house, *steps)
    assert (second.ok, second.rejected, set(second.operators)) == (3, 1, {"twice"})
    assert contents(house) == fresh(house, given(*steps), tmp_path / "other")
    for row in house.rows():
        made_by = {"length": first.run_id, "tag": first.run_id, "twice": second.run_id}
        assert dict(row["step_runs"]) == made_by
        assert row["run_id"] == second.run_id
        assert row["file"] == "ill.txt" or set(dict(row["seconds"])) == {"length", "tag", "twice"}
    assert run(house, *steps).status == State.NOTHING


def test_a_step_whose_settings_change_takes_those_that_read_it_along_and_no_other(house: House, tmp_path: Path) -> None:
    before = (Step(op=LENGTH), Step(op=TAG), Step(op=TWICE), Step(op=GROUP))
    run(house, *before)
    after = (Step(op=LENGTH), Step(op=TAG, config={"value": "b"}), Step(op=TWICE), Step(op=GROUP))
    record = run(house, *after)
    assert set(record.operators) == {"tag"}
    other = (Step(op=LENGTH, config={"reason": "empty"}), *after[1:])
    record = run(house, *other)
    assert set(record.operators) == {"length", "twice", "group"}
    assert contents(house) == fresh(house, given(*other), tmp_path / "other")
    assert house.rows("reject_reason", "status = 'rejected'") == [{"file": "ill.txt", "reject_reason": "empty"}]


def test_what_a_changed_step_had_rejected_begins_anew_and_what_an_earlier_one_had_does_not(
    house: House, tmp_path: Path
) -> None:
    house.put("a/nine.txt", content="good good")
    run(house, Step(op=LENGTH))
    (refuses,) = (row["length"] for row in house.rows("length") if row["file"] == "one.txt")
    steps = (Step(op=LENGTH), Step(op=TWICE, config={"refuses": refuses}), Step(op=TAG))
    run(house, *steps)
    assert house.names("reject_operator = 'twice'") == ["one.txt"]
    milder = (Step(op=LENGTH), Step(op=TWICE), Step(op=TAG))
    found = preview(house.request(given(*milder), partition_by="{site}"))
    assert {(part.items, part.reads) for part in found.parts if part.items} == {(1, True), (4, False)}
    record = run(house, *milder)
    assert (record.ok, record.rejected) == (4, 1)
    assert contents(house) == fresh(house, given(*milder), tmp_path / "other")


def test_what_a_step_rejects_now_keeps_nothing_of_the_steps_behind_it(house: House, tmp_path: Path) -> None:
    run(house, Step(op=LENGTH), Step(op=TAG))
    (refuses,) = (row["length"] for row in house.rows("length") if row["file"] == "one.txt")
    steps = (Step(op=LENGTH), Step(op=TWICE, config={"refuses": refuses}), Step(op=TAG))
    assert set(run(house, *steps).operators) == {"twice"}
    assert house.rows("tag, reject_operator", "length = " + str(refuses)) == [
        {"file": "one.txt", "tag": None, "reject_operator": "twice"}
    ]
    assert contents(house) == fresh(house, given(*steps), tmp_path / "other")


def test_steps_that_change_places_reach_what_the_other_one_had_kept_from_them(house: House, tmp_path: Path) -> None:
    steps = (Step(op=LENGTH), Step(op=TWICE, config={"refuses": len("good good a/nine.txt")}), Step(op=TAG))
    house.put("a/nine.txt", content="good good")
    run(house, *steps)
    assert house.names("reject_operator = 'twice'") == ["nine.txt"]
    for moved in ((steps[0], steps[2], steps[1]), steps):
        run(house, *moved)
        assert contents(house) == fresh(house, given(*moved), tmp_path / moved[1].op.rpartition(":")[2])


def test_a_step_that_is_gone_leaves_nulls_and_nothing_is_computed(house: House, tmp_path: Path) -> None:
    run(house, Step(op=LENGTH), Step(op=TAG))
    record = run(house, Step(op=LENGTH))
    assert (record.ok + record.rejected, record.operators) == (4, {})
    assert {row["tag"] for row in house.rows("tag")} == {None}
    assert {tuple(dict(row["fingerprints"])) for row in house.rows("fingerprints")} == {("length",)}
    back = run(house, Step(op=LENGTH), Step(op=TAG))
    assert set(back.operators) == {"tag"}
    assert contents(house) == fresh(house, given(Step(op=LENGTH), Step(op=TAG)), tmp_path / "other")


def test_a_column_that_is_left_out_goes_without_work_and_comes_back_with_it(house: House, tmp_path: Path) -> None:
    steps = (Step(op=LENGTH), Step(op=TWICE))
    run(house, *steps)
    table = Table(leave_out=("length",))
    record = run(house, *steps, table=table)
    assert record.operators == {}
    assert {row["length"] for row in house.rows("length")} == {None}
    # What reads the column that no row has any more needs the step that makes it.
    other = (Step(op=LENGTH), Step(op=TWICE, config={"plus": 1}))
    assert set(run(house, *other, table=table).operators) == {"length", "twice"}
    assert set(run(house, *other).operators) == {"length", "twice"}
    assert contents(house) == fresh(house, given(*other), tmp_path / "other")


def test_objects_that_only_moved_to_another_partition_are_not_opened(house: House) -> None:
    run(house, Step(op=LENGTH), Step(op=GROUP))
    before = {row["file"]: row["parts"] for row in house.rows("parts")}
    record = house.run(given(Step(op=LENGTH), Step(op=GROUP)), partition_by="all/{site}")
    assert (record.why, record.operators, record.stages.keys()) == ({"moved": 4}, {}, {"carry over"})
    assert {row["file"]: row["parts"] for row in house.rows("parts")} == before
    assert {row["partition"] for row in house.rows("partition")} != {"site=a", "site=b"}
    house.check()


def test_new_objects_and_old_rows_go_their_own_ways_in_one_run(house: House, tmp_path: Path) -> None:
    run(house, Step(op=LENGTH))
    house.put("a/later.txt")
    house.put("b/seven.txt", content="good and longer")
    house.remove("a/one.txt")
    steps = (Step(op=LENGTH), Step(op=GROUP))
    record = run(house, *steps)
    assert record.why == {"new": 1, "changed": 1, "recomputed": 2}
    assert {name: stage["items"] for name, stage in record.stages.items()} == {"length + group": 2, "group": 2}
    house.check(gone=1)
    there = [row for row in contents(house) if row["status"] != "gone"]
    assert there == fresh(house, given(*steps), tmp_path / "other")


def test_a_run_that_dies_between_its_parts_goes_on_and_carries_the_same(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(house, Step(op=LENGTH), Step(op=TAG))
    house.put("c/new.txt")
    steps = (Step(op=LENGTH), Step(op=TAG), Step(op=GROUP))
    from swath.flows.run import execute as executing

    def dies(*args: Any, **rest: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        here, calls = executing.execute_here, []

        def once(*args: Any, **rest: Any) -> None:
            calls.append(1)
            (here if len(calls) == 1 else dies)(*args, **rest)

        patch.setattr(executing, "execute_here", once)
        with pytest.raises(KeyboardInterrupt):
            run(house, *steps)
    record = house.resume()
    assert record.status == State.PUBLISHED
    house.check()
    assert contents(house) == fresh(house, given(*steps), tmp_path / "other")


def test_a_snapshot_that_has_expired_is_planned_around(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    run(house, Step(op=LENGTH))
    files, asked = Lake.files, []

    def expired(self: Lake, name: str, *args: Any, **rest: Any) -> Any:
        if not asked and rest.get("snapshot_id") is not None and args:
            asked.append(rest["snapshot_id"])
            from swath.schemas.errors import ConfigurationError

            raise ConfigurationError("it has expired")
        return files(self, name, *args, **rest)

    monkeypatch.setattr(Lake, "files", expired)
    record = run(house, Step(op=LENGTH), Step(op=TAG))
    assert asked
    assert (record.ok, record.rejected) == (3, 1)
    house.check()


STEPS = {
    "length": [{}, {"reason": "empty"}],
    "twice": [{}, {"plus": 1}, {"refuses": 3}, {"refuses": 4}],
    "group": [{}, {"step": 2}],
    "tag": [{}, {"value": "b"}],
}
OPS = {"length": LENGTH, "twice": TWICE, "group": GROUP, "tag": TAG}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_after_any_changes_the_table_is_the_one_made_from_scratch(
    house: House, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "WAVE_ITEMS", 4)
    monkeypatch.setattr(planning, "CELL_ITEMS", 4)
    dice = random.Random(seed)
    pool = [f"{site}/{number}.txt" for site in "abc" for number in range(6)]
    for turn in range(5):
        for name in dice.sample(pool, 6):
            if dice.random() < 0.3:
                house.remove(name)
            else:
                house.put(name, content=dice.choice(["good", "bad", "good " * dice.randrange(1, 5)]))
        optional = [name for name in ("twice", "group", "tag") if dice.random() < 0.7]
        steps = tuple(
            Step(op=OPS[name], when="length > 9" if name == "group" and dice.random() < 0.3 else None,
                 config=dice.choice(STEPS[name]))
            for name in ["length", *dice.sample(optional, len(optional))]
        )  # fmt: skip
        wanted = given(*steps, publish=dice.choice(["run", "wave"]))
        pattern = dice.choice(["{site}", "{site}", "x/{site}"])
        house.run(wanted, partition_by=pattern)
        other = House(f"file://{tmp_path}/from-scratch-{turn}", house.source, house.audit_socket)
        other.run(wanted, partition_by=pattern)
        # A table keeps the columns of steps that are gone, and how its cells are cut.
        columns = {column.name for column in bind(wanted).columns} - MADE_BY - {"bucket"}
        mine = [{name: row[name] for name in columns} for row in house.rows() if row["status"] != "gone"]
        assert mine == [{name: row[name] for name in columns} for row in other.rows()]
        for row in house.rows(where="status <> 'gone'"):
            assert dict(row["step_runs"]).keys() == bind(wanted).fingerprints.keys()
            known = columns | MADE_BY | {"bucket", "file", *(column.name for column in VERDICT)}
            assert all(value is None for name, value in row.items() if name not in known)
    house.check(gone=len(house.rows("1", "status = 'gone'")))


def test_pixels_are_decoded_again_only_for_steps_that_read_them(tmp_path: Path, audit_socket: Path) -> None:
    draw_photos(tmp_path / "photos", 4)

    def go(text: str) -> Record:
        request = Request(
            pipeline=parse(text).pipeline,
            source=storage.normalize(str(tmp_path / "photos")),
            warehouse=storage.normalize(str(tmp_path / "warehouse")),
            ray="off",
        )
        return process.start(request, prefect=False, audit_socket=audit_socket)

    go("name: p\nsteps: [exif, decode, assess_quality]\n")
    record = go("name: p\nsteps: [exif, decode, assess_quality, perceptual_hash]\n")
    assert set(record.operators) == {"decode", "perceptual_hash"}
    assert record.ok == 4
