"""What is forgotten is in no file of the warehouse any more, and everything else is as it was."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.flows.living import House, pipeline
from tests.flows.upkeep.keeping import files_below

from swath.flows.run import process
from swath.flows.run.records import State
from swath.flows.upkeep import leave_out
from swath.flows.upkeep.forget import Forgotten, find, forget
from swath.flows.upkeep.maintain import Policy, maintain
from swath.infra import corrections, storage
from swath.schemas.errors import AuditFailed, ConfigurationError
from swath.schemas.items import item_id, object_id

SECRET = "jane doe & söhne.txt"


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path) -> House:
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


def uri(house: House, name: str = SECRET) -> str:
    return storage.join(house.source, name)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, audit_socket: Path) -> tuple[House, Path]:
    """A warehouse that has seen much, and a copy of it: its files name each other by their whole paths."""
    root = tmp_path_factory.mktemp("old")
    house = House(f"file://{root}/warehouse", f"file://{root}/source", audit_socket)
    lived_in(house)
    shutil.copytree(root, f"{root}-copy")
    return house, root


@pytest.fixture
def lived(old: tuple[House, Path]) -> House:
    """As it was."""
    house, root = old
    shutil.rmtree(root)
    shutil.copytree(f"{root}-copy", root)
    return House(house.warehouse, house.source, house.audit_socket)


def lived_in(house: House) -> None:
    """A warehouse in which the object stands in all places where one can."""
    house.put("a.txt", "b.txt", "jane.txt")
    house.run()
    house.put(SECRET)
    house.run()
    house.put("c.txt")
    house.run()
    house.put(SECRET, content="changed")
    house.run()
    secret = uri(house)
    decided = {"object_id": object_id(secret), "item_id": item_id(secret), "source_uri": secret, "path": "fields.total"}
    other = {"object_id": object_id(uri(house, "a.txt")), "path": "fields.total"}
    for number, one in enumerate([decided, other, decided]):
        corrections.append(house.lake, [{**one, "correction_id": str(number)}])
    row = next(row for row in house.rows("item_id") if row["file"] == SECRET)
    for item in (row["item_id"], object_id("another")):
        storage.write(storage.join(house.warehouse, "artifacts/toy", item[:2], f"{item}-0123.png"), b"picture")
    rows = [{"source_uri": secret, "value": "12.00"}, {"source_uri": uri(house, "a.txt"), "value": "7.00"}]
    exported = storage.join(house.warehouse, "for-review")
    storage.write(f"{exported}/all.json", json.dumps(rows).encode())
    storage.write(f"{exported}/all.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    sheet = io.StringIO()
    csv.writer(sheet).writerows([["uri", "value"], *(row.values() for row in rows)])
    storage.write(f"{exported}/all.csv", sheet.getvalue().encode())
    storage.write(storage.join(house.runs.folder(house.runs.names()[0]), "docs/1.html"), f"<p>{secret}: 1</p>".encode())


def naive(house: House, name: str = SECRET) -> set[str]:
    """The files in which another, simpler search finds the name or the ids."""
    secret = uri(house, name)
    words = [name, object_id(secret), item_id(secret), json.dumps(name)[1:-1], "s%C3%B6hne"]
    found = set()
    for one in files_below(house.warehouse):
        content = storage.read(one)
        text = one + content.decode("utf-8", "replace")
        if one.endswith(".parquet") and content:
            text += str(pq.read_table(io.BytesIO(content)).to_pylist()) + str(pq.read_metadata(io.BytesIO(content)))
        if one.endswith(".avro"):
            values = house.lake.avro_values(one.split("/tables/")[1].split("/")[0], one)
            text += str([value if isinstance(value, str) else value.decode("utf-8", "replace") for value in values])
            words = [*words, object_id(secret)[:16], item_id(secret)[:16]]
        if any(word in text for word in words):
            found.add(one)
    return found


def erased(house: House, name: str = SECRET, now: datetime | None = None) -> Forgotten:
    return forget(house.warehouse, find(house.warehouse, [uri(house, name)]), now)


def test_nothing_of_it_is_left_and_all_else_is_as_it_was(lived: House) -> None:
    kinds = {one.rpartition(".")[2] for one in naive(lived)}
    assert kinds == {"parquet", "avro", "json", "jsonl", "csv", "html", "png"}, "the search finds it where it is"
    before = [row for row in lived.rows() if row["file"] != SECRET]
    first = lived.lake.snapshots("toy")[0].id
    outcome = erased(lived)
    assert outcome.done, outcome.left
    assert naive(lived) == set()
    assert outcome.rows == {"toy": 1, "corrections": 2}
    assert outcome.artifacts == 1
    assert outcome.looked.parquet.files > 5
    assert outcome.looked.avro.files > 3
    assert lived.rows() == before
    assert first in {one.id for one in lived.lake.snapshots("toy")}, "a snapshot that never held it can still be read"
    assert [file.rows for file in lived.lake.files("corrections")] == [1]
    exported = storage.join(lived.warehouse, "for-review")
    assert json.loads(storage.read(f"{exported}/all.json")) == [{"source_uri": uri(lived, "a.txt"), "value": "7.00"}]
    assert len(storage.read(f"{exported}/all.csv").splitlines()) == 2
    assert b"<p>forgotten: 1</p>" in storage.read(storage.join(lived.runs.folder(lived.runs.names()[0]), "docs/1.html"))
    for run_id in lived.runs.names():
        assert lived.lake.published("toy", run_id) == {0}


def test_it_does_not_come_back_while_it_lies_in_the_source(lived: House) -> None:
    erased(lived)
    assert lived.run().status == State.NOTHING
    lived.put("d.txt")
    lived.put(SECRET, content="once more")
    assert lived.run().items == 1
    assert naive(lived) == set()
    maintain(lived.warehouse, Policy(), datetime.now(UTC) + timedelta(days=30))
    assert leave_out.lift(lived.warehouse, [uri(lived)]) == 1
    assert lived.run().items == 1
    assert SECRET in lived.names()


def test_what_was_never_there_is_left_out_all_the_same(house: House) -> None:
    house.put("a.txt", "jane.txt")
    house.run()
    rows = house.rows()
    outcome = erased(house, "jane")
    assert outcome.done
    assert (outcome.rows, outcome.rewritten, outcome.deleted) == ({}, 0, 0), "another name begins like it"
    assert house.rows() == rows
    house.put("jane")
    assert erased(house, "jane.txt").rows == {"toy": 1}
    assert house.names() == ["a.txt"]


def test_a_run_that_may_bring_it_back_is_in_the_way(house: House) -> None:
    house.put("a.txt", SECRET)
    house.run()
    house.put(*(f"bad{number}.txt" for number in range(6)), content="bad")
    with pytest.raises(AuditFailed):
        house.run(max_rejects=0.01)
    held = house.runs.latest(State.AUDIT_FAILED)
    assert held is not None
    rows = house.rows()
    with pytest.raises(ConfigurationError, match=held.run_id):
        erased(house)
    assert house.rows() == rows
    process.discard(house.warehouse, held.run_id)
    outcome = erased(house)
    assert outcome.done, outcome.left
    assert naive(house) == set()


def test_what_cannot_be_cleaned_is_told(house: House) -> None:
    house.put(SECRET, "a.txt")
    house.run()
    storage.write(storage.join(house.warehouse, "notes.txt"), f"look at {uri(house)} again".encode())
    storage.write(storage.join(house.warehouse, "backup.zip"), b"PK")
    outcome = erased(house)
    assert not outcome.done
    assert [text.partition(":")[0] for text in [*outcome.left, *outcome.looked.unread]] == ["notes.txt", "backup.zip"]
    assert naive(house) == {storage.join(house.warehouse, "notes.txt")}


def test_files_that_a_killed_commit_has_left_are_found(lived: House) -> None:
    data = storage.join(lived.lake.data_prefix("toy"))
    (file,) = lived.lake.files("toy")
    for name in (f"{lived.runs.names()[0]}/lost.parquet", "lost.parquet"):
        storage.write(storage.join(data, name), storage.read(file.path))
    outcome = erased(lived)
    assert [text.partition(":")[0] for text in outcome.left] == ["tables/toy/data/lost.parquet"], "just written"
    assert erased(lived, now=datetime.now(UTC) + timedelta(hours=2)).done
    assert naive(lived) == set()


CHILD = """
import sys
from swath.flows.upkeep.forget import find, forget
forget(sys.argv[1], find(sys.argv[1], [sys.argv[2]]))
"""


POINTS = (
    "forget.left_out", "forget.files", "upkeep.written", "publish.before_commit", "forget.rows", "forget.listed",
    "expire.marked", "forget.expired", "forget.deleted", "forget.history",
)  # fmt: skip
FAST = ("publish.before_commit", "forget.expired")


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=() if point in FAST else pytest.mark.slow) for point in POINTS]
)
def test_killed_anywhere_the_same_command_finishes_it(lived: House, point: str) -> None:
    before = [row for row in lived.rows() if row["file"] != SECRET]
    command = [sys.executable, "-c", CHILD, lived.warehouse, uri(lived)]
    environment = {**os.environ, "SWATH_CRASH_AT": point}
    child = subprocess.run(command, env=environment, capture_output=True, timeout=100, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-2000:]
    outcome = erased(lived)
    assert outcome.done, outcome.left
    assert naive(lived) == set()
    assert lived.rows() == before


def test_on_s3(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    house = House(s3.bucket("lake") + "/lake", s3.bucket("source") + "/in", None)
    lived_in(house)
    outcome = erased(house)
    assert outcome.done, outcome.left
    assert naive(house) == set()
    assert house.run(pipeline()).status == State.NOTHING
    assert sorted(house.names()) == ["a.txt", "b.txt", "c.txt", "jane.txt"]
