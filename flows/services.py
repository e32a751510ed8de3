"""Local services: a Prefect server, a Ray head and a warm audit worker, kept between runs by `swath up`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from swath.infra.settings import settings
from swath.schemas.errors import ConfigurationError, RunFailed

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 90
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    # Prefect's own log lines go to its server, where the UI shows them; the terminal has ours.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_COLORS": "false",
}


def state_file() -> Path:
    return settings().home_path() / "services.json"


def status() -> dict[str, Any]:
    """What `swath up` started and whether it is alive: by name, pid, url and state."""
    try:
        kept: dict[str, dict[str, Any]] = json.loads(state_file().read_text())
    except (OSError, ValueError):
        kept = {}
    for service in kept.values():
        service["up"] = _alive(service)
    return kept


def up() -> dict[str, Any]:
    """Starts what is not up yet, all side by side; returns `status()`. Raises RunFailed where one does not start."""
    services = {name: service for name, service in status().items() if service["up"]}
    starters = {"prefect": _start_prefect, "ray": _start_ray, "audit": _start_audit}
    started = {name: start() for name, start in starters.items() if name not in services}
    services |= started
    state_file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    state_file().write_text(json.dumps(services, indent=1))
    try:
        for name, service in started.items():
            _wait(name, service)
    except RunFailed:
        down()
        raise
    return status()


def down() -> str:
    """Stops what `up` started, by process id; says what it stopped."""
    stopped = []
    for name, service in status().items():
        if service["up"]:
            stop(service["pid"])
            stopped.append(name)
    state_file().unlink(missing_ok=True)
    return f"stopped {', '.join(stopped)}" if stopped else "nothing was up"


def ray_address(ray: str) -> str:
    """`auto` as an address: the head that `swath up` started, else `local`."""
    if ray != "auto":
        return ray
    service = status().get("ray")
    return str(service["address"]) if service and service["up"] else "local"


def audit_socket() -> Path | None:
    """Where the warm audit worker listens; None where there is none."""
    service = status().get("audit")
    return Path(service["socket"]) if service and service["up"] else None


@contextmanager
def prefect_server() -> Iterator[str]:
    """A Prefect server for the time of a run: the environment's, the one of `swath up`, or one of its own. Its URL."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if "PREFECT_API_URL" in os.environ:
        yield os.environ["PREFECT_API_URL"]
        return
    service = status().get("prefect")
    own = None
    if not (service and service["up"]):
        service = own = _start_prefect(_free_port())
    os.environ["PREFECT_API_URL"] = service["api"]
    try:
        yield str(service["api"])
    finally:
        del os.environ["PREFECT_API_URL"]
        if own:
            stop(own["pid"])


def await_prefect() -> None:
    """Returns when the Prefect server of the environment answers."""
    _wait_for("prefect", os.environ["PREFECT_API_URL"] + "/health", settings().home_path() / "prefect.log")


def print_status(console: Console, services: dict[str, Any]) -> None:
    if not services:
        console.print("nothing is up; [cyan]swath up[/] starts a Prefect server, a Ray head and a warm audit worker")
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("service", "state", "pid", "where"):
        table.add_column(name)
    for name, service in services.items():
        state = "[green]up[/]" if service["up"] else "[red]gone[/]"
        table.add_row(name, state, str(service["pid"]), service.get("url") or service.get("socket", ""))
    console.print(table)


def stop(pid: int) -> None:
    """Ends a process and its children, by id."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)


def _start_prefect(port: int = 0) -> dict[str, Any]:
    port = port or _free_port(4200)
    home = settings().home_path() / "prefect"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    url = f"http://{LOOPBACK}:{port}"
    environment = {"PREFECT_HOME": str(home), "PREFECT_UI_API_URL": f"{url}/api", "PREFECT_API_URL": f"{url}/api"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)]
    process = _spawn("prefect", command, environment)
    return _described(process, url=url, api=f"{url}/api", health=f"{url}/api/health")


def _start_ray() -> dict[str, Any]:
    port, dashboard = _free_port(6379), _free_port(8265)
    ray = Path(sys.executable).with_name("ray")
    cpus = (os.cpu_count() or 1) + 2
    command = [str(ray), "start", "--head", "--block", "--disable-usage-stats", f"--node-ip-address={LOOPBACK}"]
    command += [f"--port={port}", f"--dashboard-host={LOOPBACK}", f"--dashboard-port={dashboard}", f"--num-cpus={cpus}"]
    process = _spawn("ray", [*command, f"--object-store-memory={1 << 30}"], {})
    url = f"http://{LOOPBACK}:{dashboard}"
    return _described(process, url=url, address=f"{LOOPBACK}:{port}", health=f"{url}/api/version")


def _start_audit() -> dict[str, Any]:
    path = settings().home_path() / "audit" / "socket"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    process = _spawn("audit", [sys.executable, "-m", "swath.flows.audit_worker", "--socket", str(path)], {})
    return _described(process, socket=str(path))


def _spawn(name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    log = settings().home_path() / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            env={**QUIET, **os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=settings().home_path(),
        )


def _described(process: subprocess.Popen[bytes], **places: str) -> dict[str, Any]:
    return {"pid": process.pid, "started": psutil.Process(process.pid).create_time(), **places, "up": True}


def _alive(service: dict[str, Any]) -> bool:
    """Whether the process is there, and is the one that was started: process ids come again."""
    try:
        process = psutil.Process(service["pid"])
        return abs(process.create_time() - service["started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(name: str, service: dict[str, Any]) -> None:
    log = settings().home_path() / f"{name}.log"
    if "health" in service:
        _wait_for(name, service["health"], log, service)
        return
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(service["socket"])
            return
        time.sleep(0.1)
    raise RunFailed(f"{name} did not start within {PATIENCE_SECONDS} s; its log is {log}")


def _wait_for(name: str, url: str, log: Path, service: dict[str, Any] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        if service and not _alive(service):
            break
        time.sleep(0.1)
    raise RunFailed(f"{name} did not start; its log is {log}")


def _free_port(wanted: int = 0) -> int:
    """The wanted port on loopback, or another where that is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return int(probe.getsockname()[1])
    raise ConfigurationError("no free port on the loopback address")
