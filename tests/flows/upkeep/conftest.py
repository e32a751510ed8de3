"""Upkeep in a process of its own, which is killed where it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime

import pytest

CHILD = """
import sys
from datetime import datetime
from swath.flows.upkeep.maintain import Policy, maintain
maintain(sys.argv[1], Policy(), datetime.fromisoformat(sys.argv[2]))
"""


@pytest.fixture
def in_child() -> Callable[[str, datetime, str], None]:
    def run(warehouse: str, now: datetime, point: str) -> None:
        environment = {**os.environ, "SWATH_CRASH_AT": point}
        command = [sys.executable, "-c", CHILD, warehouse, now.isoformat()]
        child = subprocess.run(command, env=environment, capture_output=True, timeout=100, check=False)
        assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-2000:]

    return run
