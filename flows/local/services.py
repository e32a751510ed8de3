"""Local services: a Prefect server, a Ray head and a warm audit worker, kept between runs by `swath up`.

All listen on the loopback address only. Their processes carry a mark in their environment, by which `down` finds all
of them and nothing else: process ids come again, and a Ray head's children outlive it when it is killed.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from swath.flows.audit.worker import environment_digest
from swath.infra.settings import settings
from swath.infra.tokens import own_token
from swath.schemas.errors import ConfigurationError, RunFailed

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 120
MARK = "_SWATH_SERVICES_OF"
"""Variable that holds the state folder in every process of its services."""
OWN_SERVER = "_SWATH_PREFECT_OF_A_RUN"
"""Variable that holds the process id of a Prefect server that serves one run only, so that nothing is shared by it."""
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    # Prefect's own log lines go to its server, where the UI shows them; the terminal has ours.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_CLI_COLORS": "false",
}


def status() -> dict[str, Any]:
    """What `swath up` started and whether it is alive: by name, pid, state and where.

    `same_environment` is False where the variables of stores and catalogs are others now: a worker there would not read
    what this shell reads.
    """
    try:
        kept: dict[str, dict[str, Any]] = json.loads(_state_file().read_text())
    except (OSError, ValueError):
        kept = {}
    for name, service in kept.items():
        service["up"] = _is_ours(service["pid"])
        if name != "prefect":
            service["same_environment"] = service.pop("environment", None) == environment_digest()
    return kept


def up() -> dict[str, Any]:
    """Starts what is not up yet, all side by side; returns `status()`. Raises RunFailed where one does not start."""
    with _one_at_a_time():
        try:
            kept = json.loads(_state_file().read_text())
        except (OSError, ValueError):
            kept = {}
        running = {name: service for name, service in kept.items() if _is_ours(service["pid"])}
        if not running:
            _end(_marked())  # left by services that were killed; their ports and sockets are wanted
        starters: dict[str, Callable[[], dict[str, Any]]]
        starters = {"prefect": _start_prefect, "ray": _start_ray, "audit": _start_audit}
        try:
            started = {name: start() for name, start in starters.items() if name not in running}
            _write_state(running | started)
            for name, service in started.items():
                _wait(name, service)
        except BaseException:
            if not running:
                _down()
            raise
    return status()


def down() -> list[str]:
    """Stops what `up` started, with all its children; the names of what was up."""
    with _one_at_a_time():
        return _down()


def ray_address(ray: str, say: Callable[[str], None] = lambda _: None) -> str:
    """Where a run's Ray is: `auto` becomes the cluster that RAY_ADDRESS names, as on its machines `ray job` has it, or
    the head that `swath up` started, else `local`.

    Raises ConfigurationError where nothing answers at an address.
    """
    if ray == "auto":
        ray = os.environ.get("RAY_ADDRESS", "auto")
    if ray in ("local", "off"):
        return ray
    service = status().get("ray")
    head = service if service and service["up"] else None
    if ray != "auto":
        address = _reachable(ray)
    elif head is None:
        return "local"
    elif not head["same_environment"]:
        say(
            "the Ray head of `swath up` was started with other variables (AWS_*, AZURE_*, PG*, SWATH_* ...): this run "
            "starts a Ray of its own (`swath down` and `swath up` give the services today's variables)"
        )
        return "local"
    else:
        address = str(head["address"])
    if head and address == head["address"]:
        # For this process and those that it starts: the head lets in nobody else who is signed in here.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": head["token"]}
    return address


def audit_socket() -> Path | None:
    """Where the warm audit worker listens; None where there is none."""
    service = status().get("audit")
    return Path(service["socket"]) if service and service["up"] else None


@contextmanager
def prefect_server() -> Iterator[str]:
    """The Prefect server of a run, set in the environment: the one set there already, that of `swath up`, or one of
    its own, which is started without waiting for it (see `await_prefect`). Its URL."""
    if url := os.environ.get("PREFECT_API_URL"):
        _knock(url)
        with _environment(QUIET):
            yield url
        return
    service = status().get("prefect")
    own = None if service and service["up"] else _start_prefect(parent=os.getpid())
    service = own or service
    assert service is not None
    places = {"PREFECT_HOME": str(_prefect_home()), "PREFECT_API_URL": service["api"]}
    if own:
        places[OWN_SERVER] = str(own["pid"])
    try:
        with _environment(QUIET | places):
            yield str(service["api"])
    finally:
        if own:
            _end([psutil.Process(own["pid"])] if psutil.pid_exists(own["pid"]) else [])


def await_prefect() -> None:
    """Returns when the Prefect server of the environment answers. Raises RunFailed where it does not."""
    own = os.environ.get(OWN_SERVER)
    health = f"{os.environ['PREFECT_API_URL']}/health"
    _wait_for("prefect-of-a-run" if own else "prefect", health, int(own) if own else None)


def _down() -> list[str]:
    names = [name for name, service in status().items() if service["up"]]
    strays = _marked()
    _end(strays)
    _state_file().unlink(missing_ok=True)
    return names or (["what was left of them"] if strays else [])


def _state_file() -> Path:
    return settings().home_path() / "services.json"


def _write_state(services: dict[str, Any]) -> None:
    temporary = _state_file().with_suffix(".part")
    temporary.write_text(json.dumps(services, indent=1))
    temporary.replace(_state_file())


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    home = settings().home_path()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (home / "services.lock").open("w")
    except OSError as error:
        raise ConfigurationError(f"{home} cannot be written ({error.strerror}); set SWATH_HOME to a folder") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """The variables that are not set yet, for a while."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def _prefect_home() -> Path:
    home = settings().home_path() / "prefect"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home


def _start_prefect(parent: int | None = None) -> dict[str, Any]:
    port = _free_port(0 if parent else 4200)
    url = f"http://{LOOPBACK}:{port}"
    environment = {
        "PREFECT_HOME": str(_prefect_home()),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_UI_API_URL": f"{url}/api",
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        # Slots of a concurrency limit that a killed run held come back, also where the server was killed with it.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    command = [sys.executable, "-P", "-m", "swath.flows.local.prefect_host", "--port", str(port)]
    if parent:
        pid = _spawn("prefect-of-a-run", [*command, "--parent", str(parent)], environment, marked=False)
    else:
        pid = _spawn("prefect", command, environment)
    return {"pid": pid, "url": url, "api": f"{url}/api", "health": f"{url}/api/health"}


def _start_ray() -> dict[str, Any]:
    port, dashboard = _free_port(6379), _free_port(8265)
    cpus = (os.cpu_count() or 1) + 2
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--node-ip-address={LOOPBACK}", f"--port={port}", f"--num-cpus={cpus}"]
    command += [f"--dashboard-host={LOOPBACK}", f"--dashboard-port={dashboard}", f"--object-store-memory={1 << 30}"]
    url = f"http://{LOOPBACK}:{dashboard}"
    token = str(own_token("ray"))
    secured = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token, "RAY_USE_TLS": "0"}
    # Ray takes 127.0.0.1 for its address from nobody else; with another it listens on every network.
    pid = _spawn("ray", command, {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} | secured)
    address = f"{LOOPBACK}:{port}"
    return {
        "pid": pid,
        "url": url,
        "address": address,
        "token": token,
        "health": f"{url}/api/gcs_healthz",  # asks for no token
        "environment": environment_digest(),
    }


def _start_audit() -> dict[str, Any]:
    path = settings().home_path() / "audit" / "socket"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pid = _spawn("audit", [sys.executable, "-P", "-m", "swath.flows.audit.worker", "--socket", str(path)], {})
    return {"pid": pid, "socket": str(path), "environment": environment_digest()}


def _spawn(name: str, command: list[str], environment: dict[str, str], marked: bool = True) -> int:
    """Starts a process that outlives this one, with its output in `<home>/<name>.log`; its id."""
    home = settings().home_path()
    mark = {MARK: str(home)} if marked else {}
    with _log(name).open("wb") as file:
        process = subprocess.Popen(
            command,
            env={**QUIET, **os.environ, **environment, **mark},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=home,
        )
    return process.pid


def _log(name: str) -> Path:
    return settings().home_path() / f"{name}.log"


def _lives(pid: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def _is_ours(pid: int) -> bool:
    """Whether the process is there and is a service of this state folder."""
    with suppress(psutil.Error):
        return _lives(pid) and _mark(psutil.Process(pid)) == str(settings().home_path())
    return False


def _marked() -> list[psutil.Process]:
    home = str(settings().home_path())
    return [process for process in psutil.process_iter() if _mark(process) == home]


def _mark(process: psutil.Process) -> str | None:
    with suppress(psutil.Error, OSError):
        return process.environ().get(MARK)
    return None


def _end(processes: list[psutil.Process]) -> None:
    """Ends the processes, by their ids: asked first, killed after 5 seconds."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=5)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def _wait(name: str, service: dict[str, Any]) -> None:
    if "health" in service:
        _wait_for(name, service["health"], service["pid"])
        return

    def listens() -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(service["socket"])
            return True
        return False

    _until(listens, name, service["pid"])


def _wait_for(name: str, url: str, pid: int | None = None) -> None:
    _until(lambda: _answers(url), name, pid)


def _until(ready: Callable[[], bool], name: str, pid: int | None) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if ready():
            return
        if pid and not _lives(pid):
            break
        time.sleep(0.1)
    raise RunFailed(f"{name} did not start; its log is {_log(name)}")


def _answers(url: str) -> bool:
    with suppress(OSError, ValueError), _open(url, 2) as answer:
        return bool(answer.status == 200)
    return False


def _open(url: str, timeout: float, headers: dict[str, str] | None = None) -> Any:
    """Trusts whom Prefect's own client trusts."""
    trusted = os.environ.get("PREFECT_API_SSL_CERT_FILE")
    context = ssl.create_default_context(cafile=trusted) if url.startswith("https:") else None
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=timeout, context=context)


def _knock(url: str) -> None:
    """Raises ConfigurationError where no Prefect server answers at the URL, or none that lets this process in."""
    secret, key = os.environ.get("PREFECT_API_AUTH_STRING"), os.environ.get("PREFECT_API_KEY")
    shown = f"Basic {base64.b64encode(secret.encode()).decode()}" if secret else f"Bearer {key}"
    try:
        _open(f"{url}/health", 5).close()
    except (OSError, ValueError) as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
            raise ConfigurationError(
                f"the certificate of the Prefect server at {url} is not trusted here ({error}); "
                "set PREFECT_API_SSL_CERT_FILE to that of its authority"
            ) from None
        raise ConfigurationError(
            f"no Prefect server answers at {url} (PREFECT_API_URL); unset it, start one there, or use --direct"
        ) from None
    try:
        _open(f"{url}/admin/version", 5, {"Authorization": shown} if secret or key else {}).close()
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise ConfigurationError(
                f"the Prefect server at {url} asks for its auth string, and "
                f"{'another is set' if secret else 'none is set'} (PREFECT_API_AUTH_STRING)"
            ) from None


def _reachable(address: str) -> str:
    scheme, slashes, rest = address.rpartition("://")
    if slashes:
        host = rest.partition("/")[0].rpartition(":")[0] or "HEAD"
        raise ConfigurationError(
            f"a run is driven from inside its cluster, and {scheme}:// leads there from outside: "
            f"`ray job submit --address http://{host}:8265 --working-dir . -- swath run ...` sends the command in "
            "(unset RAY_ADDRESS where it was meant for `ray` alone)"
        )
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise ConfigurationError(f"--ray {address}: give local, auto, off, or the HOST:PORT of a Ray head")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"no Ray head answers at {address} ({error}); see `swath status`, or use `--ray local`"
        ) from None
    return address


def _free_port(wanted: int = 0) -> int:
    """The wanted port on loopback, or another where that is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return int(probe.getsockname()[1])
    raise ConfigurationError("no free port on the loopback address")
