"""A Prefect server with TLS and an auth string: a run with both is kept there, everybody else is told what is missing;
and none of the secrets that a run was given stands in anything that it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import machine_recipe

from swath.flows.demo.photos import draw_photos
from swath.flows.local import services

UNIT = machine_recipe.RAY / "systemd" / "swath-prefect-server.service"
PASSWORD = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a client needs in its environment. The server is that of a machine as infra/ray/on_premises.md says."""
    folder = tmp_path_factory.mktemp("prefect") / "swath"
    port = str(services._free_port())
    environment = machine_recipe.set_up(folder) | {"ADDRESS": services.LOOPBACK}
    command = machine_recipe.command(UNIT, folder, environment, port=port)
    own = {"PREFECT_SERVER_API_AUTH_STRING": f"swath:{PASSWORD}", "PREFECT_HOME": str(folder / "prefect")}
    client = {
        "PREFECT_API_URL": f"https://{services.LOOPBACK}:{port}/api",
        "PREFECT_API_SSL_CERT_FILE": environment["RAY_TLS_CA_CERT"],
        "PREFECT_API_AUTH_STRING": f"swath:{PASSWORD}",
    }
    environment = machine_recipe.without_ours() | environment | own | {"PREFECT__SERVER_FINAL": "1"}
    (folder / "prefect").mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        with pytest.MonkeyPatch.context() as ours:
            for name, value in client.items():
                ours.setenv(name, value)
            deadline = time.monotonic() + services.PATIENCE_SECONDS
            while not services._answers(f"{client['PREFECT_API_URL']}/health"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "log").read_text())
                time.sleep(0.2)
        yield client
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"PREFECT_API_AUTH_STRING": None}, "asks for its auth string, and none is set"),
        ({"PREFECT_API_AUTH_STRING": "swath:wrong"}, "asks for its auth string, and another is set"),
        ({"PREFECT_API_SSL_CERT_FILE": None}, "is not trusted here"),
    ],
)
def test_who_lacks_something_is_told_what(
    server: dict[str, str], tmp_path: Path, changes: dict[str, str | None], why: str
) -> None:
    refused = swath(tmp_path, server | changes, "run", "photos", str(tmp_path))
    assert refused.returncode == 2
    assert why in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_run_leaves_none_of_its_secrets_anywhere(server: dict[str, str], tmp_path: Path) -> None:
    """Output, run record, tables, artifacts, logs, state folder, and Prefect's database."""
    draw_photos(tmp_path / "photos", 2)
    for number in range(6):
        (tmp_path / "photos" / f"broken_{number}.jpg").write_bytes(b"no picture")
    catalog = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db?timeout=30", "token": "catalog-" + PASSWORD}
    secrets = {
        "SWATH_CATALOG": json.dumps(catalog | {"s3.secret-access-key": "store-" + PASSWORD}),
        "SWATH_WEBHOOK_URL": f"http://{services.LOOPBACK}:9/{PASSWORD}",
        "SWATH_METRICS_TOKEN": "metrics-" + PASSWORD,
        "AWS_ACCESS_KEY_ID": "key-" + PASSWORD,
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
    }
    failed = swath(tmp_path, server | secrets, "run", "photos", "photos", "--json", "--max-rejects", "0.1")
    assert failed.returncode == 3, failed.stderr
    done = swath(tmp_path, server | secrets, "run", "photos", "photos", "--json", "--max-rejects", "1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rejected"] == 6
    written = [
        path
        for folder in (tmp_path, Path(server["PREFECT_API_SSL_CERT_FILE"]).parents[2])
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert {".parquet", ".avro", ".json", ".db"} <= {path.suffix for path in written}
    told = {str(path): path.read_bytes() for path in written} | {
        "output": (done.stdout + done.stderr + failed.stdout + failed.stderr).encode()
    }
    assert not [name for name, content in told.items() if PASSWORD.encode() in content]


def swath(folder: Path, environment: dict[str, str | None], *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SWATH_", "PREFECT_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "-m", "swath.flows.cli", *arguments],
        env=clean
        | {"SWATH_HOME": str(folder / "home")}
        | {name: value for name, value in environment.items() if value},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
