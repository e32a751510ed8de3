"""A diff for people: what is different first, what is the same in a word."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape

from swath.flows.console.report import listing, show
from swath.flows.history.diff import ColumnChange, Diff, Spread

SHOWN = 20
"""Rows of a part that are shown; JSON has them all."""


def print_diff(console: Console, found: Diff) -> None:
    """Steps, rows, status, columns, labels, fields, in this order; parts in which nothing differs are left out."""
    of = "all objects of the table" if found.whole_table else "the objects that either run covers"
    console.print(f"[bold]{escape(found.table)}[/] from {found.run_a} to {found.run_b}, {of}", soft_wrap=True)
    if found.steps:
        table = listing("step", "", "items", "settings", right=("items",))
        for step in found.steps:
            settings = "; ".join(f"{name}: {_said(a)} → {_said(b)}" for name, (a, b) in step.settings.items())
            table.add_row(escape(step.step), step.change, f"{step.items:,}", escape(settings))
        _part(console, table)
    else:
        console.print("[dim]no step is another one[/]")
    rows = [f"{found.before:,} items before, {found.after:,} after"]
    counts = (("added", found.added), ("removed", found.removed), ("changed", found.changed), ("the same", found.same))
    rows += [f"{count:,} {what}" for what, count in counts]
    console.print("\n" + " · ".join(rows), soft_wrap=True)
    if found.became:
        table = listing("status before", "now", "items", right=("items",))
        for became in found.became[:SHOWN]:
            table.add_row(escape(became.was or ""), escape(became.now or ""), f"{became.items:,}")
        _part(console, table)
    _columns(console, found)
    fields = [field for field in found.fields if field.different or field.only_before or field.only_after]
    if fields:
        names = ("same", "different", "only before", "only now")
        table = listing("field", "step", *names, right=names)
        for field in sorted(fields, key=lambda one: one.same - one.different)[:SHOWN]:
            numbers = (field.same, field.different, field.only_before, field.only_after)
            table.add_row(escape(field.name), escape(field.step), *(f"{number:,}" for number in numbers))
        _part(console, table)


def _columns(console: Console, found: Diff) -> None:
    different = [column for column in found.columns if column.differ]
    if not different:
        console.print(f"[dim]in none of {len(found.columns)} columns does a value differ[/]")
        return
    numbers = ("differ", "of", "appeared", "vanished", "mean", "p50", "p95", "mean shift")
    table = listing("column", *numbers, right=numbers)
    for column in different:
        counts = (column.differ, found.compared, column.appeared, column.vanished)
        spread = [_moved(column, name) for name in ("mean", "p50", "p95")]
        shift = "" if column.mean_shift is None else f"{column.mean_shift:+.4g}"
        table.add_row(escape(column.column), *(f"{count:,}" for count in counts), *spread, shift)
    _part(console, table)
    became = [(column.column, one) for column in different for one in column.became]
    if became:
        table = listing("column", "was", "is", "items", right=("items",))
        for name, one in became[:SHOWN]:
            table.add_row(escape(name), _text(one.was), _text(one.now), f"{one.items:,}")
        _part(console, table)


def _moved(column: ColumnChange, name: str) -> str:
    sides: list[Spread | None] = [column.before, column.after]
    values = [getattr(side, name) for side in sides if side]
    told = ["-" if value is None else f"{value:.4g}" for value in values]
    return " → ".join(told) if len(set(told)) > 1 else "".join(told[:1])


def _part(console: Console, table: Any) -> None:
    console.print()
    show(console, table)


def _text(value: str | None) -> str:
    return "[dim]null[/]" if value is None else escape(value)


def _said(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
