"""What a worker is touching right now, kept where it outlives the worker.

A slot is a small memory-mapped file. The worker writes into it before each touch of an item (well under a
microsecond); the sidecar (`swath.flows.sidecar`) reads it when the worker dies, or when it has to end it.
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct("<dI64s")
"""Monotonic seconds of the touch, number of items (0: idle), name of the step."""
ID_BYTES = 32
SLOT_ITEMS = 4096
SLOT_BYTES = HEADER.size + SLOT_ITEMS * ID_BYTES


@dataclass(frozen=True)
class Touch:
    """What stands in a slot: since when, at which step, on which items."""

    since: float
    step: str
    item_ids: tuple[str, ...]


class Slot:
    """The slot of one worker; a `Journal` for its chain."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            file.truncate(SLOT_BYTES)
            self._map = mmap.mmap(file.fileno(), SLOT_BYTES)

    def touch(self, item_ids: Sequence[str], step: str) -> None:
        count = min(len(item_ids), SLOT_ITEMS)
        name = step.encode()[:64]
        if count == 1:
            self._map[: HEADER.size + ID_BYTES] = HEADER.pack(time.monotonic(), 1, name) + item_ids[0].encode()
            return
        ids = "".join(item_ids[:count]).encode()
        self._map[HEADER.size : HEADER.size + len(ids)] = ids
        self._map[: HEADER.size] = HEADER.pack(time.monotonic(), count, name)

    def rest(self) -> None:
        """No item is being touched: whatever kills the worker now is no item's fault."""
        self._map[: HEADER.size] = HEADER.pack(time.monotonic(), 0, b"")

    def read(self) -> Touch:
        since, count, name = HEADER.unpack(self._map[: HEADER.size])
        ids = self._map[HEADER.size : HEADER.size + count * ID_BYTES].decode("ascii", "replace")
        return Touch(
            since, name.rstrip(b"\0").decode(), tuple(ids[i : i + ID_BYTES] for i in range(0, len(ids), ID_BYTES))
        )


class Watched:
    """A slot with a sidecar beside this process, for as long as the context lasts.

    The sidecar ends this process when an item takes longer than `seconds` at one step or when resident memory
    passes `memory_bytes`, and leaves what was being touched at its death under `suspects` (a URI).
    """

    def __init__(self, suspects: str, seconds: float, memory_bytes: int) -> None:
        folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        handle, name = tempfile.mkstemp(prefix="swath-slot-", dir=folder)
        os.close(handle)
        self.slot = Slot(Path(name))
        self.slot.rest()
        # Ray kills a worker's process group: the sidecar needs a session of its own. It reads end-of-file on
        # its standard input when this process is gone, however it went.
        self._sidecar = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "swath.flows.sidecar",
                name,
                str(os.getpid()),
                suspects,
                str(seconds),
                str(memory_bytes),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def __enter__(self) -> Slot:
        return self.slot

    def __exit__(self, *error: object) -> None:
        self.slot.rest()
        assert self._sidecar.stdin
        self._sidecar.stdin.close()
        self._sidecar.wait()
