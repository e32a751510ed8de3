"""How a training and a comparison look on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from swath.flows.console.report import listing, show
from swath.flows.train.card import cell, duration, title
from swath.flows.train.compare import Compared
from swath.flows.train.fit import CHECKPOINT, Fitted
from swath.flows.train.task import Row
from swath.flows.train.train import CARD, CURVES, MODEL, Outcome, Watch

HIDDEN = ("step", "seconds", "learning_rate")


@contextmanager
def watching(console: Console, steps: int, folder: Path) -> Iterator[Watch]:
    """A bar with the loss and the figures, where there is a terminal; else a line an evaluation."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}/{task.total:,}"),
               TimeRemainingColumn(), TextColumn("{task.fields[told]}"))  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("looking at the pictures", total=None, told="")

        def begun(network: str, split: str) -> None:
            console.print(f"[dim]network[/]   {escape(network)}", soft_wrap=True)
            console.print(f"[dim]held out[/]  {escape(split)}", soft_wrap=True)
            progress.reset(bar, total=steps, description="training")

        def line(figures: dict[str, float]) -> None:
            told = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures.items()
                             if name not in HIDDEN)  # fmt: skip
            progress.update(bar, told=told)
            if not console.is_terminal:
                console.print(f"step {figures['step']:>6,} of {steps:,}  {told}", soft_wrap=True)

        watch = Watch(
            looked=lambda done, of: progress.update(bar, completed=done, total=of),
            begun=begun,
            step=lambda done: progress.update(bar, completed=done),
            line=line,
        )
        try:
            yield watch
        except KeyboardInterrupt:
            there = (folder / CHECKPOINT).exists()
            went = (
                "--resume goes on from its last checkpoint" if there else "before its first checkpoint: nothing is kept"
            )
            console.print(f"interrupted; {went}", soft_wrap=True)
            raise typer.Exit(130) from None


def outcome(console: Console, done: Outcome, kind: str) -> None:
    """What came out: figures by class, what they are worth, where the files are."""
    folder = done.model.parent
    ended = {"patience": "it got no better", "seconds": "the time was over", "steps": "all steps done"}
    kept = f"weights of step {done.kept:,} of {done.steps:,} ({ended.get(done.stopped, done.stopped)})"
    lines = [
        ("figures", ", ".join(f"{title(name)} {value:.3f}" for name, value in done.figures.items()
                              if not name.startswith("iou_"))),
        *(("note", note) for note in done.notes),
        ("took", f"{duration(done.seconds)}; {kept}"),
        ("model", str(done.model)),
        ("card", f"{folder / CARD}, curves in {folder / CURVES}"),
    ]  # fmt: skip
    _rows(console, done.rows)
    baselines: list[Row] = [
        {"without training": name, title(done.best): value} for name, value in done.baselines.items()
    ]
    _rows(console, baselines)
    for name, text in lines:
        console.print(f"[dim]{name:>8}[/]  {escape(text)}", soft_wrap=True)
    best = max(done.baselines.values(), default=-math.inf)
    ours = done.figures[done.best]
    good = ours > best
    verdict = (
        f"{title(done.best)} is {ours - best:.3f} above the best of what needs no training"
        if good
        else "no better than what needs no training: do not use it; more pictures or steps, or --from, may help"
    )
    console.print(f"[{'green' if good else 'yellow'}]{'verdict':>8}[/]  {verdict}", soft_wrap=True)
    console.print(f"{'use it':>8}  [cyan]{kind}: {{model: {escape(str(done.model))}}}[/] in a pipeline", soft_wrap=True)


def enlarged(console: Console, fitted: Fitted, folder: Path) -> None:
    """What came out of training super-resolution."""
    gain = fitted.figures["gain_db"]
    lines = [
        ("figures", f"PSNR on Y {fitted.figures['psnr_db']:.2f} dB on what was held out"),
        ("took", f"{duration(fitted.seconds)}; weights of step {fitted.step:,} of {fitted.steps:,}"),
        ("model", str(folder / MODEL)),
        ("card", f"{folder / CARD}, curves in {folder / CURVES}"),
    ]
    for name, text in lines:
        console.print(f"[dim]{name:>8}[/]  {escape(text)}", soft_wrap=True)
    verdict = f"{gain:+.2f} dB against a bicubic enlargement"
    console.print(f"[{'green' if gain > 0 else 'yellow'}]{'verdict':>8}[/]  {verdict}", soft_wrap=True)
    use = f"super_resolve: {{model: {folder / MODEL}}}"
    console.print(f"{'use it':>8}  [cyan]{escape(use)}[/] in a pipeline", soft_wrap=True)


def enlarged_json(fitted: Fitted, held_out: str, folder: Path) -> dict[str, Any]:
    return {
        "model": str(folder / MODEL),
        "figures": fitted.figures,
        "held_out": held_out,
        "steps": fitted.steps,
        "kept": fitted.step,
        "stopped": fitted.stopped,
        "seconds": fitted.seconds,
    }


def compared(console: Console, result: Compared) -> None:
    """Figures of both by class, and what to do."""
    _rows(console, result.rows)
    console.print(f"[dim]{'on':>8}[/]  {escape(result.known)}", soft_wrap=True)
    if result.p_value is not None:
        console.print(f"[dim]{'McNemar':>8}[/]  p = {result.p_value:.3g}", soft_wrap=True)
    colour = "green" if result.low > 0 else "red" if result.high < 0 else "yellow"
    console.print(f"[{colour}]{'verdict':>8}[/]  {escape(result.said)}", soft_wrap=True)


def outcome_json(done: Outcome, result: Compared | None) -> dict[str, Any]:
    """The object that `--json` prints."""
    return {
        "model": str(done.model),
        "figures": done.figures,
        "rows": done.rows,
        "baselines": done.baselines,
        "held_out": done.split.said,
        "notes": list(done.notes),
        "steps": done.steps,
        "kept": done.kept,
        "stopped": done.stopped,
        "seconds": done.seconds,
        "compared": json_of(result) if result is not None else None,
    }


def json_of(result: Compared) -> dict[str, Any]:
    return dict(result.__dict__)


def _rows(console: Console, rows: list[Row]) -> None:
    if not rows:
        return
    numbers = [name for name, value in rows[0].items() if not isinstance(value, str)]
    table = listing(*rows[0], right=tuple(numbers))
    for row in rows:
        table.add_row(*(escape(cell(value)) for value in row.values()))
    show(console, table)
