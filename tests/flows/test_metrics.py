"""What Prometheus is told of runs is what their records say, also while the store is away."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import Buckets
from tests.faults.proxy import Proxy
from tests.flows.living import House
from tests.prometheus import PROMTOOL
from typer.testing import CliRunner

from swath.flows.cli import app
from swath.flows.run import metrics, progress
from swath.flows.run.metrics import RunMetrics
from swath.flows.run.progress import Progress
from swath.flows.run.records import Record, Request, Runs, State
from swath.infra.s3server import SeaweedFS
from swath.schemas.pipeline import Pipeline, Step

Told = dict[tuple[str, ...], float]


def kept(warehouse: str, number: int, status: State = State.PUBLISHED, **changes: object) -> Record:
    """The record of a run, as its driver writes it."""
    runs = Runs(warehouse)
    request = Request(
        pipeline=Pipeline(name="photos", steps=(Step(op="decode"),)), source="s3://a/b", warehouse=warehouse
    )
    record = runs.new(request, f"run-{number}")
    stage = {"workers": 2, "items": 93, "work_seconds": 40.0, "store_seconds": 10.0, "idle_seconds": 50.0}
    told = {
        "status": status, "started_at": datetime(2026, 5, number, tzinfo=UTC), "items": 100, "ok": 90, "rejected": 3,
        "finished_at": datetime(2026, 6, number, tzinfo=UTC), "reasons": {"truncated": 3}, "seconds": 12.5,
        "operators": {"decode": 40.0}, "phases": {"execute": 11.0, "publish": 4.0}, "stages": {"decode": stage},
        "publishes": 2, "slowest_publish": 3.0, "waits": {"publish_lock": 1.5}, "columns": {"sharpness": (45, 9.0)},
        "checks": {"fits": {"passed": 2, "warned": 0, "failed": 1}, "there": {"passed": 1, "warned": 0, "failed": 0}},
    }  # fmt: skip
    record = record.model_copy(update=told | changes)
    runs.save(record)
    return record


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
    kept(str(tmp_path), 1)
    kept(str(tmp_path), 2, ok=180)
    return str(tmp_path)


def told(text: str) -> Told:
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {(one.name, *sorted(one.labels.values())): one.value for one in samples}


def seen(looking: RunMetrics) -> Told:
    """What a scrape gets after another look."""
    looking.refresh()
    return told(generate_latest(metrics._registry(looking)).decode())


@contextmanager
def served(warehouse: str) -> Iterator[str]:
    server, thread = metrics.serve(warehouse, last=9, port=0, host="127.0.0.1")
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def scraped(url: str, until: Callable[[Told], object], seconds: float = 30) -> Told:
    deadline = time.monotonic() + seconds
    while not until(found := told(urlopen(url, timeout=5).read().decode())):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_every_figure_is_that_of_the_record(warehouse: str) -> None:
    found = told(metrics.exposition(warehouse, last=9))
    of = ("photos", "run-1")
    assert found["swath_run_items", "ok", "photos", "run-2"] == 180
    assert found["swath_run_rejects", *of, "truncated"] == 3
    assert found["swath_run_started_timestamp_seconds", *of] == datetime(2026, 5, 1, tzinfo=UTC).timestamp()
    assert found["swath_run_reject_ratio", *of] == pytest.approx(3 / 93)
    assert found["swath_run_reject_budget_ratio", *of] == 0.02
    assert sum(value for key, value in found.items() if key[0] == "swath_run_stage_seconds" and "run-1" in key) == 100
    assert found["swath_run_checks", "passed", *of] == 3
    assert found["swath_run_failed_checks", "failed", "fits", *of] == 1
    assert found["swath_run_slowest_publish_seconds", *of] == 3
    assert found["swath_column_mean", "photos", "sharpness"] == 0.2
    assert found["swath_column_null_ratio", "photos", "sharpness"] == 0.75  # of the newest run
    assert "run-1" not in metrics.exposition(warehouse, last=1)
    assert not any(key[0] == "swath_run_driver_alive_timestamp_seconds" for key in found)  # none is going on


def test_a_run_that_is_going_on_is_told_as_far_as_it_is(warehouse: str) -> None:
    record = kept(warehouse, 3, State.RUNNING)
    now = datetime(2026, 7, 1, tzinfo=UTC)
    on_its_way = Progress(at=now, moved_at=now, ok=93, rejected=5, remaining_s=8.0, waiting="for a bus")
    Runs(warehouse).keep(record.run_id, progress.FILE, on_its_way)
    found, of = told(metrics.exposition(warehouse, last=9)), ("photos", "run-3")
    assert (found["swath_run_items", "ok", *of], found["swath_run_items", "photos", "rejected", "run-3"]) == (93, 5)
    assert found["swath_run_remaining_seconds", *of] == 8
    assert found["swath_run_waiting", *of] == 1
    assert found["swath_run_last_progress_timestamp_seconds", *of] == now.timestamp()


def test_a_counter_counts_what_happens_while_somebody_watches(warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SETTLED_S", 0)
    looking = RunMetrics(warehouse, last=9)
    before = seen(looking)
    assert before["swath_items_total", "ok", "photos"] == 0
    assert before["swath_rejects_total", "crashed", "photos"] == 0  # else its first would be seen by no `increase`
    kept(warehouse, 3, State.FAILED, ok=10, publishes=0)
    assert seen(looking)["swath_items_total", "ok", "photos"] == 10
    kept(warehouse, 3, ok=25)
    found = seen(looking)
    assert found["swath_items_total", "ok", "photos"] == 25
    assert found["swath_runs_total", "failed", "photos"] == found["swath_runs_total", "photos", "published"] == 1
    assert (found["swath_publish_seconds_count", "photos"], found["swath_publish_seconds_sum", "photos"]) == (2, 4)
    assert seen(looking) | {k: v for k, v in found.items() if "exporter" in k[0]} == found


def test_a_scrape_is_answered_with_what_stands_there_now(warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "REFRESH_S", 0.1)
    with served(warehouse) as url:
        found = scraped(url, lambda found: found.get(("swath_exporter_runs",)))
        expected = told(metrics.exposition(warehouse, last=9))
        assert {k: v for k, v in found.items() if "exporter" not in k[0]} == {
            k: v for k, v in expected.items() if "exporter" not in k[0]
        }
        kept(warehouse, 3)
        scraped(url, lambda found: ("swath_run_duration_seconds", "photos", "run-3") in found)
        port = url.split(":")[2].split("/")[0]
        busy = CliRunner().invoke(app, ["metrics", "--serve", port, "--warehouse", warehouse])
        assert "give another port" in str(busy.exception)


def test_while_the_store_is_away_the_last_figures_are_told_and_that_they_are_old(
    s3: Buckets, s3_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "REFRESH_S", 0.2)
    monkeypatch.setattr(metrics, "PAUSE", 0)
    monkeypatch.setenv("SWATH_STORAGE_PATIENCE_S", "0.5")
    warehouse = s3.bucket("lake") + "/house"
    with Proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        kept(warehouse, 1)
        with served(warehouse) as url:
            before = scraped(url, lambda found: found["swath_exporter_runs",])
            proxy.weather = "gone"
            away = scraped(url, lambda found: found["swath_exporter_failed_looks_total",])
            assert away["swath_run_items", "ok", "photos", "run-1"] == 90
            looked = away["swath_exporter_last_look_timestamp_seconds",]
            assert before["swath_exporter_last_look_timestamp_seconds",] <= looked < time.time() - 0.2
            proxy.weather = "fair"
            scraped(url, lambda found: found["swath_exporter_last_look_timestamp_seconds",] > looked)


def test_a_look_reads_no_more_runs_than_it_tells_of_and_those_that_are_over_once(
    warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    class Counting(Runs):
        def read(self, names):  # type: ignore[no-untyped-def]
            names = list(names)
            read.extend(names)
            return super().read(names)

    monkeypatch.setattr(metrics, "Runs", Counting)
    for number in range(1000):
        (Path(warehouse) / "_swath" / "runs" / f"old-{number:04}").mkdir()
    kept(warehouse, 3, State.RUNNING)
    looking = RunMetrics(warehouse, last=2)
    assert seen(looking)["swath_exporter_runs",] == 1003
    assert read == ["run-2", "run-3"]
    looking.refresh()
    assert read == ["run-2", "run-3", "run-3"]


def test_a_real_run_is_followed_item_by_item_while_it_goes_on(
    tmp_path: Path, audit_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "BEAT_S", 0.05)
    house = House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)
    house.put(*(f"{number:02}.txt" for number in range(20)), content="slow")
    running = threading.Thread(target=house.run)
    running.start()
    try:
        looking, through = RunMetrics(house.warehouse, last=9), []
        while running.is_alive():
            found = seen(looking)
            through += [value for key, value in found.items() if key[0] == "swath_run_items" and "ok" in key]
            time.sleep(0.05)
    finally:
        running.join()
    assert through == sorted(through)
    assert any(0 < value < 20 for value in through)
    found = seen(looking)
    (of,) = {key[1:] for key in found if key[0] == "swath_run_planned_items"}
    assert found["swath_run_items", *sorted(("ok", *of))] == 20
    assert found["swath_publish_seconds_count", "toy"] == 1
    assert found["swath_run_checks", *sorted(("passed", *of))] > 5


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there; `make setup` unpacks it where there is apt-get")
def test_promtool_finds_nothing_to_mend(warehouse: str) -> None:
    kept(warehouse, 3, State.RUNNING)
    text = metrics.exposition(warehouse, last=9)
    done = subprocess.run([str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
