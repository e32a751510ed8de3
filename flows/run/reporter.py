"""Who is told how a run gets on."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    def phase(self, name: str, detail: str = "") -> None: ...

    def expect(self, stages: list[str], items: int) -> None: ...

    def advance(self, stage: str, items: int, rejects: int) -> None: ...


class Quiet:
    """Says nothing."""

    def phase(self, name: str, detail: str = "") -> None:
        pass

    def expect(self, stages: list[str], items: int) -> None:
        pass

    def advance(self, stage: str, items: int, rejects: int) -> None:
        pass
