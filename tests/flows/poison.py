"""Functions from bytes to bytes, most of which do not survive; run by name in a process of their own."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path


def reverse(payload: bytes) -> bytes:
    return payload[::-1]


def segfault(payload: bytes) -> bytes:
    return ctypes.string_at(0)


def sleep(payload: bytes) -> bytes:
    time.sleep(3600)
    return payload


def spin_in_c(payload: bytes) -> bytes:
    """A C function that never gives the GIL back."""
    ctypes.PyDLL(None).sleep(3600)
    return payload


def hog(payload: bytes) -> bytes:
    import numpy as np

    kept = []
    while True:
        kept.append(np.ones(32 << 20, np.uint8))


def hog_in_a_child(payload: bytes) -> bytes:
    """The payload is the path of a file for the child's process id, or empty."""
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", "kept = b'x' * (1 << 30); input()"], stdin=subprocess.PIPE)
    if payload:
        Path(payload.decode()).write_text(str(child.pid))
    child.wait()
    return payload


def ask_for_too_much(payload: bytes) -> bytes:
    return bytes(1 << 62)


def fail(payload: bytes) -> bytes:
    raise ValueError(f"cannot use {payload!r}")


def leave(payload: bytes) -> bytes:
    os._exit(3)


def crash_on_the_way_out(payload: bytes) -> bytes:
    import atexit

    atexit.register(lambda: ctypes.string_at(0))
    return payload


def killed_the_first_time(payload: bytes) -> bytes:
    """As if somebody had killed the process from outside, once."""
    mark = Path(payload.decode())
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return b"done"


def report_pid_and_sleep(payload: bytes) -> bytes:
    Path(payload.decode()).write_text(str(os.getpid()))
    time.sleep(3600)
    return payload
