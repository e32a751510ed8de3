"""A Ray cluster with TLS and a token lets in who has both, and tells everybody else at once what is missing."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.certificates import certificate
from tests.nodes import Nodes, _own_address

from swath.flows.demo.photos import draw_photos

KNOCK = "from swath.flows.work import engine; import sys; engine.start(sys.argv[1]); engine.stop()"


@dataclass(frozen=True)
class Secured:
    """A head that is up, and what a driver must have in its environment."""

    address: str
    tls: dict[str, str]
    token: dict[str, str]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("ray")
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    asked = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    names = (_own_address(), "127.0.0.1", "localhost")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (tls(folder, "head", *names) | asked).items():
            environment.setenv(name, value)
        nodes = Nodes(folder)
    try:
        yield Secured(nodes.address, tls(folder, "driver", *names), asked)
    finally:
        nodes.close()


def tls(folder: Path, *names: str) -> dict[str, str]:
    files = certificate(folder / "tls", *names)
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(files.certificate),
        "RAY_TLS_SERVER_KEY": str(files.key),
        "RAY_TLS_CA_CERT": str(files.authority),
    }


def driver(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SWATH_", "PREFECT_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        env=clean | {"SWATH_HOME": str(folder)} | environment,
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
    environment = {
        "nothing": {},
        "token": secured.token,
        "tls": secured.tls,
        "another token": secured.tls | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)},
        "another authority": tls(tmp_path, "driver", "127.0.0.1") | secured.token,
        "no key": secured.tls | secured.token | {"RAY_TLS_SERVER_KEY": "/nowhere"},
    }[has]
    refused = driver(tmp_path, environment, "-c", KNOCK, secured.address)
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("swath.schemas.errors.ConfigurationError")
    assert re.search(why, last), last
