"""What upkeep has done, or would do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape

from swath.flows.console.report import listing, show
from swath.flows.upkeep.units import human_bytes
from swath.flows.upkeep.walk import Found, kind_of

if TYPE_CHECKING:
    from swath.flows.upkeep.forget import Forgotten

KINDS = {
    "data": "files of rows, those of older snapshots too",
    "metadata": "of the tables",
    "runs": "records, manifests, staging",
    "artifacts": "what operators keep beside the rows",
    "other": "",
}


class Size(BaseModel):
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int, files: int = 1) -> None:
        self.files += files
        self.bytes += size


class Action(BaseModel):
    """One thing that was done, or would be."""

    what: str
    """retention, gone, compaction, expiry; orphans (rows), metadata, staging, manifests, artifacts, temporary."""
    table: str = ""
    cells: int = 0
    partitions: int = 0
    rows: int = 0
    """Rows that were removed."""
    snapshots: int = 0
    files: int = 0
    """Files that are fewer."""
    bytes: int = 0
    """Bytes that are fewer; what older snapshots still hold is freed when those have expired."""


class Report(BaseModel):
    """What `swath maintain` prints."""

    warehouse: str
    dry_run: bool
    before: dict[str, Size]
    after: dict[str, Size]
    """As it was found afterwards; in a dry run, as far as it can be told before."""
    actions: list[Action]
    kept: list[str]
    """What was left alone, and why."""


def sizes(found: Iterable[Found]) -> dict[str, Size]:
    """Files and bytes by kind."""
    told = {kind: Size() for kind in KINDS}
    for one in found:
        told[kind_of(one.path)].add(one.size)
    return told


def print_report(console: Console, report: Report) -> None:
    numbers = ("files", "→ files", "size", "→ size")
    table = listing("kind", *numbers, "what it is", right=numbers)
    total = {"before": Size(), "after": Size()}
    for kind, doc in KINDS.items():
        before, after = report.before[kind], report.after[kind]
        for name, one in (("before", before), ("after", after)):
            total[name].add(one.bytes, one.files)
        table.add_row(kind, *_counts(before, after), f"[dim]{doc}[/]")
    table.add_row("[bold]all[/]", *_counts(total["before"], total["after"]))
    show(console, table)
    would = "would be " if report.dry_run else ""
    for action in report.actions:
        console.print(f"{_told(action, would)}", soft_wrap=True)
    if not report.actions:
        console.print("nothing to do", soft_wrap=True)
    for text in report.kept:
        console.print(f"[dim]kept:[/] {escape(text)}", soft_wrap=True)


def print_forgotten(console: Console, outcome: Forgotten) -> None:
    erased = [_count(sum(outcome.rows.values()), "rows")]
    erased += [f"{_count(count, 'snapshots')} of {escape(table)}" for table, count in outcome.snapshots.items()]
    erased += [_count(outcome.artifacts, "artifacts"), _count(outcome.deleted, "files")]
    anew = _count(outcome.rewritten, "files")
    console.print(f"erased: {', '.join(erased)}; {anew} written anew without it", soft_wrap=True)
    looked = outcome.looked
    for name, size in (("Parquet", looked.parquet), ("manifests", looked.avro), ("others", looked.others)):
        console.print(f"looked through {size.files:,} {name} ({human_bytes(size.bytes)})", soft_wrap=True)
    for text in [*outcome.left, *looked.unread]:
        console.print(f"[red]left:[/] {escape(text)}", soft_wrap=True)
    if outcome.done:
        console.print("[green]nothing of it is left in the warehouse[/]; runs leave it out from now on", soft_wrap=True)
    console.print(
        "[dim]not looked at: the source, exports elsewhere, older versions and backups that the store keeps, Prefect's "
        "database[/]",
        soft_wrap=True,
    )


def _counts(before: Size, after: Size) -> tuple[str, str, str, str]:
    return f"{before.files:,}", f"{after.files:,}", human_bytes(before.bytes), human_bytes(after.bytes)


def _count(count: int, name: str) -> str:
    return f"{count:,} {name if count != 1 else name.removesuffix('s')}"


def _told(action: Action, would: str) -> str:
    """One line."""
    counts = [
        _count(count, name)
        for name, count in (
            ("partitions", action.partitions),
            ("cells", action.cells),
            ("rows", action.rows),
            ("snapshots", action.snapshots),
        )
        if count
    ]
    if action.files > 0:
        counts.append(f"{_count(action.files, 'files')} less")
    if action.bytes > 0:
        counts.append(human_bytes(action.bytes))
    done = {
        "retention": "dropped",
        "gone": "erased",
        "compaction": "written together",
        "expiry": "expired",
    }.get(action.what, "deleted")
    where = f" of {escape(action.table)}" if action.table else ""
    return f"[bold]{action.what}[/]{where}: {', '.join(counts)} {would}{done}"
