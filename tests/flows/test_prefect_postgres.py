"""A run through a real Prefect server whose database is Postgres, as `infra/` deploys it."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flows.living import House
from tests.servers.postgres import Postgres
from tests.servers.process import free_port, start

from swath.flows.local.services import QUIET, _answers
from swath.flows.run import process
from swath.flows.run.records import State


@pytest.fixture
def server(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Prefect server with a database of its own; the database's name."""
    database, port = f"prefect_{uuid.uuid4().hex[:8]}", free_port()
    postgres.create_database(database)
    url = f"http://127.0.0.1:{port}/api"
    for name, value in {**QUIET, **postgres.environment(), "SWATH_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.uri(database, "postgresql+asyncpg"),
    }
    log = tmp_path / "prefect.log"
    server = start(command, lambda: _answers(f"{url}/health"), log, timeout_s=180, env=environment)
    monkeypatch.setenv("PREFECT_API_URL", url)
    yield database
    server.kill()
    server.wait()


@pytest.mark.slow
def test_a_run_goes_through_a_prefect_server_on_postgres(server: str, postgres: Postgres, tmp_path: Path) -> None:
    house = House(f"file://{tmp_path}/lake", f"file://{tmp_path}/in", None)
    house.put("a.txt", "b.txt")
    record = process.start(house.request(), prefect=True)
    assert record.status == State.PUBLISHED
    house.check()
    runs = postgres.execute(server, "SELECT name, state_type FROM flow_run")
    assert runs == [(record.run_id, "COMPLETED")]
