"""What a person sees of a run: one live line a stage, plain lines where the output is no terminal, a summary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column, Table
from rich.text import Text

from swath.flows.run.reporter import Quiet, Reporter
from swath.flows.run.timing import StageTime

if TYPE_CHECKING:
    from swath.flows.run.records import Record

PLAIN_SECONDS = 5.0
"""How often a plain line is printed about a stage."""
NARROW = 110
"""Columns below which the bars are left out."""
WIDE = 10_000
"""Columns of output that is no terminal: a script's lines are never broken."""
BUSIEST = 6
LABELS = 12
"""Columns of the names at the left of a summary, with their gap."""


def show(console: Console, what: RenderableType) -> None:
    """Prints it, unbroken where the output is no terminal."""
    if console.is_terminal:
        console.print(what)
        return
    wide = Console(file=console.file, width=WIDE, highlight=False)
    with wide.capture() as captured:
        wide.print(what)
    console.file.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def listing(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table whose first column, an id or a name, is never broken."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for index, name in enumerate(columns):
        fixed = index == 0 or name in right
        table.add_column(name, justify="right" if name in right else "left", no_wrap=fixed, overflow="fold")
    return table


def human_seconds(seconds: float) -> str:
    """`0.42 s`, `7.1 s`, `48 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left:02} s"
    return f"{minutes // 60:,} h {minutes % 60:02} min"


class _Bar(BarColumn):
    def render(self, task: Task) -> Any:
        return super().render(task) if task.total is not None else Text("")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{rate:,.1f} items/s" if rate else "", style="cyan")


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(human_seconds(task.finished_time or 0), style="dim")
        if not task.completed and task.fields["count"]:
            return Text("starting", style="dim")
        left = task.time_remaining
        return Text(f"{human_seconds(left)} left" if left is not None and task.total else "", style="cyan")


class LiveReporter:
    """A spinner for the phase, a line for each stage."""

    def __init__(self, console: Console) -> None:
        bar = [_Bar(bar_width=20)] if console.width >= NARROW else []
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            *bar,
            TextColumn("{task.fields[count]}", justify="right"),
            _Rate(),
            TextColumn("{task.fields[rejects]}", style="yellow"),
            _Left(),
            console=console,
            transient=True,
            expand=True,
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
        self.progress.update(self.current, description=f"[bold]{escape(name)}[/] {escape(detail)}".rstrip())

    def expect(self, stages: list[str], items: int) -> None:
        for stage in stages:
            if stage not in self.tasks:
                self.tasks[stage] = self.progress.add_task(escape(stage), total=items, count=f"0/{items:,}", rejects="")

    def advance(self, stage: str, items: int, rejects: int) -> None:
        self.rejected[stage] = self.rejected.get(stage, 0) + rejects
        said = _count(self.rejected[stage], "reject") if self.rejected[stage] else ""
        task = next(task for task in self.progress.tasks if task.id == self.tasks[stage])
        done = int(task.completed) + items
        self.progress.update(task.id, advance=items, count=f"{done:,}/{int(task.total or 0):,}", rejects=said)


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
        self._say(f"{name}: {detail}" if detail else name)

    def expect(self, stages: list[str], items: int) -> None:
        self.total = items
        if not self.counts:
            self.started = time.monotonic()

    def advance(self, stage: str, items: int, rejects: int) -> None:
        done, rejected = self.counts.get(stage, (0, 0))
        done, rejected = done + items, rejected + rejects
        self.counts[stage] = (done, rejected)
        now = time.monotonic()
        if now - self.said.setdefault(stage, self.started) < PLAIN_SECONDS and done < self.total:
            return
        self.said[stage] = now
        rate = done / max(now - self.started, 1e-9)
        left = f", {human_seconds((self.total - done) / rate)} left" if rate and done < self.total else ""
        self._say(f"{stage}: {done:,}/{self.total:,} items, {rate:,.1f} items/s, {_count(rejected, 'reject')}{left}")

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def reporter(console: Console) -> AbstractContextManager[Reporter]:
    """What tells a person; nobody where standard error is a log for machines."""
    from swath.infra.logs import is_json

    if is_json():
        return nullcontext(Quiet())
    return LiveReporter(console) if console.is_terminal else PlainReporter(console)


def print_record(console: Console, record: Record) -> None:
    """What came out of a run."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("run", f"[bold]{record.run_id}[/]  {_styled(record)}")
    grid.add_row("source", escape(record.source))
    if record.left_aside:
        grid.add_row("left aside", f"{left_out(record.left_aside)} (not what the pipeline reads)")
    if record.unopened:
        grid.add_row(
            "unopened", f"{_count(record.unopened, 'document')} whose pages could not be counted: one item each"
        )
    pending = ", ".join(f"{count:,} {why}" for why, count in record.why.items())
    grid.add_row(
        "items", f"{record.items:,} pending{f' ({pending})' if pending else ''}, {record.unchanged:,} unchanged"
    )
    if record.items or record.gone:
        rejected = f"[yellow]{record.rejected:,} rejected[/]" if record.rejected else "0 rejected"
        carried = f", {record.carried:,} carried over" if record.carried else ""
        grid.add_row("outcome", f"[green]{record.ok:,} ok[/], {rejected}, {record.gone:,} gone{carried}")
    for index, (reason, count) in enumerate(record.reasons.items()):
        grid.add_row("" if index else "rejected", f"{count:,} {reason}")
    rate = f", {record.throughput:,.1f} items/s" if record.items and record.throughput >= 0.05 else ""
    if record.first_pass_rate is not None:
        rest = "" if record.first_pass_rate == 1 else "; for the others [cyan]swath review list[/]"
        grid.add_row("review", f"{record.first_pass_rate:.0%} of the documents need nobody{rest}")
    grid.add_row("took", human_seconds(record.seconds) + rate)
    if record.items and record.phases:
        _add(grid, console, "", [f"{name} {human_seconds(spent)}" for name, spent in record.phases.items()])
    times = record.stage_times
    if record.items and record.operators and not times:
        busiest = sorted(record.operators.items(), key=lambda one: -one[1])[:BUSIEST]
        spent = [f"{name} {human_seconds(seconds)}" for name, seconds in busiest]
        _add(grid, console, "operators", [*spent, "[dim]all workers together[/]"])
    show(console, grid)
    if times:
        console.print()
        show(console, _timing(times, record))
    if len(record.nodes) > 1:
        console.print()
        show(console, _spread(record))
    if record.advice:
        console.print(f"[dim]limit[/]  {escape(record.advice)}", soft_wrap=True)


def _timing(times: Sequence[StageTime], record: Record) -> Table:
    """What the stages' workers did with their time, and how fast each step goes in one of them."""
    table = listing("stage", "items/s", "work", "store", "no input", "no room after", right=("items/s",))
    for one in times:
        workers = f" [dim]x{one.workers}[/]" if one.workers > 1 else ""
        shares = (one.work, one.store, one.waiting_for_input, one.waiting_for_downstream)
        table.add_row(escape(one.stage) + workers, _per_second(one.rate), *(f"{share:.0%}" for share in shares))
        for step in one.stage.split(" + "):
            if (seconds := record.operators.get(step)) and one.stage != step:
                share = seconds / (one.work * one.seconds)
                table.add_row(f"  {escape(step)}", _per_second(one.items / seconds), f"{share:.0%}", style="dim")
    return table


def _spread(record: Record) -> Table:
    """Which node of a cluster did what; seconds are those of all its workers."""
    table = listing("node", "stage", "blocks", "items", "seconds", right=("blocks", "items", "seconds"))
    for node, stages in sorted(record.nodes.items()):
        for index, (stage, did) in enumerate(stages.items()):
            counts = (f"{did['blocks']:,.0f}", f"{did['items']:,.0f}", f"{did['seconds']:,.1f}")
            table.add_row("" if index else node, escape(stage), *counts)
    return table


def _per_second(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:,.2g}" if rate < 1 else f"{rate:,.1f}"


def left_out(kinds: dict[str, int]) -> str:
    """How many files of which extension were not taken, as markup."""
    return ", ".join(f"{n:,} {escape('.' + kind) if kind else 'without extension'}" for kind, n in kinds.items())


def record_json(record: Record) -> dict[str, Any]:
    """The object that `--json` prints."""
    told = record.model_dump(mode="json", exclude={"request"})
    for name, stage in told["stages"].items():
        stage["seconds"] = round(sum(record.operators.get(step, 0.0) for step in name.split(" + ")), 4)
    return told


def _add(grid: Table, console: Console, name: str, parts: list[str]) -> None:
    """A row with the parts, broken only between them."""
    room = (console.width if console.is_terminal else WIDE) - LABELS
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]} · {part}"
        lines = [*lines[:-1], longer] if cell_len(Text.from_markup(longer).plain) <= room else [*lines, part]
    for index, line in enumerate(lines):
        grid.add_row("" if index else name, line)


def _styled(record: Record) -> str:
    colour = {
        "published": "green",
        "nothing": "green",
        "running": "cyan",
        "discarded": "dim",
        "rolled_back": "dim",
    }.get(record.status, "red")
    words = {"nothing": "nothing to do: every item is up to date", "audit_failed": "held back by its audit"}
    words |= {
        "rolled_back": "rolled back",
        "rolling_back": "a rollback of it was cut off; `swath rollback` finishes it",
    }
    left = f", {record.error}" if record.status == "discarded" and record.error else ""
    return f"[{colour}]{words.get(record.status, record.status)}{left}[/]"


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
