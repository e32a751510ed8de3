"""A run as a Prefect flow, on a server of its own that ends with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from swath.flows.demo.photos import draw_photos
from swath.flows.local import services
from swath.flows.pipelines.binding import load
from swath.flows.run import process
from swath.flows.run.records import Record, Request, State
from swath.flows.run.reporter import Quiet
from swath.infra import storage
from swath.schemas.errors import AuditFailed


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that is published and one that is held back, and what their server says of them."""
    folder = tmp_path_factory.mktemp("flow")
    for name in ("good", "bad"):
        (folder / name).mkdir()
    draw_photos(folder / "good", 2)
    for number in range(6):
        (folder / "bad" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_HOME", str(folder / "home"))
        patch.delenv("PREFECT_API_URL", raising=False)
        with services.prefect_server() as url:
            server = _own_server()
            record = process.start(_request(folder, "good"), prefect=True)
            with pytest.raises(AuditFailed) as failure:
                process.start(_request(folder, "bad"), prefect=True)
            answer = {
                "flow_runs": _ask(url, "flow_runs", sort="START_TIME_ASC"),
                "task_runs": _ask(url, "task_runs", sort="EXPECTED_START_TIME_DESC"),
                "artifacts": _ask(url, "artifacts"),
            }
        return answer | {"record": record, "failure": str(failure.value), "server": server, "home": folder / "home"}


def _request(folder: Path, name: str) -> Request:
    return Request(
        pipeline=load("photos").pipeline,
        source=storage.normalize(str(folder / name)),
        warehouse=storage.normalize(str(folder / "warehouse")),
        ray="off",
    )


def _ask(url: str, what: str, **options: str) -> list[dict[str, Any]]:
    asked = urllib.request.Request(
        f"{url}/{what}/filter", json.dumps(options).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return list(json.load(answer))


def _own_server() -> psutil.Process:
    """By its id: for a moment after it was started, a process has no command line to be found by."""
    return psutil.Process(int(os.environ[services.OWN_SERVER]))


def test_a_run_is_a_flow_run_whose_steps_are_tasks(told: dict[str, Any]) -> None:
    record: Record = told["record"]
    run = told["flow_runs"][0]
    assert (run["name"], run["state_type"]) == (record.run_id, "COMPLETED")
    tasks = [task for task in told["task_runs"] if task["flow_run_id"] == run["id"]]
    assert {task["name"].split()[0] for task in tasks} >= {"plan", "wave", "publish"}
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}


def test_a_run_that_is_held_back_is_a_failed_flow_run_with_our_sentence(told: dict[str, Any]) -> None:
    run = told["flow_runs"][1]
    assert run["state_type"] == "FAILED"
    assert "rejects_within_budget" in run["state"]["message"]
    assert "swath publish --run" in told["failure"], "the exception comes through as it is"


def test_results_are_artifacts_with_readable_keys(told: dict[str, Any]) -> None:
    record: Record = told["record"]
    good, bad = (
        {one["key"]: one for one in told["artifacts"] if one["flow_run_id"] == run["id"] and one["key"]}
        for run in told["flow_runs"]
    )
    assert set(good) == {"photos-summary", "photos-audit", "photos-docs", "photos-progress"}
    assert set(bad) == {*good, "photos-rejects"}
    assert all(record.run_id in artifact["description"] for artifact in good.values())
    assert "## photos: published" in good["photos-summary"]["data"]
    assert f"`{record.run_id}`" in good["photos-summary"]["data"]
    assert {"result", "check", "observed", "expected"} <= set(json.loads(good["photos-audit"]["data"])[0])
    assert float(good["photos-progress"]["data"]) == 100
    assert "wave-00001.html" in good["photos-docs"]["data"]
    assert json.loads(bad["photos-rejects"]["data"])[0]["items"] == 6
    assert "held back by its audit" in bad["photos-summary"]["data"]
    assert json.loads(bad["photos-audit"]["data"])[0]["result"] == "failed", "what failed comes first"


def test_the_server_of_a_run_is_gone_with_it_and_kept_its_state_in_our_home(told: dict[str, Any]) -> None:
    assert not told["server"].is_running()
    assert "PREFECT_API_URL" not in os.environ
    assert (told["home"] / "prefect" / "prefect.db").exists()


def test_the_server_of_a_run_ends_when_the_run_is_killed(told: dict[str, Any]) -> None:
    code = "from swath.flows.local import services\nwith services.prefect_server() as u: print(u, flush=True); input()"
    environment = {**os.environ, "SWATH_HOME": str(told["home"])}
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert run.stdout is not None
    assert run.stdout.readline().startswith("http://127.0.0.1:")
    (server,) = psutil.Process(run.pid).children()
    run.kill()
    run.wait()
    server.wait(timeout=60)


@pytest.mark.slow
def test_a_run_whose_server_is_killed_is_published_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "good").mkdir()
    draw_photos(tmp_path / "good", 2)
    with services.prefect_server():
        server = _own_server()

        class Killing(Quiet):
            def expect(self, stages: list[str], items: int) -> None:
                server.kill()

        began = time.monotonic()
        record = process.start(_request(tmp_path, "good"), Killing(), prefect=True)
    assert not server.is_running()
    assert (record.status, record.ok) == (State.PUBLISHED, 2)
    assert time.monotonic() - began < 100, "it does not wait for a server that is gone"
