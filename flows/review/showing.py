"""What `swath review` shows on a terminal; documents are strangers' text, so nothing of theirs is taken for markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from swath.flows.console.report import listing

Row = dict[str, Any]


def to_decide(rows: Sequence[Row]) -> Table:
    """A heading a document, below it what is to be decided about it."""
    table = listing("review id", "document and field", "page", "value", "sure", "what is wrong", right=("page", "sure"))
    heading = None
    for row in rows:
        document = (row["pipeline"], row["source_uri"])
        if document != heading:
            heading = document
            table.add_row("", f"[bold]{short(row['source_uri'].rpartition('/')[2])}[/]")
        sure = "" if row["confidence"] is None else f"{row['confidence']:.2f}"
        field, value = f"  {short(row['field'] or row['path'])}", short(row["value"], 36)
        table.add_row(row["review_id"], field, short(row["page"]), value, sure, _what_is_wrong(row))
    return table


def _what_is_wrong(row: Row) -> str:
    """The reason, with what `sure` and the reason do not say already."""
    reason = row["reason"].replace("_", " ")
    return reason if row["reason"] == "low_confidence" or not row["detail"] else f"{reason}: {short(row['detail'])}"


def one(row: Row) -> Iterator[str]:
    """Line by line what a person must know to decide about a value."""
    for name in ("source_uri", "page", "field", "value", "confidence", "reason", "detail", "stale_value"):
        if row[name] is not None:
            yield labelled(name.replace("_", " "), row[name])


def labelled(name: str, value: Any) -> str:
    return f"[dim]{name:12}[/] {short(value, 500)}"


def taken_down(row: Row) -> str:
    """A decision as a sentence."""
    what = f"[bold]{short(row['path'])}[/] of {escape(row['source_uri'])}"
    match row["decision"]:
        case "confirmed":
            return f"{what}: {short(row['after'])} is confirmed"
        case "absent":
            return f"{what}: {short(row['before']) or 'nothing'} is taken out; the document has none"
    return f"{what}: {short(row['before']) or 'nothing'} is now {short(row['after'])}"


def shares(rows: Sequence[Row]) -> Table:
    """How many of the decided values the machine had right; the pipeline is named where there are several."""
    numbers = ("right", "share", "95 % interval", "confidence")
    table = listing("value", "type", "engine", *numbers, right=numbers)
    several = len({row["pipeline"] for row in rows}) > 1
    for row in rows:
        name = f"{row['pipeline']}.{row['path']}" if several else row["path"]
        right, interval = f"{row['right']:,} of {row['decided']:,}", f"{row['low']:.2f} to {row['high']:.2f}"
        cells = (name, row["document_type"], row["engine"], right, row["accuracy"], interval, row["mean_confidence"])
        table.add_row(*map(short, cells))
    return table


def short(value: Any, longest: int = 60) -> str:
    """One line that stands for itself: no markup, and no control characters that a document may bring."""
    text = "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return escape(text if len(text) <= longest else text[: longest - 1] + "…")
