"""One function on one payload in a process of its own, where nothing it does can hurt the caller."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from swath.infra.scratch import Scratch
from swath.schemas.items import Reason

START_SECONDS = 120.0
"""What a child may take to start and import its target; no part of the time the target itself has."""
POLL_SECONDS = 0.02
FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
"""Signals that need not be the fault of the process that they end."""


@dataclass(frozen=True)
class Outcome:
    """Either the bytes that the function returned, or why there are none."""

    result: bytes | None
    reason: Reason | None = None
    """CRASHED, TIMED_OUT or OUT_OF_MEMORY where the function did not survive."""
    message: str = ""


def run_alone(target: str, payload: bytes, *, seconds: float, memory_bytes: int) -> Outcome:
    """What `target`, a 'module:function' from bytes to bytes, returns for the payload in a fresh process.

    The process is ended when the function takes longer than `seconds` (wall time, imports not counted) or
    the resident memory of it and its children passes `memory_bytes`. One that was killed by a signal from
    outside is tried once more, since that may not have been its fault.

    Raises RuntimeError, with the text of it, where the function raises a Python exception other than
    MemoryError, and where the process cannot start.
    """
    outcome, from_outside = _attempt(target, payload, seconds, memory_bytes)
    if from_outside:
        outcome, _ = _attempt(target, payload, seconds, memory_bytes)
    return outcome


def start_child(
    module: str,
    *arguments: str,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """`python -m module PARENT arguments...` in a session of its own, with this process' import path.

    The module hands PARENT to `tie_to_parent` first thing, unless it is to outlive this process.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(os.getpid()), *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        pass_fds=pass_fds,
    )


def end_child(child: subprocess.Popen[bytes]) -> int:
    """Ends a child and all it has started; its exit status as `subprocess` gives it."""
    if child.returncode is None:  # not reaped, so its process group cannot be anybody else's yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants, in bytes; 0 when it is gone."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
    return total


def tie_to_parent(parent: int) -> None:
    """Called in a child: it dies with its parent, leaves no core file, and is the kernel's first choice when
    the machine runs out of memory."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def _attempt(target: str, payload: bytes, seconds: float, memory_bytes: int) -> tuple[Outcome, bool]:
    """The outcome, and whether the process was killed by a signal that may have come from outside."""
    oom_kills = kernel_oom_kills()
    with Scratch("alone") as folder:
        (folder / "payload").write_bytes(payload)
        with open(folder / "log", "wb") as log:
            child = start_child(__name__, target, str(folder), stdout=log, stderr=log)
        try:
            verdict = _watch(child, folder, seconds, memory_bytes)
        finally:
            status = end_child(child)
        if (folder / "result").exists():
            return Outcome((folder / "result").read_bytes()), False
        if verdict:
            return verdict, False
        if (folder / "memory").exists():
            return Outcome(None, Reason.OUT_OF_MEMORY, (folder / "memory").read_text()), False
        if (folder / "error").exists():
            text, trace = json.loads((folder / "error").read_text())
            error = RuntimeError(text)
            error.add_note(trace)
            raise error
        if status >= 0 and not (folder / "started").exists():
            said = (folder / "log").read_text(errors="replace").strip()[-2000:]
            raise RuntimeError(f"the process for {target} could not start: {said or f'exit status {status}'}")
    if status >= 0:
        return Outcome(None, Reason.CRASHED, f"exited with status {status}"), False
    how = f"killed by {signal.Signals(-status).name}"
    if status == -signal.SIGKILL and kernel_oom_kills() > oom_kills:
        return Outcome(None, Reason.OUT_OF_MEMORY, f"{how}: the machine ran out of memory"), True
    return Outcome(None, Reason.CRASHED, how), -status in FROM_OUTSIDE


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _watch(child: subprocess.Popen[bytes], folder: Path, seconds: float, memory_bytes: int) -> Outcome | None:
    """Waits for the child to end; the verdict where it has to be ended."""
    started = False
    deadline = time.monotonic() + START_SECONDS
    while not has_ended(child):
        now = time.monotonic()
        if not started and (folder / "started").exists():
            started, deadline = True, now + seconds
        if now > deadline:
            if not started:
                raise RuntimeError(f"a process of its own did not start within {START_SECONDS:g} s")
            return Outcome(None, Reason.TIMED_OUT, f"took longer than {seconds:g} s")
        if resident_bytes(child.pid) > memory_bytes:
            return Outcome(None, Reason.OUT_OF_MEMORY, f"resident memory passed {memory_bytes / 2**30:.1f} GiB")
        time.sleep(POLL_SECONDS)
    return None


def has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Looks without reaping, so that the process group stays ours until `end_child`."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _main(parent: str, target: str, folder: str) -> None:
    tie_to_parent(int(parent))
    place = Path(folder)

    def leave(name: str, content: bytes) -> None:
        (place / f"{name}.part").write_bytes(content)
        (place / f"{name}.part").rename(place / name)
        os._exit(0)  # no clean-up: a library that dies on its way out would take the result with it

    try:
        module, _, function = target.partition(":")
        run: Callable[[bytes], bytes] = getattr(importlib.import_module(module), function)
        payload = (place / "payload").read_bytes()
        (place / "started").touch()
        leave("result", run(payload))
    except MemoryError as error:
        leave("memory", f"MemoryError: {error}".rstrip(": ").encode())
    except Exception as error:
        text = "".join(traceback.format_exception_only(error)).strip()
        leave("error", json.dumps([text, traceback.format_exc()]).encode())


if __name__ == "__main__":
    _main(*sys.argv[1:])
