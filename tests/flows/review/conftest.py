"""The command in this process: starting one takes longer than most of what it does."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from swath.flows import cli

Swath = Callable[..., tuple[int, str, str]]


@pytest.fixture
def swath(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Swath:
    """Runs `swath` with arguments: exit code, output, errors."""
    monkeypatch.setattr(cli, "keep_for_python", lambda: None)  # it would take standard error away from the test
    monkeypatch.delenv("SWATH_DEBUG", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["swath", *arguments])
        code: object = 0
        try:
            cli.main()
        except SystemExit as left:
            code = left.code
        written = capsys.readouterr()
        return int(str(code or 0)), written.out, written.err

    return run
