"""Temporary folders that the next process removes where their own was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path

PREFIX = "swath-scratch-"


class Scratch:
    """A new temporary folder of this process (mode 0700), with `kind` in its name.

    The process holds a lock on it for as long as it lives, however it ends: a folder of ours without one has been left
    behind. Leaving the context, `close`, and a normal end of the process remove it.
    """

    def __init__(self, kind: str) -> None:
        _sweep(tempfile.gettempdir())
        lock = None
        while lock is None:  # another process may take it for abandoned until it is locked
            self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
            try:
                lock = _claim(self.path)
            except OSError:  # nothing can be locked here, so that nobody removes anything either
                break
        self._remove = weakref.finalize(self, _remove, self.path, lock)

    def close(self) -> None:
        self._remove()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        self.close()


@cache
def _sweep(root: str) -> None:
    """Removes the folders below `root` that processes of this user were killed over."""
    with suppress(OSError), os.scandir(root) as found:
        ours = [one.path for one in found if one.name.startswith(PREFIX)]
        for path in ours:
            with suppress(OSError):
                if os.lstat(path).st_uid == os.getuid() and (lock := _claim(Path(path))) is not None:
                    _remove(Path(path), lock)


def _remove(folder: Path, lock: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _claim(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where another process does, or where it is gone."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if folder.exists():
            return lock
    except BlockingIOError:
        pass
    except OSError:
        os.close(lock)
        raise
    os.close(lock)
    return None
