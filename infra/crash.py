"""Points at which the fault tests kill a process: in production `SWATH_CRASH_AT` is not set, and nothing happens."""

from __future__ import annotations

import os
import signal


def crash_point(name: str) -> None:
    """Ends this process with SIGKILL where the variable SWATH_CRASH_AT equals `name`, as a power cut would."""
    if os.environ.get("SWATH_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
