"""The small process beside a worker: `python -m swath.flows.sidecar SLOT PID SUSPECTS SECONDS MEMORY`.

It outlives the worker, sees it die, and leaves the names of the items it was touching, so that the block's
next attempt tries them alone. It also ends a worker that passes its limits, even one stuck in C.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from swath.flows.journal import Slot, Touch
from swath.schemas.items import Reason

POLL_SECONDS = 0.05
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, without what it shares (Ray's object store); 0 when it is gone."""
    try:
        _, resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * PAGE_BYTES


def watch(slot: Slot, pid: int, seconds: float, memory_bytes: int) -> tuple[Touch, Reason]:
    """Waits until the worker is gone, ending it when it passes a limit; what it touched last, and how it went."""
    while not select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
        touch = slot.read()
        if not touch.item_ids:
            continue
        late = time.monotonic() - touch.since > seconds * len(touch.item_ids)
        greedy = resident_bytes(pid) > memory_bytes
        if greedy or (late and slot.read() == touch):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return touch, Reason.OUT_OF_MEMORY if greedy else Reason.TIMED_OUT
    return slot.read(), Reason.CRASHED


def main(name: str, pid: str, suspects: str, seconds: str, memory_bytes: str) -> None:
    path = Path(name)
    touch, reason = watch(Slot(path), int(pid), float(seconds), int(memory_bytes))
    if touch.item_ids:
        from swath.infra import storage

        note = json.dumps({"step": touch.step, "reason": reason}).encode()
        for item_id in touch.item_ids:
            storage.write(storage.join(suspects, item_id), note)
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
