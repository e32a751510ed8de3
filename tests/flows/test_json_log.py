"""A run that logs for machines: nothing but JSON on standard error, and every reject by its name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.flows.small_work import draw


def run(source: Path, warehouse: Path, *words: str, **variables: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Exit code, standard output, and standard error's objects."""
    command = [sys.executable, "-m", "swath.flows.cli", "run", "photos", str(source), "--warehouse", str(warehouse)]
    own = {**os.environ, "SWATH_HOME": str(warehouse.parent / "home"), **variables}
    done = subprocess.run([*command, "--ray", "off", *words], capture_output=True, text=True, env=own, check=False)
    return done.returncode, done.stdout, [json.loads(line) for line in done.stderr.splitlines()]


def test_the_log_of_a_run_that_its_audit_holds_back(tmp_path: Path) -> None:
    draw(tmp_path / "in", 12)
    broken = [tmp_path / "in" / f"{number:04}.jpg" for number in range(6)]
    for path in broken:
        path.write_bytes(path.read_bytes()[:300])
    code, out, log = run(tmp_path / "in", tmp_path / "house", "--json", "--log-format", "json")
    record = json.loads(out)
    assert (code, record["status"]) == (3, "audit_failed")
    rejects = [one for one in log if one["event"] == "rejected"]
    assert sorted(one["item"] for one in rejects) == sorted(f"file://{path}" for path in broken)
    assert {(one["run"], one["wave"], one["step"], one["reason"], one["level"]) for one in rejects} == {
        (record["run_id"], 1, "decode", "truncated", "WARNING")
    }
    events = [one["event"] for one in log if one["event"] != "rejected"]
    assert [one for one in events if one != "check failed"] == [
        *("manifest", "plan", "execute", "worker ready", "settle", "staged", "audit", "audited", "run audit_failed"),
        log[-1]["event"],
    ]
    assert next(one for one in log if one["event"] == "staged")["reasons"] == {"truncated": 6}
    held = next(one for one in log if one["event"] == "check failed" and one["severity"] == "error")
    assert (held["check"], held["partition"]) == ("rejects_within_budget", "all")
    assert log[-1]["level"] == "ERROR"
    assert log[-1]["event"].startswith("error: the audit of wave 1 failed")


def test_a_mistake_is_json_too_and_the_environment_may_ask_for_it(tmp_path: Path) -> None:
    code, out, log = run(tmp_path / "nowhere", tmp_path / "house", SWATH_LOG="json")
    assert (code, out) == (1, "")
    assert [one["level"] for one in log] == ["ERROR"]
    assert "there is no such folder" in log[0]["event"]
