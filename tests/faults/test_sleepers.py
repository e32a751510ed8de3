"""A driver that sleeps through its lease wakes up in a run that another one has finished, and spoils nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.flows.living import House, pipeline

from swath.flows.run.records import State
from swath.infra import storage
from swath.schemas.errors import SwathError

CHILD = """
import os, signal, sys
from pathlib import Path
from swath.infra import crash
def sleep(name):
    if name == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGSTOP)
crash.crash_point = sleep
from functools import partial
from swath.flows.run import process
from swath.flows.run.records import Request
process.Lease = partial(process.Lease, ttl_s=float(sys.argv[4]))
process.start(Request.model_validate_json(sys.argv[1]), prefect=False, audit_socket=Path(sys.argv[2]))
"""

LEASE_S = 6


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path) -> House:
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    "point",
    ["planning", "settled", pytest.param("audited", marks=pytest.mark.slow)],
)
def test_a_driver_that_wakes_up_in_a_finished_run_spoils_nothing(house: House, point: str) -> None:
    house.put(*(f"{site}/{number}.txt" for site in "ab" for number in range(2)))
    request = house.request(pipeline(), partition_by="{site}").model_dump_json()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
    words = [sys.executable, "-c", CHILD, request, str(house.audit_socket), point, str(LEASE_S)]
    sleeper = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE)
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_STOPPED:
        assert sleeper.poll() is None, sleeper.communicate()
        time.sleep(0.1)
    (name,) = house.runs.names()
    lease = storage.join(house.runs.folder(name), "lease.json")
    storage.write(lease, b"{}")  # as it is when it has expired
    assert house.resume().status == State.PUBLISHED
    before = house.rows()
    time.sleep(LEASE_S)  # it looks at its own clock
    os.kill(sleeper.pid, signal.SIGCONT)
    _, said = sleeper.communicate(timeout=100)
    assert b"RunLocked" in said, said.decode()[-2000:]
    assert house.runs.load(name).status == State.PUBLISHED
    with pytest.raises(SwathError, match="unfinished"):
        house.resume()
    assert house.rows() == before
    house.check()
