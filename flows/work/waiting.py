"""Where a wave does not move: what it waits for is told, and where nobody is at work on it, it is given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

TELL_SECONDS = 60.0
"""How long nothing may move until what is waited for is told, and told again."""
GIVE_UP_SECONDS = 1800.0
"""How long nobody may be at work until a wave is given up."""
LOOK_SECONDS = 2.0


class Standing(NamedTuple):
    """Where a wave stands."""

    at_work: bool
    """Whether it has workers, which have limits of their own."""
    waits_for: str


class Patience:
    """Context manager: a thread that looks at a wave while nothing moves; `moved` is called where something does.

    `tell` hears what is waited for, and how long already; where nobody is at work for GIVE_UP_SECONDS, `gave_up` says
    so and `end` is called again and again.
    """

    def __init__(self, look: Callable[[], Standing], tell: Callable[[str], None], end: Callable[[], None]) -> None:
        self.gave_up = ""
        self._look, self._tell, self._end = look, tell, end
        self._moved = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="patience", daemon=True)

    def moved(self) -> None:
        self._moved = time.monotonic()

    def __enter__(self) -> Patience:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        told = worked = time.monotonic()
        while not self._over.wait(LOOK_SECONDS):
            now = time.monotonic()
            if now - max(self._moved, told) < min(TELL_SECONDS, GIVE_UP_SECONDS) and not self.gave_up:
                continue
            try:
                stands = self._look()
            except Exception:  # the cluster does not answer; whoever drives the wave will hear of that
                continue
            told, worked = now, now if stands.at_work else max(worked, self._moved)
            still = now - self._moved
            self._tell(f"nothing has moved for {still:.0f} s: {stands.waits_for}")
            if now - worked >= GIVE_UP_SECONDS:
                self.gave_up = f"nobody was at work for {now - worked:.0f} s: {stands.waits_for}"
                self._end()
