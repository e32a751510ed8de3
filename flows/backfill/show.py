"""What a person sees of a backfill: a line for it, one for each partition at work, a summary."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from swath.flows.backfill.backfill import Summary
from swath.flows.backfill.estimate import Cost, Estimate
from swath.flows.backfill.lane import Outcome
from swath.flows.backfill.records import Backfill, Place, Stand
from swath.flows.console.report import human_seconds, listing, show
from swath.infra import logs

ROWS = 40
"""Partitions that are shown, without --json."""
COLOURS = {Stand.DONE: "green", Stand.FAILED: "red", Stand.HELD_BACK: "yellow", Stand.UNFINISHED: "cyan"}


class Live:
    """A bar over the items of all partitions, and a line for each that is at work. Safe in threads."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}", justify="right"),
            TextColumn("{task.fields[rejects]}", style="yellow"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            expand=True,
        )
        self._lock = threading.Lock()
        self._tasks: dict[int, TaskID] = {}
        self._counts: dict[int, tuple[int, int]] = {}
        self._partitions = self._ended = self._failed = 0
        self._all = self.progress.add_task("starting", total=None, count="", rejects="")

    def __enter__(self) -> Live:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def phase(self, name: str, detail: str = "") -> None:
        self.progress.update(self._all, description=f"[bold]{escape(name)}[/] {escape(detail)}".rstrip())

    def begin(self, places: Sequence[Place], lanes: int) -> None:
        self._partitions = len(places)
        self.progress.update(self._all, total=sum(one.todo.pending for one in places) or None)
        self._tell()

    def started(self, place: Place) -> None:
        with self._lock:
            total = place.todo.pending or None
            name = escape(f"  {place.todo.partition}")
            self._tasks[place.number] = self.progress.add_task(name, total=total, count="", rejects="")
            self._counts[place.number] = (0, 0)

    def advance(self, place: Place, items: int, rejects: int) -> None:
        with self._lock:
            done, rejected = self._counts[place.number]
            self._counts[place.number] = done, rejected = done + items, rejected + rejects
            said = f"{rejected:,} rejected" if rejected else ""
            count = f"{done:,}/{place.todo.pending:,}"
            self.progress.update(self._tasks[place.number], completed=done, count=count, rejects=said)
            self.progress.advance(self._all, items)

    def ended(self, place: Place, outcome: Outcome) -> None:
        with self._lock:
            self.progress.remove_task(self._tasks.pop(place.number))
            self.progress.advance(self._all, max(0, place.todo.pending - self._counts[place.number][0]))
            self._ended += 1
            if outcome.error:
                self._failed += 1
                self.progress.console.print(f"[red]{escape(place.todo.partition)}[/]: {escape(outcome.error)}")
        self._tell()

    def _tell(self) -> None:
        failed = f"{self._failed:,} failed" if self._failed else ""
        count = f"{self._ended:,}/{self._partitions:,}"
        self.progress.update(self._all, description="[bold]partitions[/]", count=count, rejects=failed)


class Plain:
    """A line when a partition is done; for logs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._lock = threading.Lock()
        self._begun: dict[int, float] = {}
        self._partitions = self._ended = 0

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def phase(self, name: str, detail: str = "") -> None:
        self._say(f"{name}: {detail}" if detail else name)

    def begin(self, places: Sequence[Place], lanes: int) -> None:
        self._partitions = len(places)
        items = sum(one.todo.pending for one in places)
        self._say(f"{self._partitions:,} partitions, {items:,} items, {lanes} at a time")

    def started(self, place: Place) -> None:
        self._begun[place.number] = time.monotonic()

    def advance(self, place: Place, items: int, rejects: int) -> None:
        pass

    def ended(self, place: Place, outcome: Outcome) -> None:
        took = human_seconds(time.monotonic() - self._begun[place.number])
        with self._lock:
            self._ended += 1
            what = outcome.error or _came(outcome)
            self._say(f"{self._ended:,}/{self._partitions:,} {place.todo.partition}: {what} ({took})")

    def _say(self, line: str) -> None:
        if logs.is_json():
            logs.LOG.info("backfill", extra={"detail": line})
        else:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def watcher(console: Console) -> Live | Plain:
    return Live(console) if console.is_terminal and not logs.is_json() else Plain(console)


def print_summary(console: Console, told: Summary) -> None:
    grid = _grid()
    stands = ", ".join(f"[{COLOURS.get(Stand(one), 'dim')}]{count:,} {one}[/]" for one, count in told.stands.items())
    grid.add_row("backfill", f"[bold]{told.backfill_id}[/]  of {told.pipeline}")
    grid.add_row("source", escape(told.source))
    grid.add_row("partitions", f"{stands or 'none to do'}; {told.idle:,} needed nothing")
    rejected = f"[yellow]{told.rejected:,} rejected[/]" if told.rejected else "0 rejected"
    grid.add_row("items", f"[green]{told.ok:,} ok[/], {rejected}, {told.gone:,} gone")
    for index, (partition, error) in enumerate(list(told.failures.items())[:ROWS]):
        grid.add_row("" if index else "not done", f"[red]{escape(partition)}[/]: {escape(error)}")
    if len(told.failures) > ROWS:
        grid.add_row("", f"... and {len(told.failures) - ROWS:,} more: `swath backfills {told.backfill_id} --json`")
    show(console, grid)


def print_places(console: Console, places: Sequence[Place]) -> None:
    """The partitions of a backfill with their runs."""
    numbers = ("pending", "ok", "rejected", "gone", "took")
    table = listing("partition", "state", "run", *numbers, right=numbers)
    for place in places:
        record = place.record
        came = [f"{n:,}" for n in (record.ok, record.rejected, record.gone)] if record else ["", "", ""]
        took = human_seconds(record.seconds) if record else ""
        stand = f"[{COLOURS.get(place.stand, 'dim')}]{place.stand}[/]"
        table.add_row(escape(place.todo.partition), stand, place.run_id or "", f"{place.todo.pending:,}", *came, took)
    show(console, table)


def print_backfills(console: Console, told: Sequence[tuple[Backfill, Summary, str]]) -> None:
    """Backfills, each with where it stands."""
    numbers = ("partitions", "done", "ok", "rejected")
    table = listing("backfill", "pipeline", "state", "started (UTC)", *numbers, right=numbers)
    for backfill, summary, state in told:
        counts = (summary.partitions, summary.stands.get(Stand.DONE, 0), summary.ok, summary.rejected)
        started = f"{backfill.created_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(backfill.backfill_id, summary.pipeline, state, started, *(f"{count:,}" for count in counts))
    show(console, table)


def print_estimate(console: Console, found: Estimate) -> None:
    numbers = ("items", "MB", "gone", "time", "core-hours", "GPU-hours", "cost")
    shown = [name for name in numbers if not (name == "GPU-hours" and not found.gpu_hours)]
    shown = [name for name in shown if not (name == "cost" and found.cost is None)]
    shown = [name for name in shown if not (name == "gone" and not found.gone)]
    table = listing("partition", "why", *shown, right=tuple(shown))
    rows = found.partitions if len(found.partitions) <= ROWS else found.partitions[: ROWS - 1]
    for one in rows:
        told = _told(one.items, one.bytes, one.gone, one.seconds, one)
        table.add_row(escape(one.partition), _why(one.why), *(told[name] for name in shown))
    if left := len(found.partitions) - len(rows):
        table.add_row(f"... {left:,} more (--json has all)", *([""] * (len(shown) + 1)))
    total = _told(found.pending, found.bytes, found.gone, found.seconds, found)
    table.add_section()
    table.add_row(
        f"[bold]{len(found.partitions):,} partitions[/]",
        _why(found.why),
        *(f"[bold]{total[name]}[/]" for name in shown),
    )
    show(console, table)
    grid = _grid()
    grid.add_row("source", f"{escape(found.source)}: {found.objects:,} objects, {found.items:,} items")
    if found.idle:
        grid.add_row("", f"{found.idle:,} partitions need nothing")
    grid.add_row("at once", "1 partition" if found.parallel == 1 else f"{found.parallel:,} partitions")
    if found.measured is None:
        grid.add_row("time", "unknown until a first run has measured it; `swath run ... --limit 50` does")
    else:
        runs = "1 run" if found.measured.runs == 1 else f"{found.measured.runs:,} runs"
        grid.add_row("measured", f"in {runs} of {found.measured.items:,} items")
        if found.unmeasured:
            grid.add_row("", f"[yellow]never measured, and left out: {', '.join(found.unmeasured)}[/]")
        if found.core_hour_price is None:
            grid.add_row("cost", "wants --core-hour-price, or SWATH_CORE_HOUR_PRICE (and GPU_HOUR_PRICE)")
        elif found.cost is None:
            grid.add_row("cost", "wants --gpu-hour-price, or SWATH_GPU_HOUR_PRICE: steps run on GPUs")
    show(console, grid)


def _told(items: int, size: int, gone: int, seconds: float | None, hours: Cost | Estimate) -> dict[str, str]:
    return {
        "items": f"{items:,}",
        "MB": f"{size / 1e6:,.1f}",
        "gone": f"{gone:,}",
        "time": "?" if seconds is None else human_seconds(seconds),
        "core-hours": "?" if hours.core_hours is None else f"{hours.core_hours:,.3f}",
        "GPU-hours": "?" if hours.gpu_hours is None else f"{hours.gpu_hours:,.3f}",
        "cost": "?" if hours.cost is None else f"{hours.cost:,.2f}" if hours.cost >= 1 else f"{hours.cost:.4f}",
    }


def _why(why: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in why.items())


def _came(outcome: Outcome) -> str:
    record = outcome.record
    if record is None or not (record.items or record.gone):
        return "nothing to do"
    return f"{record.ok:,} ok, {record.rejected:,} rejected, {record.gone:,} gone"


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid
