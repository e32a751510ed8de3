"""A terminal on which only this program speaks."""

from __future__ import annotations

import os
import sys
import tempfile


def keep_for_python() -> None:
    """Leaves standard error to Python's writers: what the C++ core of Ray writes past them, and it warns of things that
    no user can act upon, goes to a file without a name.

    For a command, first thing: whoever holds the old `sys.stderr` writes to that file too.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
    sys.stderr = open(terminal, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115 (for good)
