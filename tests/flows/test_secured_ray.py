"""A Ray cluster with TLS and a token lets in who has both, and tells everybody else at once what is missing."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tests import machine_recipe
from tests.certificates import certificate
from tests.nodes import _own_address

from swath.flows.demo.photos import draw_photos
from swath.flows.local import services

KNOCK = """
import sys
from swath.flows.local import services
from swath.flows.work import engine
engine.start(services.ray_address(sys.argv[1]))
"""
HEAD, WORKER = (machine_recipe.RAY / "systemd" / f"swath-ray-{name}.service" for name in ("head", "worker"))
MARK = "SWATH_TEST_MACHINE"


@dataclass(frozen=True)
class Secured:
    """A head and a worker that are up, and what a driver must have in its environment."""

    address: str
    tls: dict[str, str]
    token: dict[str, str]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A machine as infra/ray/on_premises.md says, with a head and a worker by their units."""
    folder = tmp_path_factory.mktemp("ray") / "swath"
    made = machine_recipe.set_up(folder)
    mark = uuid.uuid4().hex
    address, port = _own_address(), str(services._free_port())
    environment = made | {"ADDRESS": address, "RAY_ADDRESS": f"{address}:{port}", MARK: mark}
    store = {"object-store-memory": "100000000", "min-worker-port": "0", "max-worker-port": "0"}
    head = machine_recipe.command(HEAD, folder, environment, port=port, **store)
    worker = machine_recipe.command(WORKER, folder, environment, **store)
    try:
        _start([*head, f"--dashboard-port={services._free_port()}"], environment, folder / "head.log")
        _start([*worker, "--num-cpus=4"], environment, folder / "worker.log")
        tls = {name: value for name, value in made.items() if name.startswith(("RAY_USE_TLS", "RAY_TLS"))}
        token = {name: value for name, value in made.items() if name.startswith("RAY_AUTH")}
        yield Secured(environment["RAY_ADDRESS"], tls, token)
    finally:
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == mark:
                    process.kill()


def _start(command: list[str], environment: dict[str, str], log: Path) -> None:
    with log.open("wb") as file:
        everything = machine_recipe.without_ours() | environment
        node = subprocess.Popen(command, env=everything, stdout=file, stderr=file, start_new_session=True)
    deadline = time.monotonic() + services.PATIENCE_SECONDS
    while "Ray runtime started" not in log.read_text(errors="replace"):
        if node.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text(errors="replace")[-1000:])
        time.sleep(0.1)


def driver(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=machine_recipe.without_ours() | {"SWATH_HOME": str(folder)} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_run_with_both_is_done_there(secured: Secured, tmp_path: Path) -> None:
    draw_photos(tmp_path / "photos", 3)
    words = ("-m", "swath.flows.cli", "run", "photos", "photos", "--direct", "--json", "--ray", secured.address)
    done = driver(tmp_path, secured.tls | secured.token, *words)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["status"], record["ok"]) == ("published", 3)
    told = done.stdout + done.stderr + "".join(kept.read_text() for kept in tmp_path.rglob("run.json"))
    assert Path(secured.token["RAY_AUTH_TOKEN_PATH"]).read_text() not in told


@pytest.mark.parametrize(
    ("has", "why"),
    [
        ("nothing", "which speaks no TLS"),
        ("token", "which speaks no TLS"),
        ("tls", "asks for its token, and none was shown"),
        ("another token", "asks for its token, and that of this environment is another"),
        ("another authority", r"which speaks TLS .*CERTIFICATE_VERIFY_FAILED"),
        ("no key", "its certificates cannot be read"),
    ],
)
def test_who_lacks_one_is_told_at_once(secured: Secured, tmp_path: Path, has: str, why: str) -> None:
    other = certificate(tmp_path / "tls", "driver", "127.0.0.1")
    environment = {
        "nothing": {},
        "token": secured.token,
        "tls": secured.tls,
        "another token": secured.tls | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)},
        "another authority": secured.tls | secured.token | {"RAY_TLS_CA_CERT": str(other.authority)},
        "no key": secured.tls | secured.token | {"RAY_TLS_SERVER_KEY": "/nowhere"},
    }[has]
    refused = driver(tmp_path, environment, "-c", KNOCK, secured.address)
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("swath.schemas.errors.ConfigurationError")
    assert re.search(why, last), last
