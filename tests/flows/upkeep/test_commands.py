"""`swath maintain` and `swath forget`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.flows.small_lake import publish
from typer.testing import CliRunner

from swath.flows.cli import app
from swath.flows.upkeep.units import age, human_bytes, size
from swath.infra import storage
from swath.infra.lake import Cell, Lake
from swath.schemas.errors import ConfigurationError

A = "s3://photos/a.jpg"


def typed(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    if isinstance(done.exception, ConfigurationError):
        return str(done.exception)
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def told(*words: str, code: int = 0) -> Any:
    return json.loads(typed(*words, "--json", code=code))


@pytest.fixture
def photos(warehouse: str) -> str:
    publish(warehouse)
    return warehouse


def test_maintain_tells_what_it_would_do_and_then_does_it(photos: str) -> None:
    lake = Lake(photos)
    rule = ("--warehouse", photos, "--retention", "dt<2026-05-02")
    foreseen = told("maintain", *rule, "--dry-run")
    assert [(one["what"], one["partitions"], one["rows"]) for one in foreseen["actions"]] == [("retention", 1, 2)]
    assert len(lake.files("photos")) == 3
    assert told("maintain", *rule)["actions"] == foreseen["actions"]
    assert len(lake.files("photos")) == 2
    assert "nothing to do" in typed("maintain", *rule)
    assert storage.list_names(storage.join(photos, "_swath/retention")) == ["photos.json"]
    typed("maintain", "--warehouse", photos, "--retention", "off")
    assert storage.list_names(storage.join(photos, "_swath/retention")) == []


def test_forget_erases_asks_first_and_can_be_lifted(photos: str) -> None:
    lake = Lake(photos)
    assert "--yes" in typed("forget", A, "--warehouse", photos)
    assert sum(file.rows for file in lake.files("photos")) == 5
    done = told("forget", A, "--yes", "--warehouse", photos)
    assert (done["rows"], done["snapshots"], done["left"], done["done"]) == ({"photos": 1}, {"photos": 2}, [], True)
    assert done["looked"]["parquet"]["files"] == 3
    assert sum(file.rows for file in lake.files("photos")) == 4
    assert "nothing of it is left" in typed("forget", A, "--yes", "--warehouse", photos)
    assert told("forget", A, "--lift", "--warehouse", photos) == {"lifted": 1}


def test_the_last_row_of_a_cell_takes_the_cell_with_it(photos: str) -> None:
    assert told("forget", "s3://photos/e.jpg", "--yes", "--warehouse", photos)["done"]
    assert Cell("none", 0) not in {file.cell for file in Lake(photos).files("photos")}


def test_an_object_of_several_files_is_found_by_any_of_them(warehouse: str) -> None:
    from tests.flows.small_lake import photo

    files = [{"role": role, "uri": f"s3://photos/b/{role}.tif", "etag": "e", "bytes": 1} for role in ("red", "nir")]
    publish(warehouse, rows=[photo("b/red.tif", assets=files), photo("c.jpg")])
    assert told("forget", "s3://photos/b/nir.tif", "--yes", "--warehouse", warehouse)["rows"] == {"photos": 1}
    assert told("forget", "s3://photos/b/red.tif", "--lift", "--warehouse", warehouse) == {"lifted": 1}


def test_what_is_left_ends_with_an_error(photos: str) -> None:
    storage.write(storage.join(photos, "notes.txt"), A.encode())
    done = told("forget", A, "--yes", "--warehouse", photos, code=1)
    assert done["left"] == ["notes.txt: of a kind that is not rewritten; delete it"]
    assert "left: notes.txt" in typed("forget", A, "--yes", "--warehouse", photos, code=1)


@pytest.mark.parametrize("command", [["maintain"], ["forget", A, "--yes"]])
def test_a_mistyped_warehouse_is_told_and_not_made(command: list[str], tmp_path: Path) -> None:
    assert "there is no warehouse" in typed(*command, "--warehouse", str(tmp_path / "wherehouse"))
    assert not (tmp_path / "wherehouse").exists()


def test_units() -> None:
    assert age("2w").days == 14
    assert size("128MB") == size("128000 kB") == 128_000_000
    assert [human_bytes(n) for n in (1, 999, 1000, 1_500_000)] == ["1 B", "999 B", "1.0 kB", "1.5 MB"]
    for wrong in ("7", "d", "-1d", "7 days"):
        with pytest.raises(ConfigurationError):
            age(wrong)
    for wrong in ("0MB", "x", "1PB"):
        with pytest.raises(ConfigurationError):
            size(wrong)
