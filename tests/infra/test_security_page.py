"""What infra/SECURITY.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "infra" / "SECURITY.md").read_text()


def test_every_file_it_names_is_there() -> None:
    named = {
        name
        for name in re.findall(r"`([\w./-]+)`", PAGE)
        if name.split("/")[0] in ("flows", "infra", "operators", "tests")
    }
    assert len(named) > 30
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


def test_every_command_and_variable_it_names_is_there() -> None:
    from typer.main import get_command

    from swath.flows.cli import app

    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"`swath ([a-z]+)", PAGE)) <= commands
