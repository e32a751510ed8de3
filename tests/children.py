"""Child processes of a test, found by what their command line says."""

from __future__ import annotations

from contextlib import suppress

import psutil


def children(word: str, of: int | None = None) -> list[psutil.Process]:
    """The living processes that this one, or that of an id, has started, and those that they have, with the word in
    their command line; one that has just died has none."""
    found = []
    for child in psutil.Process(of).children(recursive=True):
        with suppress(psutil.Error):
            if word in " ".join(child.cmdline()):
                found.append(child)
    return found
