"""The small process beside a worker: `python -m swath.flows.work.sidecar PID SLOT SUSPECTS SECONDS MEMORY`.

It outlives the worker, sees it die, and leaves the names of the items it was touching, so that the block's
next attempt tries them apart. It also ends a worker that passes its limits, even one stuck in C.
"""

from __future__ import annotations

import json
import os
import select
import sys

from swath.flows.work.journal import CRASHED, Guard, Slot, Touch

POLL_SECONDS = 0.05
DEATH_SECONDS = 30.0
"""What the kernel may take to end a killed process, which has its memory to give back."""


def watch(slot: Slot, pid: int, seconds: float, memory_bytes: int) -> tuple[Touch, str]:
    """Waits until the worker is gone, ending it when it passes a limit; what it touched last, and how it went."""
    try:
        # The pipe alone would not do: a process that the worker forked holds it too.
        signs = [sys.stdin.fileno(), os.pidfd_open(pid)]
    except ProcessLookupError:
        return slot.read(), CRASHED
    guard = Guard(slot, pid, seconds, memory_bytes)
    while not select.select(signs, [], [], POLL_SECONDS)[0]:
        if reason := guard.reason():
            guard.end()
            select.select(signs, [], [], DEATH_SECONDS)
            return slot.read(), reason
    return slot.read(), CRASHED


def main(pid: str, slot: str, suspects: str, seconds: str, memory_bytes: str) -> None:
    touch, reason = watch(Slot(int(slot)), int(pid), float(seconds), int(memory_bytes))
    if touch.item_ids:
        from swath.infra import storage

        note = json.dumps({"step": touch.step, "reason": reason}).encode()
        for item_id in touch.item_ids:
            storage.write(storage.join(suspects, item_id), note)


if __name__ == "__main__":
    main(*sys.argv[1:])
