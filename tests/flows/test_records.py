"""The records of runs: found fast among hundreds, and free of secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flows.living import pipeline

from swath.flows.ask.records import run_records
from swath.flows.run.records import Request, Runs, State
from swath.infra import storage
from swath.infra.logs import scrubbed
from swath.schemas.errors import ConfigurationError


def test_the_latest_of_many_runs_is_found_without_reading_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(str(tmp_path))
    request = Request(pipeline=pipeline(), source=str(tmp_path / "in"), warehouse=str(tmp_path))
    made = [runs.new(request) for _ in range(200)]
    made.sort(key=lambda record: record.run_id)
    reads: list[str] = []
    read = storage.read
    monkeypatch.setattr(storage, "read", lambda uri: reads.append(uri) or read(uri))
    latest = runs.latest(State.RUNNING)
    assert latest is not None
    assert latest.run_id == made[-1].run_id
    assert len(reads) <= 40
    assert [record.run_id for record in runs.all()] == [record.run_id for record in made]
    assert runs.latest(State.FAILED) is None


def test_a_record_of_another_version_is_left_out(tmp_path: Path) -> None:
    runs = Runs(str(tmp_path))
    storage.write(storage.join(runs.folder("old"), "run.json"), b'{"run_id": "old"}')
    assert runs.all() == []
    with pytest.raises(ConfigurationError, match="another version"):
        runs.load("old")
    with pytest.raises(ConfigurationError, match=r"no run 'new'.* the latest are old"):
        runs.load("new")


def test_records_hold_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("SWATH_CATALOG", '{"type": "rest", "token": "very-secret"}')
    runs = Runs(str(tmp_path))
    record = runs.new(Request(pipeline=pipeline(), source=str(tmp_path), warehouse=str(tmp_path)))
    record.error = "very-secret did not open postgresql://me:pass@host/db with hush-hush"
    runs.save(record)
    assert runs.load(record.run_id).error == "*** did not open postgresql://***@host/db with ***"
    assert scrubbed("s3://bucket/a:b@c") == "s3://bucket/a:b@c"


def test_runs_of_one_second_are_listed_in_the_order_in_which_they_started(tmp_path: Path) -> None:
    runs = Runs(str(tmp_path))
    request = Request(pipeline=pipeline(), source=str(tmp_path / "in"), warehouse=str(tmp_path))
    started = [runs.new(request).run_id for _ in range(20)]
    assert runs.names() == started


def test_a_list_that_only_later_runs_have_is_a_column_of_runs(tmp_path: Path) -> None:
    storage.write(str(tmp_path / "a" / "run.json"), b'{"run_id": "a"}')
    storage.write(
        str(tmp_path / "b" / "run.json"), b'{"run_id": "b", "stage_times": [{"stage": "decode", "items": 2}]}'
    )
    table = run_records(str(tmp_path), ["a", "b"])
    assert [times and times[0]["items"] for times in table["stage_times"].to_pylist()] == [None, 2]
