"""A warm audit worker for the session: importing Great Expectations takes seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def audit_socket() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="audit-"))
    command = [sys.executable, "-P", "-m", "swath.flows.audit_worker", "--socket", str(folder / "s")]
    with subprocess.Popen([*command, "--parent", str(os.getpid())], env=os.environ) as worker:
        yield folder / "s"
        worker.kill()
    shutil.rmtree(folder)
