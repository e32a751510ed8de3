"""Threads of a generator that may never be read to its end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType


class Threads(ThreadPoolExecutor):
    """A pool for the body of a generator.

    Python closes a generator that nobody reads any more when it collects garbage: in whatever thread, between any two
    instructions. Were its pool joined there, that thread might wait for a lock which it holds itself (seen in
    `threading._maintain_shutdown_locks`: no thread of the process could start from then on). So a pool whose generator
    is closed is not waited for; what has not begun is dropped.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(wait=kind is not GeneratorExit, cancel_futures=kind is not None)
