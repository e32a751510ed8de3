"""The `swath` command with waves small enough for a test; it dies at the nth visit of a crash point it is told."""

from __future__ import annotations

import os
import signal

from swath.infra import crash

left = {os.environ.get("FAULT_POINT", ""): int(os.environ.get("FAULT_VISIT", "1"))}


def crash_point(name: str) -> None:
    if name in left:
        left[name] -= 1
        if not left[name]:
            os.kill(os.getpid(), signal.SIGKILL)


crash.crash_point = crash_point  # before anybody takes it over by name
if __name__ == "__main__":
    from swath.flows.cli import main
    from swath.flows.run import plan

    plan.WAVE_ITEMS = int(os.environ["FAULT_WAVE_ITEMS"])
    main()
