"""Child processes of a test, found by what their command line says."""

from __future__ import annotations

from contextlib import suppress

import psutil


def children(word: str) -> list[psutil.Process]:
    """The living children of this process with the word in their command line; one that has just died has none."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if word in " ".join(child.cmdline()):
                found.append(child)
    return found
