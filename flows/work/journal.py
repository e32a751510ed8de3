"""What a worker is touching right now, kept where it outlives the worker.

A slot is a piece of shared memory without a name. The worker writes into it before each touch of an item (well under
a microsecond); the sidecar (`swath.flows.work.sidecar`) reads it when the worker dies, or when it has to end it.
The sidecar imports this module, so it needs nothing but the standard library.
"""

from __future__ import annotations

import math
import mmap
import os
import signal
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct("<dI?64s")
"""Monotonic seconds of the touch, number of items (0: idle), whether its step is new to the process, its name."""
ID_BYTES = 32
SLOT_ITEMS = 4096
SLOT_BYTES = HEADER.size + SLOT_ITEMS * ID_BYTES
FIRST_SECONDS = 10.0
"""What a step may take beside its limit when a process first runs it: libraries are imported then."""
BATCH_SECONDS = 600.0
"""However many items are touched at once, they are waited for no longer than this, or than for one item."""
TIMED_OUT, OUT_OF_MEMORY, CRASHED = "timed_out", "out_of_memory", "crashed"
"""Values of `swath.schemas.items.Reason`, which the sidecar does not import: pyarrow comes with it."""
LOADING, RESTING = "load-", "rest-"
"""What the names begin with under which deaths are told while models are loaded, and between two items of a block."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_FAMILY_POLLS = 20


@dataclass(frozen=True)
class Touch:
    """What stands in a slot: since when, at which step, on which items."""

    since: float
    step: str
    item_ids: tuple[str, ...]
    first: bool = False

    def patience(self, seconds: float) -> float:
        """How long it may last where one item may take `seconds`."""
        together = max(seconds, min(seconds * len(self.item_ids), BATCH_SECONDS))
        return together + (FIRST_SECONDS if self.first else 0)


class Slot:
    """The slot of one process; a `Journal` for its chain."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._map = mmap.mmap(handle, SLOT_BYTES)
        self._steps: dict[str, bytes] = {}
        self._resting = _IDLE

    @classmethod
    def new(cls) -> Slot:
        handle = os.memfd_create("swath-slot")
        os.ftruncate(handle, SLOT_BYTES)
        return cls(handle)

    def close(self) -> None:
        self._map.close()
        os.close(self.handle)

    def touch(self, item_ids: Sequence[str], step: str) -> None:
        name = self._steps.get(step)
        first = name is None
        if name is None:
            name = self._steps[step] = step.encode()[:64]
        count = min(len(item_ids), SLOT_ITEMS)
        if count == 1:
            self._map[: HEADER.size + ID_BYTES] = HEADER.pack(time.monotonic(), 1, first, name) + item_ids[0].encode()
            return
        ids = "".join(item_ids[:count]).encode()
        self._map[HEADER.size : HEADER.size + len(ids)] = ids
        self._map[: HEADER.size] = HEADER.pack(time.monotonic(), count, first, name)

    def rest(self) -> None:
        """No item is being touched: whatever kills the process now is no item's fault."""
        self._map[: len(self._resting)] = self._resting

    def load(self) -> None:
        """Models are being loaded, which has no limits; a death now is told under a name that no item has."""
        self._map[: HEADER.size + ID_BYTES] = _unlimited("load", LOADING)

    def begin(self, block: str) -> None:
        """A block is in hand, named after its first item: until its `end`, deaths at rest are told under `resting`."""
        self._resting = _unlimited("rest", resting(block))
        self.rest()

    def end(self) -> None:
        self._resting = _IDLE
        self.rest()

    def read(self) -> Touch:
        """What stands there; torn where the process writes meanwhile, so that only two equal readings count."""
        since, count, first, name = HEADER.unpack(self._map[: HEADER.size])
        ids = self._map[HEADER.size : HEADER.size + min(count, SLOT_ITEMS) * ID_BYTES].decode("ascii", "replace")
        items = tuple(ids[i : i + ID_BYTES] for i in range(0, len(ids), ID_BYTES))
        return Touch(since, name.rstrip(b"\0").decode("utf-8", "replace"), items, first)


_IDLE = HEADER.pack(0.0, 0, False, b"")


def resting(block: str) -> str:
    """What the names begin with under which deaths at rest are told while that block was in hand."""
    return f"{RESTING}{block[:16]}-"


def _unlimited(step: str, prefix: str) -> bytes:
    """A slot that has no limits, and in place of an item a name that no other death has."""
    name = (prefix + uuid.uuid4().hex)[:ID_BYTES]
    return HEADER.pack(math.inf, 1, False, step.encode()) + name.encode()


class Guard:
    """Tells when a process has passed its limits on an item; asked again and again."""

    def __init__(self, slot: Slot, pid: int, seconds: float, memory_bytes: int) -> None:
        self.slot, self.pid, self.seconds, self.memory_bytes = slot, pid, seconds, memory_bytes
        self._asked = 0
        self._family = [pid]

    def reason(self) -> str | None:
        """TIMED_OUT or OUT_OF_MEMORY while an item is being touched for which that is so."""
        touch = self.slot.read()
        if not touch.item_ids or touch.since == math.inf:
            return None
        if self._asked % _FAMILY_POLLS == 0:  # a hundred small files for a process with many threads
            self._family = list(family(self.pid))
        self._asked += 1
        if sum(resident_bytes(member) for member in self._family) > self.memory_bytes:
            return OUT_OF_MEMORY
        late = time.monotonic() - touch.since > touch.patience(self.seconds)
        return TIMED_OUT if late and self.slot.read() == touch else None

    def end(self) -> None:
        """Kills the process and all it has started."""
        for member in list(family(self.pid)):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal.SIGKILL)


def family(pid: int) -> Iterator[int]:
    """The process and its descendants, but for the calling process (a sidecar is a child of its worker)."""
    if pid == os.getpid():
        return
    yield pid
    with suppress(OSError):
        for task in os.scandir(f"/proc/{pid}/task"):
            with suppress(OSError):
                for child in Path(task.path, "children").read_text().split():
                    yield from family(int(child))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process without what it shares (code, Ray's object store), in bytes; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            _, resident, shared = file.read().split()[:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE_BYTES


class Watched:
    """A slot with a sidecar beside this process, for as long as the context lasts.

    The sidecar ends this process when an item takes longer than `seconds` at one step or when its private memory
    passes `memory_bytes`, and leaves what was being touched at its death under `suspects` (a URI).
    """

    def __init__(self, suspects: str, seconds: float = math.inf, memory_bytes: int = 1 << 62) -> None:
        self._arguments = suspects, str(seconds), str(memory_bytes)
        self.slot = Slot.new()
        self._sidecar: subprocess.Popen[bytes] | None = None
        self.ensure()

    def ensure(self) -> None:
        """Starts the sidecar where there is none (it may have been killed)."""
        from swath.flows.work.alone import start_child

        if self._sidecar is not None and self._sidecar.poll() is None:
            return
        # It reads end-of-file on its standard input when this process is gone, however it went.
        self._sidecar = start_child(
            "swath.flows.work.sidecar",
            str(self.slot.handle),
            *self._arguments,
            stdin=subprocess.PIPE,
            stderr=None,
            pass_fds=(self.slot.handle,),
        )

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error: object) -> None:
        self.slot.end()
        assert self._sidecar
        assert self._sidecar.stdin
        self._sidecar.stdin.close()
        self._sidecar.wait()
        self.slot.close()
