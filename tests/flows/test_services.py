"""`swath up`, `status`, `down`: real services, kept between runs, and gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from swath.flows.demo.photos import draw_photos
from swath.flows.local import services
from swath.schemas.errors import RunFailed


def swath(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SWATH_", "PREFECT_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "-m", "swath.flows.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=home,
        env=clean | {"SWATH_HOME": str(home)} | environment,
        check=False,
    )


def marked(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(services.MARK) == str(home):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A state folder with a short name, for it holds a socket, and services that are up."""
    with tempfile.TemporaryDirectory(prefix="sw-", dir="/tmp") as name:
        place = Path(name).resolve()
        (place / "photos").mkdir()
        draw_photos(place / "photos", 1)
        started = swath(place, "up")
        try:
            assert started.returncode == 0, started.stderr
            yield place
        finally:
            swath(place, "down")
            assert not marked(place)


def test_services_are_up_once_however_often_they_are_started(home: Path) -> None:
    before = json.loads(swath(home, "status", "--json").stdout)
    assert {name: service["up"] for name, service in before.items()} == {"prefect": True, "ray": True, "audit": True}
    assert swath(home, "up").returncode == 0
    after = json.loads(swath(home, "status", "--json").stdout)
    assert {name: s["pid"] for name, s in after.items()} == {name: s["pid"] for name, s in before.items()}


def test_nothing_listens_beyond_this_machine(home: Path) -> None:
    ours = {process.pid for process in marked(home)}
    listening = [one for one in psutil.net_connections("tcp") if one.pid in ours and one.status == psutil.CONN_LISTEN]
    assert listening
    assert {one.laddr.ip.removeprefix("::ffff:") for one in listening} <= {"127.0.0.1", "::1"}


def test_others_who_are_signed_in_here_run_no_code_on_it(home: Path) -> None:
    ray = json.loads(swath(home, "status", "--json").stdout)["ray"]["address"]
    join = f"from swath.flows.work import engine; engine.start({ray!r})"
    for stranger in (
        {"RAY_AUTH_MODE": "disabled"},
        {"RAY_AUTH_TOKEN": "0" * 64},
        {"SWATH_HOME": str(home / "another")},
    ):
        told = [sys.executable, "-c", join]
        environment = os.environ | {"SWATH_HOME": str(home)} | stranger
        refused = subprocess.run(told, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert "asks for its token" in refused.stderr
    assert (home / "ray.token").stat().st_mode & 0o777 == 0o600
    assert f"the token in {home}/ray.token" in swath(home, "status").stdout


def test_a_run_uses_them_and_leaves_them_up(home: Path) -> None:
    done = swath(home, "run", "photos", "photos", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["status"], record["ok"]) == ("published", 1)
    assert "Traceback" not in done.stderr
    kept = json.loads((home / "warehouse" / "_swath" / "runs" / record["run_id"] / "run.json").read_text())
    found = json.loads(swath(home, "status", "--json").stdout)
    assert kept["request"]["ray"] == found["ray"]["address"]
    assert all(service["up"] for service in found.values())
    assert not (home / "prefect-of-a-run.log").exists(), "no Prefect server of its own"


def test_other_credentials_are_said_and_another_ray_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(home))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone-else")
    said: list[str] = []
    assert services.ray_address("auto", said.append) == "local"
    assert "other variables (AWS_*, AZURE_*, PG*, SWATH_* ...)" in said[0]
    assert "someone-else" not in said[0] + (home / "services.json").read_text()


def test_what_a_killed_head_leaves_behind_is_ended_too(home: Path) -> None:
    head = json.loads((home / "services.json").read_text())["ray"]["pid"]
    os.kill(head, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(head)] if psutil.pid_exists(head) else [], timeout=10)
    assert not json.loads(swath(home, "status", "--json").stdout)["ray"]["up"]
    assert swath(home, "down").returncode == 0
    assert not marked(home)
    assert swath(home, "down").stdout.strip() == "nothing was up"


def test_state_of_before_a_reboot_is_no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    stranger = {"pid": os.getpid(), "address": "127.0.0.1:6379", "socket": "/nowhere"}
    (tmp_path / "services.json").write_text(json.dumps({"ray": stranger, "audit": stranger}))
    assert services.ray_address("auto") == "local"
    assert services.audit_socket() is None
    assert services.down() == []
    assert services.status() == {}


def test_nobody_waits_for_a_server_that_died_while_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    began = time.monotonic()
    with services.prefect_server():
        os.kill(int(os.environ[services.OWN_SERVER]), signal.SIGKILL)
        with pytest.raises(RunFailed, match=r"did not start; its log is .*/prefect-of-a-run\.log"):
            services.await_prefect()
    assert time.monotonic() - began < services.PATIENCE_SECONDS / 2


def test_a_port_that_is_taken_is_left_alone() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert services._free_port(taken.getsockname()[1]) != taken.getsockname()[1]
