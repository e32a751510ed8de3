"""What Prometheus is told of runs is what their records say, and the board asks for nothing else."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from swath.flows.cli import app
from swath.flows.run import metrics
from swath.flows.run.records import Request, Runs, State
from swath.schemas.pipeline import Pipeline, Step

BOARD = Path(__file__).parents[2] / "infra" / "grafana" / "swath.json"


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
    runs = Runs(str(tmp_path))
    pipeline = Pipeline(name="photos", steps=(Step(op="decode"),))
    for number in (1, 2):
        record = runs.new(Request(pipeline=pipeline, source="s3://a/b", warehouse=str(tmp_path)), f"run-{number}")
        record.status, record.started_at = State.PUBLISHED, datetime(2026, 5, number, tzinfo=UTC)
        record.ok, record.rejected, record.reasons, record.seconds = 90 * number, 3, {"truncated": 3}, 12.5
        record.operators, record.phases = {"decode": 40.0}, {"execute": 11.0}
        stage = {"workers": 2, "items": 93, "work_seconds": 40.0, "store_seconds": 10.0, "idle_seconds": 50.0}
        record.stages = {"decode": stage}
        runs.save(record)
    return str(tmp_path)


def told(text: str) -> dict[tuple[str, ...], float]:
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {(one.name, *sorted(one.labels.values())): one.value for one in samples}


def test_every_figure_is_that_of_the_record(warehouse: str) -> None:
    found = told(metrics.exposition(warehouse, last=9))
    assert found["swath_run_items", "ok", "photos", "run-2"] == 180
    assert found["swath_run_rejects", "photos", "run-1", "truncated"] == 3
    assert (
        found["swath_run_started_timestamp_seconds", "photos", "run-1"] == datetime(2026, 5, 1, tzinfo=UTC).timestamp()
    )
    assert found["swath_run_stage_items_per_second", "decode", "photos", "run-1"] == pytest.approx(93 * 2 / 50)
    shares = [value for key, value in found.items() if key[0] == "swath_run_stage_share" and "run-1" in key]
    assert (len(shares), sum(shares)) == (4, pytest.approx(1))
    assert "run-1" not in metrics.exposition(warehouse, last=1)


def test_a_scrape_is_answered_with_what_stands_there_now(warehouse: str) -> None:
    server, thread = metrics.serve(warehouse, last=9, port=0, host="127.0.0.1")
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        assert told(urlopen(url).read().decode()) == told(metrics.exposition(warehouse, last=9))
        busy = CliRunner().invoke(app, ["metrics", "--serve", str(server.server_port), "--warehouse", warehouse])
        assert "give another port" in str(busy.exception)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_board_asks_for_what_there_is(warehouse: str) -> None:
    names = {key[0] for key in told(metrics.exposition(warehouse, last=9))}
    board = json.loads(BOARD.read_text())
    asked = {
        name for panel in board["panels"] for one in panel["targets"] for name in re.findall(r"swath_\w+", one["expr"])
    }
    assert asked == names
