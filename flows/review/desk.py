"""What waits for a person, and how a decision about it is taken down."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from swath.flows.ask.query import Session, open_session
from swath.infra import corrections
from swath.infra.lake import Lake
from swath.schemas.corrections import DECIDED, Decision
from swath.schemas.errors import ConfigurationError, QueryError
from swath.schemas.published import DECISIONS, VALUES
from swath.schemas.review import VALUE, Rules, field_columns
from swath.schemas.sql import literal, quoted

Row = dict[str, Any]
LONGEST = 2000
"""Characters of a value or a reason."""
_AMOUNTS = frozenset(("net", "tax", "total", "amount", "unit_price", "quantity"))
_CHOICES: dict[str, tuple[str, ...]] = {
    "match_status": ("matched", "mismatch", "unknown"),
    "quality_verdict": ("good", "poor"),
    "page_retake": (),
    "status": (),
}
"""Values that are a verdict, with what each may be changed to; a retake can be dropped as well, by `absent`."""
_FIELD = re.compile(r"[a-z][a-z0-9_]*(\[[1-9][0-9]*\]\.[a-z][a-z0-9_]*)?")
_WANTED = pa.schema([("at", pa.int32()), ("review_id", pa.string()), ("item_id", pa.string()), ("path", pa.string())])


@dataclass(frozen=True)
class Wanted:
    """A decision as somebody asks for it."""

    key: str
    """The `review_id` of the value, or ITEM_ID/PATH (`0b4f…/fields.total`)."""
    decision: Decision
    after: str | None = None
    why: str | None = None
    by: str = ""
    etag: str | None = None
    """The version of the document it was decided on, where known."""
    place: str = ""
    """Where it is written: `answers.csv line 4`."""

    def error(self, text: str) -> ConfigurationError:
        return ConfigurationError(f"{self.place}: {text}" if self.place else text)


def waiting(warehouse: str, rules: Rules, pipeline: str | None = None, reason: str | None = None) -> list[Row]:
    """What is to be decided, document by document, with the pipeline first. Raises QueryError."""
    where = f"WHERE reason = {literal(reason)}" if reason else ""
    with contextlib.closing(open_session(warehouse, rules=rules)) as session:
        parts = [
            f"SELECT {literal(name)} AS pipeline, * FROM {quoted(name)}.review {where}"
            for name in _reviewed(session, pipeline)
        ]
        ordered = f"{' UNION ALL '.join(parts)} ORDER BY pipeline, source_uri, page NULLS FIRST, path"
        return list(session.stream(ordered).read_all().to_pylist())


def decide(warehouse: str, wanted: Sequence[Wanted], rules: Rules | None = None) -> list[Row]:
    """Takes all decisions down in one commit, or none of them, and returns them as they stand in `corrections`.

    Raises ConfigurationError, with the place, for one that is about nothing, or that cannot be.
    """
    with contextlib.closing(open_session(warehouse, rules=rules)) as session:
        targets = _targets(session, wanted)
    now = datetime.now(UTC)
    rows: list[Row] = []
    taken: dict[tuple[str, str, str], Wanted] = {}
    for one, target in zip(wanted, targets, strict=True):
        key = (target["pipeline"], target["object_id"], target["path"])
        if key in taken:
            raise one.error(f"{target['path']} of {target['source_uri']} is decided at {taken[key].place} already; "
                            "take one of the two out")  # fmt: skip
        taken[key] = one
        rows.append(_correction(one, target, now))
    corrections.append(Lake(warehouse), rows)
    return rows


def _correction(wanted: Wanted, target: Row, now: datetime) -> Row:
    """The row of the table `corrections`."""
    if wanted.etag and wanted.etag != target["etag"]:
        raise wanted.error(f"{target['source_uri']} is another version by now (etag {target['etag']}, not "
                           f"{wanted.etag}); export again and decide on that")  # fmt: skip
    published = target["decided"] and target["decided_etag"] == target["etag"]
    before = target["decided_after"] if published else target["value"]
    decision, after = wanted.decision, wanted.after
    match decision:
        case Decision.CORRECTED:
            after = checked_value(wanted, target["path"])
            decision = Decision.CONFIRMED if after == before else decision
        case Decision.CONFIRMED if before is None:
            raise wanted.error(f"{target['path']} has no value to confirm; give one, or say that it is absent")
        case Decision.CONFIRMED if after not in (None, before):
            raise wanted.error(f"{target['path']} is confirmed, but {after!r} is not its value {before!r}; "
                               "say corrected, or leave the value out")  # fmt: skip
        case Decision.CONFIRMED:
            after = before
        case Decision.ABSENT if "--absent" not in ways(target):
            raise wanted.error(f"{target['path']} cannot be absent; confirm it, or give another value")
        case Decision.ABSENT:
            after = None
    row = {column.name: target.get(column.name) for column in DECIDED}
    return row | {
        "correction_id": uuid.uuid4().hex,
        "decided_at": now,
        "decided_by": _text(wanted, "who decides", wanted.by),
        "decision": str(decision),
        "before": before,
        "after": after,
        "why": _text(wanted, "why", wanted.why) if wanted.why else None,
        "machine_value": target["value"],
    }


def checked_value(wanted: Wanted, path: str) -> str:
    """The value as it is published; raises ConfigurationError where it cannot be one of that path."""
    value = _text(wanted, f"the value of {path}", wanted.after or "")
    name = path.rpartition(".")[2]
    if name in _CHOICES:
        choices = _CHOICES[name]
        if value not in choices:
            allowed = f"is one of {', '.join(choices)}" if choices else "takes no other value; confirm it"
            raise wanted.error(f"{path} {allowed}; found {value!r}")
    elif name.endswith("_date") or name == "date":
        try:
            if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
                raise ValueError(value)
            date.fromisoformat(value)
        except ValueError:
            raise wanted.error(f"{path} is a date such as 2026-05-31; found {value!r}") from None
    elif name in _AMOUNTS:
        try:
            if not (re.fullmatch(r"-?\d+(\.\d+)?", value, re.ASCII) and Decimal(value).is_finite()):
                raise InvalidOperation
        except InvalidOperation:
            raise wanted.error(f"{path} is a number such as 1234.50; found {value!r}") from None
    return value


def ways(row: Row) -> list[str]:
    """The options of `swath review decide` that a value can be decided with."""
    name = row["path"].rpartition(".")[2]
    if name in _CHOICES:
        others = [f"--value {choice}" for choice in _CHOICES[name] if choice != row["value"]]
        return [*others, "--confirm", *(["--absent"] if name == "page_retake" else [])]
    return ["--value VALUE", *(["--confirm"] if row["value"] is not None else []), "--absent"]


def _text(wanted: Wanted, what: str, text: str) -> str:
    text = text.strip()
    if not text or len(text) > LONGEST or not all(c.isprintable() or c == "\n" for c in text):
        raise wanted.error(f"{what} is a text of 1 to {LONGEST} characters that can be printed; found {text[:40]!r}")
    return text


def _targets(session: Session, wanted: Sequence[Wanted]) -> list[Row]:
    """What each decision is about: the row of the pipeline's values, and what was decided before."""
    keys = []
    for at, one in enumerate(wanted):
        item_id, _, path = one.key.partition("/")
        keys.append({"at": at, "review_id": None if path else item_id, "item_id": item_id, "path": path or None})
    session.connection.register("_wanted", pa.Table.from_pylist(keys, _WANTED))
    found: dict[int, list[Row]] = defaultdict(list)
    for pipeline in _reviewed(session):
        for row in _found(session, pipeline):
            found[row["at"]].append({**row, "pipeline": pipeline})
    for at, one in enumerate(wanted):
        if not found[at]:
            raise one.error(f"nothing to decide is called {one.key!r}; `swath review list` names what is, and "
                            "ITEM_ID/fields.NAME any field of a document")  # fmt: skip
        if len(found[at]) > 1:
            names = " and ".join(sorted({row["pipeline"] for row in found[at]}))
            raise one.error(f"{one.key!r} names values of {names}; give its review_id, see `swath review list`")
    return [found[at][0] for at in range(len(wanted))]


def _found(session: Session, pipeline: str) -> Iterator[Row]:
    place = f"{quoted(pipeline)}."
    columns = ", ".join(f"v.{quoted(column.name)}" for column in VALUE)
    decided = "d.path IS NOT NULL AS decided, d.after AS decided_after, d.etag AS decided_etag"
    before = f"LEFT JOIN {place}{DECISIONS} d ON d.object_id = v.object_id AND d.path = v.path"
    objects = (
        f"(SELECT w.at, w.path, s.object_id FROM _wanted w JOIN {place}stored s USING (item_id) WHERE w.path <> '')"
    )
    chosen = f"SELECT w.at, {columns}, {decided} FROM {place}{VALUES} v {before} JOIN"
    known = (
        f"{chosen} _wanted w ON w.review_id = v.review_id "
        f"UNION ALL {chosen} {objects} w ON w.object_id = v.object_id AND w.path = v.path"
    )
    rows = session.stream(known).read_all().to_pylist()
    yield from rows
    seen = {row["at"] for row in rows}
    stored = session.view(f"{pipeline}.stored")
    there = {column.name for column in stored.columns}
    given = {column.name: quoted(column.name) for column in VALUE if column.name in there}
    given |= {"engine": "ocr_engine" if "ocr_engine" in there else "NULL"}
    holder = ", ".join(
        f"s.{value} AS {name}" if value != "NULL" else f"NULL AS {name}" for name, value in given.items()
    )
    for column in field_columns(stored):  # fields that no reader found
        added = (
            f"SELECT w.at, w.path, {holder}, {decided} FROM {objects} w JOIN {place}stored s USING (object_id) "
            f"LEFT JOIN {place}{DECISIONS} d ON d.object_id = s.object_id AND d.path = w.path WHERE "
            f"starts_with(w.path, {literal(column + '.')}) AND s.{quoted(column)} IS NOT NULL AND s.status <> 'gone'"
        )
        for row in session.stream(added).read_all().to_pylist():
            if row["at"] not in seen and _FIELD.fullmatch(row["path"].removeprefix(f"{column}.")):
                yield {**row, "value": None}


def _reviewed(session: Session, pipeline: str | None = None) -> list[str]:
    """The pipelines about whose values people decide; raises QueryError where there is none."""
    found = [name for name in session.pipelines if f"{name}.review" in session.views]
    if pipeline is not None and pipeline not in found:
        raise QueryError(f"{session.warehouse} has no pipeline {pipeline!r} with anything to review; "
                         f"it has {', '.join(found) or 'none'}")  # fmt: skip
    if not found:
        raise QueryError(f"{session.warehouse} holds no table with fields or matches to review; "
                         "a pipeline with extract_fields or match_reference makes one")  # fmt: skip
    return [pipeline] if pipeline else found


def first_pass_rate(warehouse: str, pipeline: str, run_id: str, rules: Rules | None = None) -> float | None:
    """Share of the documents of a run about which nothing was to be decided; None where it published none."""
    query = f"SELECT first_pass_rate FROM {quoted(pipeline)}.review_rate WHERE run_id = {literal(run_id)}"
    with contextlib.closing(open_session(warehouse, query, rules)) as session:
        if f"{pipeline}.review_rate" not in session.views:
            return None
        rows = session.stream(query).read_all().to_pylist()
    return float(rows[0]["first_pass_rate"]) if rows else None
