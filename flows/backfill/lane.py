"""A lane: a process of its own that does one partition's run after the other, and whose death harms no other lane.

`python -m swath.flows.backfill.lane` reads jobs as JSON lines, tells how each gets on, and ends when its input does:
with whoever started it, however that ends. Packages are imported and Ray is joined once for all its runs.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from swath.flows.console.terminal import keep_for_python
from swath.flows.run.records import Record, Request
from swath.infra import logs
from swath.infra.scratch import Scratch

GRACE_S = 20
"""How long a run may take to write down that it was stopped and to give back what it holds."""
SAY_S = 0.5
LOCKED_S = 90
"""How long a run waits for the lock of one whose driver has just been killed."""


class Job(BaseModel):
    """One partition's run."""

    warehouse: str
    run_id: str
    request: Request | None
    """None where the run is there already and is to be resumed."""
    ray: str
    share: int = 1
    audit_socket: Path | None = None


class Outcome(BaseModel):
    """What came of a job."""

    record: Record | None = None
    error: str | None = None
    exit_code: int = 0


Watch = Callable[[int, int], None]
"""Told of items done and rejected."""


class Lane:
    """The process, from where it is used; one job at a time. Another one takes its place where it has died."""

    def __init__(self, number: int) -> None:
        self._scratch = Scratch("lane")
        self._log = self._scratch.path / f"lane-{number}.log"
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def run(self, job: Job, watch: Watch, waiting: Callable[[str], None]) -> Outcome:
        """Does the job; `waiting` is told what it waits for where it does not move. What goes wrong is told in the
        outcome, also where the process dies."""
        if self._closed:
            return Outcome(error="the backfill was stopped", exit_code=1)
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.write(job.model_dump_json() + "\n")
            process.stdin.flush()
        for line in process.stdout:
            told = json.loads(line)
            if "outcome" in told:
                return Outcome.model_validate(told["outcome"])
            if "waiting" in told:
                waiting(told["waiting"])
            else:
                watch(*told["done"])
        code = process.wait()
        self._process = None
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
        words = "the backfill was stopped" if self._closed else f"its process ended with {how}{self._last_words()}"
        return Outcome(error=words, exit_code=1)

    def ask_to_end(self) -> None:
        """Has the run that is at work stopped and written down, without waiting for it."""
        self._closed = True
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def close(self) -> None:
        self.ask_to_end()
        if (process := self._process) is not None:
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._scratch.close()

    def _start(self) -> subprocess.Popen[str]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "swath.flows.backfill.lane"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sys.stderr if logs.is_json() else log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the backfill, which then ends its lanes
            )

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f" ({lines[-1][:200]})" if lines else ""


def join_ray(address: str) -> bool:
    """As `engine.start`, but SIGTERM stays what it was: Ray would end the process with it, and nothing would be
    written down."""
    from swath.flows.work import engine

    before = signal.getsignal(signal.SIGTERM)
    try:
        return engine.start(address)
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class _Teller:
    """A reporter that hands sums on, every so often."""

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._last = ""
        self._items = self._rejects = 0
        self._said = time.monotonic()

    def phase(self, name: str, detail: str = "") -> None:
        self._flush()
        if name == "waiting":
            self._say({"waiting": detail})

    def expect(self, stages: list[str], items: int) -> None:
        self._last = stages[-1]

    def advance(self, stage: str, items: int, rejects: int) -> None:
        self._items += items if stage == self._last else 0
        self._rejects += rejects
        if time.monotonic() - self._said >= SAY_S:
            self._flush()

    def _flush(self) -> None:
        if self._items or self._rejects:
            self._say({"done": [self._items, self._rejects]})
            self._items = self._rejects = 0
            self._said = time.monotonic()


def main() -> None:
    sys.path.append(os.getcwd())  # a user's own operators, as in the command
    out = os.fdopen(os.dup(1), "w", buffering=1)
    if logs.is_json():
        keep_for_python()
    logs.to_standard_error()
    os.dup2(2, 1)  # what libraries print is no line of ours
    speaking = threading.Lock()

    def say(what: dict[str, Any]) -> None:
        with speaking, suppress(OSError, ValueError):
            out.write(json.dumps(what) + "\n")

    jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    busy: list[Job] = []
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_listen, args=(jobs, busy), daemon=True).start()
    with suppress(Stopped):
        while (job := jobs.get()) is not None:
            busy.append(job)
            outcome = _do(job, _Teller(say))
            busy.clear()
            say({"outcome": outcome.model_dump(mode="json")})
    os._exit(0)  # what libraries would do at the end has been done, or is nobody's any more


def _listen(jobs: queue.SimpleQueue[Job | None], busy: list[Job]) -> None:
    """Hands the jobs on. When they end, so does the run at work, as by a signal; and by force if it does not."""
    for line in sys.stdin:
        jobs.put(Job.model_validate_json(line))
    jobs.put(None)
    os.kill(os.getpid(), signal.SIGTERM)
    for job in list(busy):
        from swath.flows.run.process import note_stopped

        note_stopped(job.warehouse, job.run_id)
    time.sleep(GRACE_S)
    os._exit(1)


class Stopped(BaseException):
    """Not an Exception: nothing on its way may take it for a fault and go on."""


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would cut off the writing down
    raise Stopped


def _do(job: Job, reporter: _Teller) -> Outcome:
    from swath.flows.run import process
    from swath.schemas.errors import RunLocked, SwathError

    deadline = time.monotonic() + LOCKED_S
    request = job.request
    while True:
        try:
            if job.ray not in ("off", "local"):
                _import_operators(job)
                join_ray(job.ray)  # for all runs of this lane: they find it there and leave it
            if request is None:
                record = process.resume(
                    job.warehouse,
                    job.run_id,
                    reporter,
                    prefect=False,
                    ray=job.ray,
                    share=job.share,
                    audit_socket=job.audit_socket,
                )
            else:
                begun, request = request, None
                record = process.start(begun, reporter, prefect=False, audit_socket=job.audit_socket, run_id=job.run_id)
            return Outcome(record=record)
        except RunLocked as error:
            if time.monotonic() > deadline:
                return Outcome(error=str(error), exit_code=error.exit_code)
            time.sleep(1)
        except SwathError as error:
            return Outcome(error=str(error), exit_code=error.exit_code)
        except Exception as error:
            return Outcome(error=f"{type(error).__name__}: {error}"[:1000], exit_code=1)


def _import_operators(job: Job) -> None:
    """What of the user's own code the workers need is known by what is imported when Ray is joined."""
    from swath.flows.run.records import Runs
    from swath.operators.core.resolve import resolve

    request = job.request or Runs(job.warehouse).load(job.run_id).request
    for step in request.pipeline.steps:
        resolve(step.op)


if __name__ == "__main__":
    main()
