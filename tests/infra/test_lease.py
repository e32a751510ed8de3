"""The lock object between processes that live, die and fall asleep."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from swath.infra import storage
from swath.infra.lease import Lease
from swath.schemas.errors import RunLocked

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def lock(any_warehouse: str) -> str:
    return storage.join(any_warehouse, "_swath", "runs", "r1", "lock.json")


def _hold(uri: str, ttl_s: float, taken: Event, release: Event) -> None:
    with Lease(uri, "r1", ttl_s):
        taken.set()
        release.wait(60)


def _other(uri: str, ttl_s: float = 30):
    taken, release = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=_hold, args=(uri, ttl_s, taken, release))
    process.start()
    assert taken.wait(30)
    return process, release


def test_a_second_driver_is_told_who_drives_and_comes_in_when_the_first_is_done(lock: str) -> None:
    process, release = _other(lock, ttl_s=1.5)
    time.sleep(2)  # renewed in the meantime
    with pytest.raises(RunLocked, match=rf"run r1 .* process {process.pid} on \S+ since 20\d\d"), Lease(lock, "r1"):
        pass
    release.set()
    process.join(30)
    with Lease(lock, "r1") as lease:
        assert lease.held()
    assert not lease.held()
    assert not storage.exists(lock)


def test_the_lock_of_a_killed_process_of_this_machine_is_taken_at_once(lock: str) -> None:
    process, _ = _other(lock, ttl_s=600)
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    with Lease(lock, "r1") as lease:
        assert lease.held()


def test_a_clock_that_is_set_makes_no_living_owner_dead(warehouse: str, tmp_path: Path) -> None:
    """The kernel tells the time of the boot by the clock; here a namespace has one that was set back by a minute."""
    uri, stat = storage.join(warehouse, "lock.json"), tmp_path / "stat"
    told = Path("/proc/stat").read_text()
    stat.write_text(re.sub(r"btime (\d+)", lambda found: f"btime {int(found[1]) - 60}", told))
    code = "import sys; from swath.infra.lease import Lease\nwith Lease(sys.argv[1], 'second'): print('taken')"
    shell = 'mount --bind "$1" /proc/stat && exec "$2" -c "$3" "$4"'
    with Lease(uri, "first"):
        words = ["unshare", "--mount", "sh", "-c", shell, "sh", str(stat), sys.executable, code, uri]
        second = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if "permitted" in second.stderr or "permission denied" in second.stderr:
        pytest.skip("no file can be mounted over /proc/stat here")
    assert "RunLocked" in second.stderr, second.stdout + second.stderr


def test_the_lock_of_a_sleeping_process_is_taken_when_it_expires_and_the_sleeper_sees_it(warehouse: str) -> None:
    uri = storage.join(warehouse, "lock.json")
    with Lease(uri, "sleeper", ttl_s=1) as sleeper:
        sleeper._stop.set()  # its renewing thread gets no time, as in a stopped process
        assert sleeper.held()
        time.sleep(1.2)
        assert not sleeper.held()
        with Lease(uri, "thief") as thief:
            assert thief.held()
            sleeper.__exit__(None, None, None)
            assert storage.exists(uri), "the sleeper removed the lock of another"


def test_a_lease_that_could_not_be_renewed_is_regained_unless_somebody_took_it(warehouse: str) -> None:
    uri = storage.join(warehouse, "lock.json")
    with Lease(uri, "r1", ttl_s=0.5) as lease:
        lease._stop.set()  # its renewing thread waits for a store that does not answer
        time.sleep(0.6)
        assert not lease.held()
        assert lease.regain()
        assert lease.held()
        time.sleep(0.6)
        with Lease(uri, "r1") as other:
            assert not lease.regain()
            assert not lease.held()
            assert other.regain()


def test_a_lease_whose_answers_are_lost_is_held(warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unheard(write: Callable[..., bool]) -> Callable[..., bool]:
        return lambda *words: write(*words) and False

    for name in ("create", "replace_if"):
        monkeypatch.setattr(storage, name, unheard(getattr(storage, name)))
    with Lease(storage.join(warehouse, "lock.json"), "r1", ttl_s=0.9) as lease:
        time.sleep(1.5)
        assert lease.held()


def test_a_lease_that_was_taken_away_is_no_longer_held(lock: str) -> None:
    with Lease(lock, "r1", ttl_s=1.2) as lease:
        storage.write(lock, b'{"owner": "somebody"}')
        time.sleep(0.8)
        assert not lease.held()
    assert b"somebody" in storage.read(lock)


def test_a_lock_that_cannot_be_read_blocks_nobody(warehouse: str) -> None:
    uri = storage.join(warehouse, "lock.json")
    storage.write(uri, b"\x00 half a lo")
    with Lease(uri, "r1") as lease:
        assert lease.held()
