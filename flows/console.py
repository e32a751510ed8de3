"""What a person sees of a run: one live line a stage, plain lines where the output is no terminal, a summary."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from swath.flows.records import Record

PLAIN_SECONDS = 5.0
"""How often a plain line is printed about a stage."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{rate:,.1f} items/s" if rate else "", style="cyan")


class LiveReporter:
    """A spinner for the phase, a bar for each stage."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            _Rate(),
            TextColumn("{task.fields[rejects]}", style="yellow"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
        )
        self.tasks: dict[str, Any] = {}
        self.rejected: dict[str, int] = {}
        self.current = self.progress.add_task("starting", total=None, count="", rejects="")

    def __enter__(self) -> LiveReporter:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def phase(self, name: str, detail: str = "") -> None:
        text = f"[bold]{name}[/] {detail}".rstrip()
        self.progress.update(self.current, description=text)

    def expect(self, stages: list[str], items: int) -> None:
        for stage in stages:
            if stage not in self.tasks:
                label = stage if len(stage) <= 44 else stage[:41] + "..."
                self.tasks[stage] = self.progress.add_task(label, total=items, count=f"0/{items:,}", rejects="")

    def advance(self, stage: str, items: int, rejects: int) -> None:
        self.rejected[stage] = self.rejected.get(stage, 0) + rejects
        said = f"{self.rejected[stage]:,} rejects" if self.rejected[stage] else ""
        task = self.progress.tasks[self.tasks[stage]]
        done = int(task.completed) + items
        self.progress.update(self.tasks[stage], advance=items, count=f"{done:,}/{int(task.total or 0):,}", rejects=said)


class PlainReporter:
    """A line when a phase starts, and one every few seconds about each stage; for logs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = 0
        self.started = time.monotonic()
        self.counts: dict[str, tuple[int, int]] = {}
        self.said: dict[str, float] = {}

    def __enter__(self) -> PlainReporter:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def phase(self, name: str, detail: str = "") -> None:
        self.console.print(f"{name} {detail}".rstrip(), highlight=False, markup=False)

    def expect(self, stages: list[str], items: int) -> None:
        self.total = items
        if not self.counts:
            self.started = time.monotonic()

    def advance(self, stage: str, items: int, rejects: int) -> None:
        done, rejected = self.counts.get(stage, (0, 0))
        done, rejected = done + items, rejected + rejects
        self.counts[stage] = (done, rejected)
        now = time.monotonic()
        if now - self.said.get(stage, 0) < PLAIN_SECONDS and done < self.total:
            return
        self.said[stage] = now
        rate = done / max(now - self.started, 1e-9)
        left = f", {(self.total - done) / rate:,.0f} s left" if rate and done < self.total else ""
        self.console.print(
            f"{stage}: {done:,}/{self.total:,} items, {rate:,.1f} items/s, {rejected:,} rejects{left}",
            highlight=False,
            markup=False,
        )


def reporter(console: Console) -> LiveReporter | PlainReporter:
    return LiveReporter(console) if console.is_terminal else PlainReporter(console)


def print_record(console: Console, record: Record) -> None:
    """What came out of a run."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("run", f"[bold]{record.run_id}[/]  {_styled(record)}")
    pending = ", ".join(f"{count:,} {why}" for why, count in record.why.items())
    grid.add_row("source", f"{record.source}")
    if record.left_aside:
        aside = ", ".join(
            f"{count:,} {'.' + e if e else 'without extension'}" for e, count in record.left_aside.items()
        )
        grid.add_row("left aside", f"{aside} (not what the pipeline reads)")
    grid.add_row("items", f"{record.items:,} pending ({pending or 'none'}), {record.unchanged:,} unchanged")
    if record.items:
        rejected = _count(record.rejected, "rejected", "yellow")
        grid.add_row("outcome", f"[green]{record.ok:,} ok[/], {rejected}, {record.gone:,} gone")
    for reason, count in record.reasons.items():
        grid.add_row("", f"{count:,} {reason}")
    if record.items and record.operators:
        grid.add_row("seconds", f"{record.seconds:,.1f} ({record.throughput:,.1f} items/s), of which")
        spent = ", ".join(f"{name} {seconds:,.1f}" for name, seconds in record.phases.items())
        grid.add_row("", spent)
        busiest = ", ".join(f"{name} {seconds:,.1f}" for name, seconds in list(record.operators.items())[:6])
        grid.add_row("by operator", f"{busiest} (over all workers)")
    console.print(grid)


def record_json(record: Record) -> dict[str, Any]:
    """The object that `--json` prints."""
    return record.model_dump(mode="json", exclude={"request"})


def _styled(record: Record) -> str:
    colour = {"published": "green", "nothing": "green", "running": "cyan", "discarded": "dim"}.get(record.status, "red")
    words = {"nothing": "nothing to do: every item is up to date", "audit_failed": "held back by its audit"}
    return f"[{colour}]{words.get(record.status, record.status)}[/]"


def _count(count: int, word: str, colour: str) -> str:
    return f"[{colour}]{count:,} {word}[/]" if count else f"0 {word}"
