"""Real parts that tests share: an S3 server and warehouses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import azurite
from tests.servers.azurite import Azurite
from tests.servers.google import Google
from tests.servers.postgres import BINARIES, Postgres

from swath.infra.s3server import SeaweedFS

LONG = ("test_readme.py", "test_harness.py", "test_isolation.py", "test_backfill.py", "test_prefect.py")
"""Files that take minutes, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: of several workers, each with a file at a time, none ends alone with it."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


class Buckets:
    """A server of the session, and new buckets on it."""

    def __init__(self, server: SeaweedFS | Azurite | Google) -> None:
        self.server = server

    def bucket(self, name: str = "test") -> str:
        """The URI of a new, empty bucket."""
        return self.server.create_bucket(f"{name}-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real S3 server for the whole session."""
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Azure's own emulator of its Blob Storage."""
    if not azurite.PROGRAM.exists() or not shutil.which("node"):
        pytest.skip("azurite is not installed: `make setup` does it where npm is")
    with Azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def google_server(s3_server: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """The S3 server, to which Google's clients speak."""
    with Google(s3_server, tmp_path_factory.mktemp("google")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real Postgres for the whole session; a test makes its own database."""
    if not BINARIES.exists():
        pytest.skip("Postgres is not installed: apt-get install postgresql")
    with Postgres() as server:
        yield server


@pytest.fixture
def s3(s3_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    """The S3 server, with its address and credentials in this test's environment (child processes inherit it)."""
    return _buckets(s3_server, monkeypatch)


@pytest.fixture
def azure(azure_server: Azurite, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    """As `s3`, of Azure."""
    return _buckets(azure_server, monkeypatch)


@pytest.fixture
def google(google_server: Google, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    """As `s3`, of Google."""
    return _buckets(google_server, monkeypatch)


def _buckets(server: SeaweedFS | Azurite | Google, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return Buckets(server)


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a new local warehouse."""
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    return f"file://{tmp_path}/warehouse"


@pytest.fixture(params=["local", "s3", *(pytest.param(name, marks=pytest.mark.slow) for name in ("azure", "google"))])
def any_warehouse(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new warehouse on local disk, and in each kind of store."""
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    if request.param == "local":
        return f"file://{tmp_path}/warehouse"
    return str(request.getfixturevalue(request.param).bucket("warehouse")) + "/lake"


@pytest.fixture(scope="session")
def audit_socket() -> Iterator[Path]:
    """A warm audit worker for the whole session: importing Great Expectations takes seconds."""
    folder = Path(tempfile.mkdtemp(prefix="audit-"))
    command = [sys.executable, "-P", "-m", "swath.flows.audit.worker", "--socket", str(folder / "s")]
    with subprocess.Popen([*command, "--parent", str(os.getpid())], env=os.environ) as worker:
        yield folder / "s"
        worker.kill()
    shutil.rmtree(folder)
