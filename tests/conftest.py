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

from swath.infra.s3server import SeaweedFS

LONG = ("test_readme.py", "test_harness.py", "test_isolation.py", "test_backfill.py", "test_prefect.py")
"""Files that take minutes, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: of several workers, each with a file at a time, none ends alone with it."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


class S3:
    """The session's S3 server, and new buckets on it."""

    def __init__(self, server: SeaweedFS) -> None:
        self.server = server

    def bucket(self, name: str = "test") -> str:
        """The URI of a new, empty bucket."""
        return self.server.create_bucket(f"{name}-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real S3 server for the whole session."""
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture
def s3(s3_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The S3 server, with its address and credentials in this test's environment (child processes inherit it)."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return S3(s3_server)


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a new local warehouse."""
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    return f"file://{tmp_path}/warehouse"


@pytest.fixture(params=["local", "s3"])
def any_warehouse(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new warehouse, once on local disk and once on S3."""
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    if request.param == "local":
        return f"file://{tmp_path}/warehouse"
    return str(request.getfixturevalue("s3").bucket("warehouse")) + "/lake"


@pytest.fixture(scope="session")
def audit_socket() -> Iterator[Path]:
    """A warm audit worker for the whole session: importing Great Expectations takes seconds."""
    folder = Path(tempfile.mkdtemp(prefix="audit-"))
    command = [sys.executable, "-P", "-m", "swath.flows.audit.worker", "--socket", str(folder / "s")]
    with subprocess.Popen([*command, "--parent", str(os.getpid())], env=os.environ) as worker:
        yield folder / "s"
        worker.kill()
    shutil.rmtree(folder)
