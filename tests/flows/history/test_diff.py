"""What changed between two runs: rows, status, steps, columns, labels, fields, distributions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.flows.living import LENGTH, House, pipeline
from typer.testing import CliRunner

from swath.flows.cli import app
from swath.flows.history.diff import Diff, diff, differing
from swath.infra import storage
from swath.schemas.errors import ConfigurationError
from swath.schemas.pipeline import Pipeline, Step, Table

GUESS = "tests.flows.history.guess:Guess"


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path) -> House:
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


def guess(**config: Any) -> Pipeline:
    return pipeline(Step(op=LENGTH), Step(op=GUESS, config=config), max_rejects=1)


def column(found: Diff, name: str) -> Any:
    return next(one for one in found.columns if one.column == name)


def rows(found: Diff) -> tuple[int, ...]:
    return (found.before, found.after, found.added, found.removed, found.changed, found.same)


def test_another_model_is_told_by_steps_columns_labels_fields_and_distributions(house: House) -> None:
    house.put("a.txt", "b.txt", "c.txt")
    house.put("long-1.txt", "long-2.txt")
    first = house.run(guess())
    second = house.run(guess(shift=2, long=8))
    found = diff(house.warehouse, first.run_id, second.run_id)
    assert rows(found) == (5, 5, 0, 0, 5, 0)
    assert (found.compared, found.became, found.whole_table) == (5, [], False)
    (step,) = found.steps
    assert (step.step, step.change, step.items) == ("guess", "changed", 5)
    assert step.settings == {"config.shift": (None, 2), "config.long": (None, 8)}
    score = column(found, "score")
    assert (score.differ, score.mean_shift, score.largest_shift) == (5, 2, 2)
    assert (score.before.values, score.before.mean, score.before.p50, score.after.p50) == (5, 12, 10, 12)
    for name in ("kind", "tops[1].label"):
        assert column(found, name).differ == 3
        assert [(one.was, one.now, one.items) for one in column(found, name).became] == [("short", "long", 3)]
    assert column(found, "length").differ == 0
    fields = {one.name: (one.same, one.different, one.only_before, one.only_after) for one in found.fields}
    assert fields == {
        "total": (0, 5, 0, 0),
        "line_items[].amount": (10, 0, 0, 0),
        "iban": (0, 0, 0, 5),
        "issuer": (0, 0, 5, 0),
    }
    assert not {"run_id", "processed_at", "seconds", "fingerprints"} & {one.column for one in found.columns}
    back = diff(house.warehouse, second.run_id, first.run_id)
    assert [(one.was, one.now) for one in column(back, "kind").became] == [("long", "short")]


def test_the_same_made_again_is_no_change(house: House) -> None:
    house.put("a.txt")
    house.put("b.txt", content="bad")
    first = house.run(pipeline(max_rejects=1))
    second = house.run(pipeline(max_rejects=1), retry="all")
    found = diff(house.warehouse, first.run_id, second.run_id)
    assert rows(found) == (2, 2, 0, 0, 0, 2)
    assert (found.steps, found.became) == ([], [])
    assert not any(one.differ for one in found.columns)


def test_rows_that_come_go_and_flip_are_counted(house: House) -> None:
    house.put("a.txt", "gone.txt", "changed.txt", "stays.txt")
    house.put("flips.txt", content="long enough to be too long")
    house.put("bad.txt", content="bad")
    first = house.run(guess())
    house.remove("gone.txt")
    house.put("new.txt", "bad.txt")
    house.put("changed.txt", content="great")
    second = house.run(guess(strict=True))
    found = diff(house.warehouse, first.run_id, second.run_id)
    assert rows(found) == (6, 6, 1, 1, 3, 2)
    assert {(one.was, one.now): one.items for one in found.became} == {
        ("ok", "rejected: too_large"): 1,
        ("rejected: corrupt", "ok"): 1,
        ("ok", "gone"): 1,
        ("absent", "ok"): 1,
    }
    assert (found.compared, column(found, "length").differ, column(found, "etag").differ) == (3, 1, 1)
    assert column(found, "etag").of_source
    listed = differing(house.warehouse, first.run_id, second.run_id, "status", 10).to_pylist()
    assert [(row["source_uri"].rpartition("/")[2], row["a"], row["b"]) for row in listed] == [
        ("bad.txt", "rejected: corrupt", "ok"),
        ("flips.txt", "ok", "rejected: too_large"),
        ("gone.txt", "ok", "gone"),
        ("new.txt", "absent", "ok"),
    ]


def test_what_other_runs_did_to_other_objects_is_left_out(house: House) -> None:
    house.put("one/a.txt", "two/a.txt")
    first = house.run(guess(), source=house.source + "/one", partition_by="{site}")
    house.run(guess(), source=house.source + "/two", partition_by="{site}")
    house.put("one/b.txt")
    second = house.run(guess(), source=house.source + "/one", partition_by="{site}")
    assert rows(diff(house.warehouse, first.run_id, second.run_id)) == (1, 2, 1, 0, 0, 1)
    storage.delete_prefix(storage.join(house.runs.folder(first.run_id), "manifest"))
    whole = diff(house.warehouse, first.run_id, second.run_id)
    assert (whole.whole_table, rows(whole)) == (True, (1, 3, 2, 0, 0, 1))


def test_floats_within_the_tolerance_are_the_same(house: House) -> None:
    house.put("a.txt", "b.txt")
    first = house.run(guess())
    second = house.run(guess(shift=0.01))
    assert column(diff(house.warehouse, first.run_id, second.run_id), "score").differ == 2
    near = diff(house.warehouse, first.run_id, second.run_id, tolerance=0.01)
    assert column(near, "score").differ == 0
    assert differing(house.warehouse, first.run_id, second.run_id, "score", 10, 0.01).num_rows == 0


def test_the_items_of_a_column_that_differ_are_listed(house: House) -> None:
    house.put("a.txt", "b.txt", "c.txt")
    first = house.run(guess())
    second = house.run(guess(shift=2))
    pairs = (house.warehouse, first.run_id, second.run_id)
    listed = differing(*pairs, "score", 2).to_pylist()
    assert [(row["source_uri"].rpartition("/")[2], row["a"], row["b"]) for row in listed] == [
        ("a.txt", 10, 12),
        ("b.txt", 10, 12),
    ]
    fields = differing(*pairs, "read", 10).to_pylist()
    assert [(row["name"], row["a"], row["b"]) for row in fields] == [("total", "10", "12")] * 3
    with pytest.raises(ConfigurationError, match="no column 'scores' to compare; try score"):
        differing(*pairs, "scores", 1)


def test_a_new_step_and_its_columns_are_told(house: House) -> None:
    house.put("a.txt")
    first = house.run(pipeline())
    second = house.run(guess())
    found = diff(house.warehouse, first.run_id, second.run_id)
    assert [(one.step, one.change, one.items) for one in found.steps] == [("guess", "added", 1)]
    assert (column(found, "score").differ, column(found, "score").appeared) == (1, 1)


def test_what_cannot_be_compared_is_said(house: House) -> None:
    house.put("a.txt")
    first = house.run()
    nothing = house.run()
    other = house.run(pipeline(name="other", table=Table(name="other")))
    with pytest.raises(ConfigurationError, match="is nothing and has published nothing"):
        diff(house.warehouse, first.run_id, nothing.run_id)
    with pytest.raises(ConfigurationError, match="there is nothing to compare"):
        diff(house.warehouse, first.run_id, other.run_id)


def test_the_command_shows_what_differs(house: House) -> None:
    house.put("a.txt", "b.txt")
    first = house.run(guess())
    second = house.run(guess(shift=2, long=8))
    given = [first.run_id, second.run_id, "--warehouse", house.warehouse]
    told = CliRunner().invoke(app, ["diff", *given]).output
    assert "guess  changed" in told
    assert "config.shift: null → 2" in told
    assert "2 changed" in told
    assert any(line.split()[:2] == ["score", "2"] and "10 → 12" in line for line in told.splitlines())
    assert any(line.split()[:4] == ["kind", "short", "long", "2"] for line in told.splitlines())
    assert json.loads(CliRunner().invoke(app, ["diff", *given, "--json"]).output)["changed"] == 2
    listed = CliRunner().invoke(app, ["diff", *given, "--column", "kind", "--limit", "1"]).output
    assert "short" in listed
    assert "1 row" in listed


def test_one_run_alone_is_compared_with_the_one_before_it_in_its_table(house: House) -> None:
    house.put("a.txt", "b.txt")
    assert isinstance(CliRunner().invoke(app, ["diff", "--warehouse", house.warehouse]).exception, ConfigurationError)
    house.run(guess())
    house.run(guess(shift=2))
    last = house.run(guess(shift=3))
    house.run(pipeline(Step(op=LENGTH), name="other"))
    said = CliRunner().invoke(app, ["diff", last.run_id, "--warehouse", house.warehouse, "--json"])
    step = json.loads(said.stdout)["steps"][0]
    assert step["settings"] == {"config.shift": [2, 3]}
