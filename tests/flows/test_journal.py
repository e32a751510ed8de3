import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from swath.flows.work import journal
from swath.flows.work.journal import BATCH_SECONDS, FIRST_SECONDS, Slot, Touch, resident_bytes
from swath.schemas.items import Reason

A, B = "a" * 32, "b" * 32
WORKER = """
import ctypes, os, sys, time
import numpy as np
from swath.flows.work.journal import Watched
watch = Watched(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
slot = watch.slot
slot.touch(["0" * 32], "step")  # from the second touch on, nothing is added to the limit
ids = ["%032x" % n for n in range(1, 4)]
print(watch._sidecar.pid, flush=True)
"""


@pytest.fixture
def slot() -> Iterator[Slot]:
    slot = Slot.new()
    yield slot
    slot.close()


def test_what_is_touched_is_read_in_another_mapping(slot: Slot) -> None:
    other = Slot(os.dup(slot.handle))
    before = time.monotonic()
    slot.touch([A, B], "décode")
    touch = other.read()
    assert (touch.step, touch.item_ids) == ("décode", (A, B))
    assert before <= touch.since <= time.monotonic()
    slot.touch([B], "hash")
    assert other.read().item_ids == (B,)
    slot.rest()
    assert other.read().item_ids == ()
    other.close()


def test_no_more_items_than_fit_are_kept(slot: Slot) -> None:
    slot.touch([A] * 10_000, "step")
    assert len(slot.read().item_ids) == journal.SLOT_ITEMS


def test_a_torn_slot_is_read_without_an_error(slot: Slot) -> None:
    slot._map[:] = os.urandom(journal.SLOT_BYTES)
    assert len(slot.read().item_ids) <= journal.SLOT_ITEMS


def test_the_first_touch_of_a_step_has_time_for_its_imports(slot: Slot) -> None:
    slot.touch([A], "one")
    assert slot.read().patience(2) == 2 + FIRST_SECONDS
    slot.touch([B], "one")
    assert slot.read().patience(2) == 2
    slot.touch([B], "two")
    assert slot.read().patience(2) == 2 + FIRST_SECONDS


def test_a_batch_has_the_time_of_its_items_up_to_a_bound() -> None:
    assert Touch(0, "step", (A,) * 32).patience(2) == 64
    assert Touch(0, "step", (A,) * 32).patience(120) == BATCH_SECONDS
    assert Touch(0, "step", (A,)).patience(1000) == 1000


def test_loading_has_no_limits(slot: Slot) -> None:
    slot.load()
    assert slot.read().since == math.inf
    assert journal.Guard(slot, os.getpid(), 0.0, 0).reason() is None


def test_a_death_between_two_items_of_a_block_is_told_under_a_name_of_the_block(slot: Slot) -> None:
    slot.rest()
    assert slot.read().item_ids == ()
    slot.begin(A)
    (first,) = slot.read().item_ids
    slot.touch([B], "step")
    slot.rest()
    assert slot.read() == Touch(math.inf, "rest", (first,))
    assert first.startswith(journal.resting(A))
    assert journal.Guard(slot, os.getpid(), 0.0, 0).reason() is None
    slot.end()
    assert slot.read().item_ids == ()
    slot.begin(A)
    assert slot.read().item_ids != (first,)  # each death counts


def test_the_words_of_the_sidecar_are_reasons() -> None:
    assert [Reason(word) for word in (journal.TIMED_OUT, journal.OUT_OF_MEMORY, journal.CRASHED)]


def test_memory_of_a_process_is_without_what_it_shares() -> None:
    import mmap

    before = resident_bytes(os.getpid())
    shared = mmap.mmap(-1, 256 << 20)  # as Ray's object store is
    for page in range(0, 256 << 20, 4096):
        shared[page] = 1
    assert resident_bytes(os.getpid()) - before < 64 << 20
    ours = bytearray(b"x" * (256 << 20))
    assert resident_bytes(os.getpid()) - before > 200 << 20
    del ours
    shared.close()


@pytest.mark.parametrize(
    ("deed", "reason", "limits"),
    [
        ("slot.touch(ids[:1], 'step'); ctypes.string_at(0)", "crashed", (60, 4 << 30)),
        ("slot.touch(ids[:1], 'step'); os._exit(0)", "crashed", (60, 4 << 30)),
        ("slot.touch(ids[:1], 'step'); time.sleep(60)", "timed_out", (0.3, 4 << 30)),
        ("slot.touch(ids[:1], 'step'); ctypes.PyDLL(None).sleep(60)", "timed_out", (0.3, 4 << 30)),
        ("slot.touch(ids[:1], 'step'); kept = [np.ones(1 << 25) for _ in range(99)]", "out_of_memory", (60, 500 << 20)),
        ("slot.touch(ids, 'step'); os.kill(os.getpid(), 9)", "crashed", (60, 4 << 30)),
        ("slot.rest(); os.kill(os.getpid(), 9)", None, (60, 4 << 30)),
        ("slot.touch(ids[:1], 'step'); slot.rest(); time.sleep(1)", None, (0.3, 4 << 30)),
        ("slot.touch(ids[:1], 'step'); os.fork() and os.kill(os.getpid(), 9); time.sleep(9)", "crashed", (60, 4 << 30)),
    ],
)
def test_what_a_worker_died_on_is_told(
    tmp_path: Path, deed: str, reason: str | None, limits: tuple[float, int]
) -> None:
    arguments = [f"file://{tmp_path}/suspects", *map(str, limits)]
    worker = subprocess.Popen([sys.executable, "-c", WORKER + deed, *arguments], stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    sidecar = int(worker.stdout.readline())
    worker.wait(timeout=30)
    worker.stdout.close()
    assert _gone(sidecar, within=20)
    notes = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("suspects/*")}
    touched = 3 if "touch(ids, " in deed else 1
    expected = [f"{n:032x}" for n in range(1, touched + 1)] if reason else []
    assert sorted(notes) == expected
    assert all(note == {"step": "step", "reason": reason} for note in notes.values())


def test_a_sidecar_that_was_killed_is_replaced_and_the_last_one_goes_with_its_worker(tmp_path: Path) -> None:
    with journal.Watched(f"file://{tmp_path}") as watch:
        assert watch._sidecar
        first = watch._sidecar.pid
        os.kill(first, signal.SIGKILL)
        assert _gone(first, within=5)
        watch.ensure()
        second = watch._sidecar.pid
        assert psutil.pid_exists(second)
        assert second != first
    assert not psutil.pid_exists(second)


def test_a_sidecar_is_small(tmp_path: Path) -> None:
    with journal.Watched(f"file://{tmp_path}") as watch:
        assert watch._sidecar
        time.sleep(1)
        assert psutil.Process(watch._sidecar.pid).memory_info().rss < 30 << 20


def _gone(pid: int, within: float) -> bool:
    """Whether it has ended; a zombie has, whoever is to bury it."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False
