"""What is started for a run ends with it, and what does not start is told of."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from swath.flows.work import engine
from swath.schemas.errors import RunFailed

SCRIPT = """
import os, sys, time
from pathlib import Path
import ray
from swath.flows.work import engine

engine.start("local")
told = Path(sys.argv[1])


@ray.remote
def caught():
    import atexit, signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    atexit.register(time.sleep, 600)
    told.write_text(str(os.getpid()))
    time.sleep(600)


caught.remote()
while not told.exists():
    time.sleep(0.1)
time.sleep(0.5)
engine.stop()
"""


def test_a_worker_that_does_not_end_by_itself_is_ended(tmp_path: Path) -> None:
    told = tmp_path / "worker"
    subprocess.run([sys.executable, "-c", SCRIPT, str(told)], timeout=120, check=True)
    worker = int(told.read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)


def test_a_machine_too_busy_for_ray_to_start_is_no_fault_of_swath(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray  # not above: with the first `engine.start`, which keeps it to loopback

    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(RunFailed, match=r"Ray did not start on this machine .*timed out.*`swath resume` later"):
        engine.start("local")
