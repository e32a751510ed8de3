"""Queries of tables as they stood after a run, or at a time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.flows.living import LENGTH, TAG, House, pipeline
from typer.testing import CliRunner

from swath.flows.ask import query
from swath.flows.ask.export import export
from swath.flows.cli import app
from swath.infra import corrections
from swath.schemas.errors import ConfigurationError
from swath.schemas.pipeline import Step, Table


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path) -> House:
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


def ask(house: House, text: str, as_of: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = query.sql(house.warehouse, text, as_of).read_all().to_pylist()
    return found


def count(house: House, as_of: str | None = None) -> int:
    return int(ask(house, "SELECT count(*) AS n FROM items WHERE status = 'ok'", as_of)[0]["n"])


def now() -> str:
    time.sleep(0.01)
    return datetime.now(UTC).isoformat()


def test_a_run_names_the_table_as_it_left_it(house: House) -> None:
    house.put("a.txt")
    first = house.run()
    house.put("a.txt", "b.txt", content="good and longer")
    second = house.run()
    house.remove("a.txt")
    house.run()
    sizes = "SELECT length FROM items ORDER BY length"
    assert [row["length"] for row in ask(house, sizes, first.run_id)] == [10]
    assert [row["length"] for row in ask(house, sizes, second.run_id)] == [21, 21]
    assert [count(house, one) for one in (first.run_id, second.run_id, None)] == [1, 2, 1]


def test_a_time_names_what_stood_then(house: House) -> None:
    house.put("a.txt")
    house.run()
    between = now()
    house.put("b.txt")
    house.run()
    assert (count(house, between), count(house, now()), count(house)) == (1, 2, 2)
    assert count(house, "0 seconds ago") == 2
    today = datetime.now(UTC).date()
    assert count(house, (today + timedelta(days=1)).isoformat()) == 2
    with pytest.raises(ConfigurationError, match="the first publish was at"):
        count(house, (today - timedelta(days=400)).isoformat())
    with pytest.raises(ConfigurationError, match="nothing in"):
        count(house, "2 weeks ago")


def test_a_run_of_several_commits_names_the_last_of_them(house: House) -> None:
    house.put("one/a.txt", "two/a.txt", "three/a.txt")
    given = pipeline(publish="wave")
    record = house.run(given, partition_by="{site}")
    house.put("one/b.txt")
    house.run(given, partition_by="{site}")
    assert (count(house, record.run_id), count(house)) == (3, 4)


def test_columns_are_those_of_then(house: House) -> None:
    house.put("a.txt")
    first = house.run()
    house.run(pipeline(Step(op=LENGTH), Step(op=TAG)))
    names = {column.name for column in query.describe(house.warehouse, "stored", first.run_id).columns}
    assert "length" in names
    assert "tag" not in names
    assert "tag" in {column.name for column in query.describe(house.warehouse, "stored").columns}


def test_other_tables_stand_as_at_the_commit_of_the_run(house: House) -> None:
    other = pipeline(name="other", table=Table(name="other", publish="run"))
    house.put("a.txt")
    first = house.run()
    house.run(other)
    house.put("b.txt")
    second = house.run()
    house.run(other)
    counts = "SELECT (SELECT count(*) FROM toy.items) AS toy, (SELECT count(*) FROM other.items) AS other"
    assert ask(house, counts, first.run_id) == [{"toy": 1, "other": 0}]
    assert ask(house, counts, second.run_id) == [{"toy": 2, "other": 1}]
    assert ask(house, counts) == [{"toy": 2, "other": 2}]


def test_decisions_count_from_when_they_were_taken(house: House) -> None:
    house.put("a.txt")
    record = house.run()
    taken = {"pipeline": "toy", "object_id": "0", "path": "tag", "decided_at": datetime.now(UTC)}
    corrections.append(house.lake, [taken])
    assert ask(house, "SELECT count(*) AS n FROM corrections", record.run_id) == [{"n": 0}]
    assert ask(house, "SELECT count(*) AS n FROM corrections", now()) == [{"n": 1}]


def test_what_cannot_be_told_is_said_in_a_sentence(house: House) -> None:
    house.put("a.txt")
    first = house.run()
    nothing = house.run()
    between = now()
    house.put("b.txt")
    house.run()
    house.lake.expire("toy", [house.lake.snapshots("toy")[0].id], [first.run_id])
    for as_of, said in {
        nothing.run_id: "is nothing and has published nothing",
        first.run_id: "has expired; the next that is kept is of",
        between: "has expired; the next that is kept is of",
        "20260101T000000-000000000": "there is no run",
        "yesterday": "neither a run",
    }.items():
        with pytest.raises(ConfigurationError, match=said):
            count(house, as_of)
    assert count(house, now()) == 2


def test_the_commands_take_it(house: House, tmp_path: Path) -> None:
    house.put("a.txt")
    first = house.run()
    house.put("b.txt")
    house.run()
    given = ["--warehouse", house.warehouse, "--as-of", first.run_id]
    told = CliRunner().invoke(app, ["sql", "SELECT count(*) AS n FROM items", "--format", "csv", *given])
    assert told.output.split() == ["n", "1"]
    listed = CliRunner().invoke(app, ["tables", *given])
    assert next(line for line in listed.output.splitlines() if line.startswith("items")).split()[1] == "1"
    assert export(house.warehouse, "items", str(tmp_path / "out"), as_of=first.run_id).rows == 1
