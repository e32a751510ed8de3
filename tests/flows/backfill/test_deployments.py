"""`infra/prefect.yaml` on a real server, a real process pool and a real worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from tests.flows.backfill.test_backfill import Notes
from tests.flows.living import House

from swath.flows.backfill import backfill, flow
from swath.flows.backfill.lane import Outcome
from swath.flows.backfill.records import Place as Partition
from swath.flows.backfill.records import Stand
from swath.flows.run import process
from swath.flows.run.records import State

ROOT = Path(__file__).parents[3]
FILE = ROOT / "infra" / "prefect.yaml"
MARK = "_SWATH_TEST_WORKER"
PIPELINE = """
name: toy
source: {include: ["*.txt"]}
steps:
  - {op: "tests.flows.toy:Length", name: length}
"""


class Post(BaseHTTPRequestHandler):
    """Remembers what is posted to it."""

    posted: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Place:
    """A server with the deployments, and a worker in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark, self.posted = folder, uuid.uuid4().hex, list[dict[str, Any]]()
        handler = type("_Post", (Post,), {"posted": self.posted})
        self.web = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        Thread(target=self.web.serve_forever, daemon=True).start()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.api = f"http://127.0.0.1:{port}/api"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SWATH_"))},
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "SWATH_HOME": str(folder / "home"),
            "SWATH_WEBHOOK_URL": f"http://127.0.0.1:{self.web.server_port}/hook",
            "PYTHONPATH": str(ROOT),
            MARK: self.mark,
        }
        (folder / "prefect").mkdir()
        self.started = [self.start("-P", "-m", "swath.flows.local.prefect_host", "--port", str(port))]
        self.wait_for(self.answers, 120)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments], env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.api}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def prefect(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            env=self.environment,
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, what: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.api}/{what}", data, {"content-type": "application/json"})
        for wait_s in (1, 2, 4, 8, 16, None):
            try:
                with urllib.request.urlopen(asked, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:  # 503: its database is locked for the moment
                if error.code != 503 or wait_s is None:
                    raise
                time.sleep(wait_s)
        raise AssertionError("unreachable")

    def run(self, deployment: str, **parameters: Any) -> str:
        """Has it run as soon as a worker is free; the id of the flow run."""
        flow = next(one for one in self.ask("deployments/filter", {}) if one["name"] == deployment)
        made = self.ask(f"deployments/{flow['id']}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def state(self, run: str) -> str:
        return str(self.ask(f"flow_runs/{run}")["state_type"])

    def finished(self, run: str, limit_s: float = 240) -> str:
        self.wait_for(lambda: self.state(run) in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"), limit_s)
        return self.state(run)

    def wait_for(self, ready: Callable[[], bool], limit_s: float) -> float:
        began = time.monotonic()
        while not ready():
            assert time.monotonic() - began < limit_s, (self.folder / "log").read_text()[-6000:]
            time.sleep(0.3)
        return time.monotonic() - began

    def processes(self) -> list[psutil.Process]:
        """What the worker has started, and those have."""
        found = []
        for one in psutil.process_iter():
            try:
                if one.environ().get(MARK) == self.mark and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
            except (psutil.Error, OSError):
                continue
        return found

    def of_ray(self) -> list[str]:
        return [
            one for one in map(_command, self.processes()) if "raylet" in one or "gcs_server" in one or "ray::" in one
        ]

    def close(self) -> None:
        for started in reversed(self.started):
            started.send_signal(signal.SIGKILL)
            started.wait()
        left = self.processes()
        for one in left:
            one.kill()
        psutil.wait_procs(left, timeout=10)
        self.web.shutdown()


def _command(one: psutil.Process) -> str:
    try:
        return " ".join(one.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("deployments")
    (folder / "toy.yaml").write_text(PIPELINE)
    place = Place(folder)
    try:
        place.prefect("work-pool", "create", "swath", "--type", "process")
        place.prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(FILE), cwd=ROOT)
        place.started.append(place.start("-m", "prefect", "worker", "start", "--pool", "swath"))
        yield place
    finally:
        place.close()


@pytest.fixture
def house(place: Place, audit_socket: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("SWATH_HOME", place.environment["SWATH_HOME"])
    name = uuid.uuid4().hex[:8]
    return House(f"file://{place.folder}/warehouse-{name}", f"file://{place.folder}/source-{name}", audit_socket)


def given(house: House, **more: Any) -> dict[str, Any]:
    return {"pipeline": "toy.yaml", "source": house.source, "warehouse": house.warehouse, "ray": "off", **more}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_deployment_runs_on_a_worker(place: Place, house: House) -> None:
    schedules = {one["name"]: one["schedules"] for one in place.ask("deployments/filter", {})}
    assert sorted(schedules) == ["backfill", "maintenance", "nightly", "retry"]
    assert all(found for found in schedules.values())

    house.put(*(f"2026-01-0{day}/{n}.txt" for day in (1, 2) for n in range(3)))
    run = place.run("nightly", **given(house, partition_by="{dt}"))
    assert place.finished(run) == "COMPLETED"
    house.check()
    assert len(house.rows("1")) == 6
    limits = {one["name"]: one["limit"] for one in place.ask("v2/concurrency_limits/filter", {})}
    assert limits["swath"] == 4, "the limit that all runs share is made"
    keys = {one["key"] for one in place.ask("artifacts/filter", {})}
    assert {"toy-summary", "toy-audit", "toy-docs", "toy-progress"} <= keys

    house.put("2026-01-02/new.txt", *(f"2026-01-03/{n}.txt" for n in range(3)))
    run = place.run(
        "backfill", **given(house, partition_by="{dt}", partitions=["dt=2026-01-02..2026-01-09"]), missing=False,
        failed=False, stale=False,
    )  # fmt: skip
    assert place.finished(run) == "COMPLETED"
    house.check()
    tasks = [one["name"] for one in place.ask("task_runs/filter", {})]
    assert {"dt=2026-01-02", "dt=2026-01-03"} <= set(tasks)
    assert "dt=2026-01-01" not in tasks

    for name in ("maintenance", "retry"):
        run = place.run(name, warehouse=house.warehouse, **({"ray": "off"} if name == "retry" else {}))
        assert place.finished(run) == "COMPLETED", name
    house.check()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    version("sqlalchemy") >= "2.1", reason="Prefect 3.8 schedules nothing with SQLAlchemy 2.1; `make setup` mends it"
)
def test_schedules_make_runs(place: Place) -> None:
    scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    place.wait_for(lambda: place.ask("flow_runs/count", scheduled) > 0, 120)
    ids = {one["deployment_id"] for one in place.ask("flow_runs/filter", scheduled)}
    assert ids == {one["id"] for one in place.ask("deployments/filter", {})}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_failed_audit_is_told_to_the_webhook(place: Place, house: House) -> None:
    house.put(*(f"{n}.txt" for n in range(6)), content="bad")
    run = place.run("nightly", **given(house))
    assert place.finished(run) == "FAILED"
    told = [one for one in place.posted if one.get("source") == house.source]
    (record,) = house.runs.all()
    assert record.status == State.AUDIT_FAILED
    assert len(told) == 1, "once, although a flow within a flow has failed"
    assert (told[0]["status"], told[0]["run_id"], told[0]["pipeline"]) == ("audit_failed", record.run_id, "toy")
    assert "was held back by its audit" in told[0]["text"]
    assert "rejects_within_budget" in told[0]["error"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_backfill_has_no_more_partitions_at_work_than_there_are_slots(
    place: Place, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", place.api)
    monkeypatch.setenv("SWATH_CONCURRENCY_LIMIT", "narrow")
    monkeypatch.setenv("SWATH_CONCURRENCY_SLOTS", "1")
    house.put(*(f"2026-01-0{day}/{n}.txt" for day in range(1, 5) for n in range(3)))
    at_work, most = set[str](), 0

    class Counting(Notes):
        def started(self, place: Partition) -> None:
            nonlocal most
            at_work.add(place.todo.partition)
            most = max(most, len(at_work))

        def ended(self, place: Partition, outcome: Outcome) -> None:
            at_work.discard(place.todo.partition)

    told = flow.carry_out(
        backfill.new(house.request(partition_by="{dt}"), parallel=3), Counting(), audit_socket=house.audit_socket
    )
    assert (told.stands, most) == ({Stand.DONE: 4}, 1)
    house.check()
    limits = {one["name"]: one for one in place.ask("v2/concurrency_limits/filter", {})}
    assert (limits["narrow"]["limit"], limits["narrow"]["active_slots"]) == (1, 0)
    runs = place.ask("flow_runs/filter", {"flow_runs": {"name": {"any_": [told.backfill_id]}}})
    assert [one["state_type"] for one in runs] == ["COMPLETED"]
    progress = [one for one in place.ask("artifacts/filter", {}) if one["key"] == "toy-backfill-progress"]
    assert float(progress[-1]["data"]) == 100


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("deployment", ["nightly", "backfill"])
def test_cancelling_stops_the_work_within_half_a_minute_and_it_can_be_resumed(
    place: Place, house: House, deployment: str
) -> None:
    house.put(*(f"2026-01-01/{n:03}.txt" for n in range(300)), content="slow")
    more = {"partition_by": "{dt}"} if deployment == "backfill" else {}
    run = place.run(deployment, **given(house, ray="local", **more))
    staged = f"{house.warehouse.rpartition('/')[2]}/_swath/runs/*/waves/*/*/rows/*.parquet"
    place.wait_for(lambda: bool(list(place.folder.glob(staged))), 300)
    assert place.of_ray()
    began = time.monotonic()
    place.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}, "force": True})
    place.wait_for(lambda: not place.of_ray(), 60)
    took = time.monotonic() - began
    print(f"{deployment}: no process of Ray {took:.1f} s after the cancellation")
    assert took < 30
    place.wait_for(lambda: place.state(run) == "CANCELLED", 60)
    place.wait_for(lambda: house.runs.all()[0].status == State.FAILED, 30)
    print(f"{deployment}: written down {time.monotonic() - began:.1f} s after the cancellation")
    (record,) = house.runs.all()
    assert "stopped" in str(record.error)
    states = {one["state_type"] for one in place.ask("flow_runs/filter", {}) if one["parent_task_run_id"]}
    assert states <= {"CANCELLED", "CRASHED", "COMPLETED", "FAILED"}, "no flow within it is left running"
    resumed = process.resume(house.warehouse, record.run_id, prefect=False, ray="off", audit_socket=house.audit_socket)
    assert resumed.status == State.PUBLISHED, "nobody holds its lock"
    house.check()
