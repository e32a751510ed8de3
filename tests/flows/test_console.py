"""What a person sees of a run."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from swath.flows.console.report import (
    LiveReporter,
    PlainReporter,
    human_seconds,
    listing,
    print_record,
    record_json,
    show,
)
from swath.flows.pipelines.binding import load
from swath.flows.run.records import Record, Request, State

STAGE = "exif + decode + assess_quality + perceptual_hash"


def record(**values: object) -> Record:
    request = Request(pipeline=load("photos").pipeline, source="file:///photos", warehouse="file:///warehouse")
    now = datetime(2026, 5, 1, tzinfo=UTC)
    return Record(
        run_id="20260501T101500-3fa2c1", request=request, pipeline="photos", table="photos", source="file:///photos",
        started_at=now,
    ).model_copy(update=values)  # fmt: skip


def printed(record: Record, width: int = 80, terminal: bool = True) -> str:
    file = io.StringIO()
    print_record(Console(file=file, width=width, force_terminal=terminal, color_system=None), record)
    return file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.417, "0.42 s"), (7.06, "7.1 s"), (48.4, "48 s"), (185, "3 min 05 s"), (7799, "2 h 09 min")],
)
def test_seconds_as_people_say_them(seconds: float, said: str) -> None:
    assert human_seconds(seconds) == said


def test_the_summary_says_what_came_out() -> None:
    told = printed(
        record(
            status=State.PUBLISHED, items=1234, ok=1230, rejected=4, carried=9, reasons={"truncated": 4},
            why={"new": 1234}, left_aside={"txt": 2, "": 1}, unopened=3, seconds=75.0, throughput=16.4,
            phases={"execute": 60.0}, operators={"decode": 50.0},
        )
    )  # fmt: skip
    for said in (
        *("20260501T101500-3fa2c1  published", "1,234 pending (1,234 new)", "1,230 ok, 4 rejected", "9 carried over"),
        *("4 truncated", "2 .txt, 1 without extension", "3 documents whose pages", "1 min 15 s, 16.4 items/s"),
        *("execute 1 min 00 s", "decode 50 s"),
    ):
        assert said in told, told


def test_names_from_outside_are_no_markup() -> None:
    told = printed(record(source="file:///[red]x[/]", left_aside={"[bold]": 1}, items=1))
    assert "file:///[red]x[/]" in told
    assert "1 .[bold]" in told


def test_lines_of_a_pipe_are_not_broken() -> None:
    table = listing("run", "note")
    table.add_row("20260501T101500-3fa2c1", "word " * 60)
    file = io.StringIO()
    show(Console(file=file, width=40), table)
    assert len(file.getvalue().splitlines()) == 2


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_stage_is_one_line_with_rate_and_rejects_at_any_width(width: int) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    reporter = LiveReporter(console)
    reporter.phase("execute", "wave 1 of 1")
    reporter.expect([STAGE], 100_000)
    reporter.advance(STAGE, 50_000, 1)
    console.print(reporter.progress.get_renderable())
    lines = [line for line in file.getvalue().splitlines() if line.strip()]
    assert len(lines) == 2, lines
    assert "execute" in lines[0]
    assert "50,000/100,000" in lines[1]
    assert "1 reject " in lines[1] + " "


def test_a_log_gets_a_line_a_phase_and_the_end_of_each_stage() -> None:
    file = io.StringIO()
    reporter = PlainReporter(Console(file=file, width=40))
    reporter.phase("execute", "wave 1 of 1")
    reporter.expect([STAGE], 10)
    reporter.advance(STAGE, 4, 1)
    reporter.advance(STAGE, 6, 1)
    lines = file.getvalue().splitlines()
    assert lines[0] == "execute: wave 1 of 1"
    assert len(lines) == 2
    assert lines[1].startswith(f"{STAGE}: 10/10 items, ")
    assert lines[1].endswith("2 rejects")


def test_json_has_seconds_of_each_stage_and_no_request(tmp_path: Path) -> None:
    told = record_json(
        record(stages={STAGE: {"workers": 2, "items": 3, "seconds": 0.0}}, operators={"decode": 1.5, "exif": 0.25})
    )
    assert told["stages"][STAGE]["seconds"] == 1.75
    assert "request" not in told


@pytest.mark.parametrize("width", [60, 80, 100])
def test_figures_are_not_parted_from_their_units(width: int) -> None:
    phases = dict.fromkeys(("manifest", "plan", "execute", "settle", "audit", "publish"), 1.234)
    told = printed(
        record(status=State.PUBLISHED, items=3, phases=phases, operators={"a" * 9: 1.0, "b" * 20: 2.0}), width
    )
    lines = told.splitlines()
    assert all(any(f"{name} 1.2 s" in line for line in lines) for name in phases), told
    assert max(map(len, lines)) <= width
