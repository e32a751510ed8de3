"""How many pages containers (PDF, TIFF) have, and windows rasters, counted where a hostile file can hurt nobody.

`python -m swath.flows.source.pages PARENT` is one counting process: it takes a line of JSON, a URI or a request for
windows, and answers with a line when the file is fetched and a line when it is counted, so that only the counting is
timed. A raster is never fetched: its header is read by ranges while it is counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from swath.flows.source.windows import Cut, cut_json, cut_of, request_of
from swath.flows.work.alone import end_child, resident_bytes, run_alone, start_child, tie_to_parent
from swath.infra import storage
from swath.schemas.errors import StorageUnavailable
from swath.schemas.pipeline import Windows

SECONDS = 30.0
"""What counting the pages of one file may take."""
FETCH_SECONDS = 900.0
"""What fetching one file may take; storage ends its own attempts long before."""
POLL_SECONDS = 0.05


class PageCounter:
    """A small pool of processes that open containers; they start with the first file and end with `close`."""

    def __init__(self, processes: int, memory_bytes: int, seconds: float = SECONDS) -> None:
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="pages")
        self._local = threading.local()
        self._processes: list[_Process] = []
        self._closing = False
        self._one_alone = threading.Lock()
        self._memory_bytes = memory_bytes
        self._seconds = seconds

    def count(self, uri: str) -> Future[int | None]:
        """The number of pages; None where the file cannot be opened, whatever it does to its process.

        The future raises StorageUnavailable where the store does not answer.
        """
        return self._threads.submit(self._count, uri)

    def cut(self, assets: Sequence[tuple[str, str]], windows: Windows) -> Future[Cut | None]:
        """How an object of such files (role, URI) is cut; None where it cannot be, whatever it does to its process."""
        return self._threads.submit(self._cut, assets, windows)

    def close(self) -> None:
        """Ends the processes; what they had not finished is dropped."""
        self._closing = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
        self._threads.shutdown()
        for process in self._processes:
            process.end()

    def __enter__(self) -> PageCounter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self.close()

    def _count(self, uri: str) -> int | None:
        try:
            pages: int | None = self._answer(uri)
        except _Ended:
            return None if self._closing else self._count_alone(uri)
        return pages

    def _cut(self, assets: Sequence[tuple[str, str]], windows: Windows) -> Cut | None:
        request = request_of(assets, windows)
        for _ in range(2):  # it need not have been this object's fault
            with contextlib.suppress(_Ended):
                return cut_of(self._answer(request))
            if self._closing:
                break
            with contextlib.suppress(OSError):
                storage.read(assets[0][1], 1)  # raises StorageUnavailable where that is what was waited for
        return None

    def _answer(self, request: str) -> Any:
        """What this thread's process says. Raises _Ended and StorageUnavailable."""
        process: _Process | None = getattr(self._local, "process", None)
        if process is None:
            process = self._local.process = _Process(self._memory_bytes)
            self._processes.append(process)
        answer = process.ask(request, self._seconds)
        if "unavailable" in answer:
            raise StorageUnavailable(answer["unavailable"])
        return answer["counted"]

    def _count_alone(self, uri: str) -> int | None:
        """For a file that was being opened when its process ended, which need not have been its fault."""
        with self._one_alone:  # so that this process never holds more than one file
            try:
                content = storage.read(uri)
                outcome = run_alone(
                    f"{__name__}:count_json", content, seconds=self._seconds, memory_bytes=self._memory_bytes
                )
            except (OSError, RuntimeError):
                return None
        return json.loads(outcome.result) if outcome.result else None


class _Ended(Exception):
    """The counting process died or had to be ended."""


class _Process:
    """One counting process, started when it is first asked and again after it has died."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._child: subprocess.Popen[bytes] | None = None
        self._received = b""

    def ask(self, request: str, seconds: float) -> dict[str, Any]:
        """The answer about one object. Raises _Ended."""
        if self._child is None:
            self._child = start_child(__name__, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._received = b""
        try:
            assert self._child.stdin
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
            answer = self._line(FETCH_SECONDS)
            return self._line(seconds) if "fetched" in answer else answer
        except (_Ended, OSError) as error:
            self.end()
            raise _Ended from error

    def kill(self) -> None:
        """From another thread: whoever waits for an answer sees the process end."""
        if child := self._child:
            child.kill()

    def end(self) -> None:
        child, self._child = self._child, None
        if child:
            end_child(child)
            with contextlib.suppress(OSError), child:  # closes its pipes
                pass

    def _line(self, seconds: float) -> dict[str, Any]:
        assert self._child
        assert self._child.stdout
        deadline = time.monotonic() + seconds
        while b"\n" not in self._received:
            if select.select([self._child.stdout], [], [], POLL_SECONDS)[0]:
                received = os.read(self._child.stdout.fileno(), 65536)
                if not received:
                    raise _Ended
                self._received += received
            elif time.monotonic() > deadline or resident_bytes(self._child.pid) > self._memory_bytes:
                raise _Ended
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def count_json(content: bytes) -> bytes:
    """The number of pages as JSON; null for a file that cannot be opened."""
    from swath.operators.core.base import Reject
    from swath.operators.image.formats import count_pages

    try:
        return json.dumps(count_pages(content)).encode()
    except Reject:
        return b"null"


def _serve(parent: str) -> None:
    tie_to_parent(int(parent))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    for line in sys.stdin.buffer:
        answers.write(_answered(json.loads(line), lambda: answers.write(b'{"fetched": true}\n')) + b"\n")


def _answered(request: str, fetched: Callable[[], object]) -> bytes:
    """The answer to a URI, or to a request for windows, as JSON."""
    try:
        if request.startswith("{"):
            fetched()
            return b'{"counted": ' + cut_json(request) + b"}"
        content = storage.read(request)
        fetched()
        return b'{"counted": ' + count_json(content) + b"}"
    except StorageUnavailable as error:
        return json.dumps({"unavailable": str(error)}).encode()
    except Exception:  # gone since, not ours to read, or a file that breaks its reader: decoding will say so
        return b'{"counted": null}'


if __name__ == "__main__":
    _serve(*sys.argv[1:])
