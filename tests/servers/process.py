"""A server of a test: a process on loopback that is waited for, and killed with the test."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

PR_SET_PDEATHSIG = 1


class Server(ABC):
    """Context manager: one such process, between `start` and `kill`; it may be started again."""

    _process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None: ...

    def kill(self) -> None:
        """Ends it as a power cut does, with all its connections; what it has kept stays."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def free_port() -> int:
    """A port of the loopback address on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(
    command: Sequence[str], answers: Callable[[], bool], log: Path, timeout_s: float = 60, **options: Any
) -> subprocess.Popen[bytes]:
    """Starts a server that dies with this process, and waits until it answers. Raises RuntimeError with its log."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent, **options
        )
    deadline = time.monotonic() + timeout_s
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise RuntimeError(f"{command[0]} did not come up: {log.read_text()[-2000:]}")
        time.sleep(0.1)
    return process


def listens(port: int) -> bool:
    """Whether somebody takes connections on a port of the loopback address."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _die_with_parent() -> None:
    os.umask(0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
