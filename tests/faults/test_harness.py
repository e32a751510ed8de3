"""Runs are injured again and again; whoever resumes them loses nothing and doubles nothing (see harness.py)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.faults.harness import Case, drawn, go, points, show, table
from tests.faults.injuries import at_points, weather

SEED = int(os.environ.get("FAULT_SEED", "6"))


def check(cases: list[Case]) -> None:
    print("\n" + show(table(cases)))
    assert not [case for case in cases if not case.verdict.good]


@pytest.mark.timeout(900)
def test_a_few_injuries_without_ray() -> None:
    faults = [
        ("kill at crash points", at_points(["planned", "executed", "publish.after_commit"], "wave", 2)),
        ("S3 cuts connections", weather("cutting", 6)),
    ]
    cases = go(faults, SEED, on_ray=False, items=300, wave_items=110)
    check(cases)
    assert [case.kills for case in cases if case.fault == "kill at crash points"] == [3], cases


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_a_round_of_all_injuries_on_two_nodes(tmp_path: Path) -> None:
    """FAULT_JSON keeps the table, and every case, in a file."""
    keep = Path(os.environ.get("FAULT_JSON", tmp_path / "faults.json"))
    cases = go(drawn(SEED), SEED, on_ray=True, keep=keep)
    check(cases)
    killed = [point for case in cases for point in case.killed]
    once = {"run publish.after_marker"} - set(killed)  # a run published at once may be over by then
    assert {f"{publish} {point}" for point in points() for publish in ("run", "wave")} - once == set(killed)
    assert sum(case.kills for case in cases) >= 50
    assert json.loads(keep.read_text())["table"] == table(cases)
