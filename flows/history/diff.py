"""`swath diff`: what changed in a table between two runs: rows, steps, columns, labels, fields, distributions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from swath.flows.history.sides import Compared, Sides, sides
from swath.schemas.pipeline import Step
from swath.schemas.sql import quoted
from swath.schemas.types import FIELDS
from swath.schemas.views import views

EXACT = 1_000_000
"""Rows up to which quantiles are exact."""
_LIVE = "NOT IN ('absent', 'gone')"


class StepChange(BaseModel):
    """A step that is another one."""

    step: str
    change: str
    """changed, added or removed."""
    items: int
    """Compared items whose values it made another way."""
    settings: dict[str, tuple[Any, Any]]
    """What the pipelines of the runs say of it differently."""


class Became(BaseModel):
    """What was one thing and is another."""

    was: str | None
    now: str | None
    items: int


class Spread(BaseModel):
    """How a number is distributed over the items that are ok."""

    values: int
    mean: float | None
    p50: float | None
    p95: float | None


class ColumnChange(BaseModel):
    """A column of the items that are ok on both sides."""

    column: str
    kind: str
    of_source: bool
    differ: int
    appeared: int
    """Of these: null before."""
    vanished: int
    """Of these: null now."""
    mean_shift: float | None = None
    """Of numbers on both sides: mean of what they are now less what they were."""
    largest_shift: float | None = None
    before: Spread | None = None
    after: Spread | None = None
    became: list[Became] = []
    """Of texts of few values and of the first labels: the most frequent changes."""


class FieldChange(BaseModel):
    """A field of the documents that are ok on both sides; line items are counted together."""

    step: str
    name: str
    same: int
    different: int
    only_before: int
    only_after: int


class Diff(BaseModel):
    """What changed in a table from run A to run B."""

    run_a: str
    run_b: str
    table: str
    whole_table: bool
    """Whether all objects count, because it is no longer known which of them the runs have covered."""
    before: int
    """Items that were there, vanished ones left out."""
    after: int
    added: int
    removed: int
    """Items that are no longer there: gone from the source, or a page less."""
    changed: int
    same: int
    compared: int
    """Items that are ok on both sides, whose columns are compared."""
    steps: list[StepChange]
    became: list[Became]
    """Items of another status than before: ok, rejected with its reason, gone, absent."""
    columns: list[ColumnChange]
    fields: list[FieldChange]


def diff(warehouse: str, run_a: str, run_b: str, tolerance: float = 1e-6, top: int = 10) -> Diff:
    """Compares a table as two runs left it, over the objects that either covers. Floats are the same within a relative
    `tolerance`; of texts and labels the `top` changes are told. Raises ConfigurationError."""
    with sides(warehouse, run_a, run_b) as found:
        db, columns = found.db, found.columns()
        found.pair(columns)
        different = [column.differs(number, tolerance) for number, column in enumerate(columns)]
        changed = " OR ".join(["was <> is_now", *different])
        (before, after, added, removed, other, same, compared) = _one(
            found,
            f"""SELECT count(*) FILTER (was {_LIVE}), count(*) FILTER (is_now {_LIVE}),
                count(*) FILTER (NOT was {_LIVE} AND is_now {_LIVE}),
                count(*) FILTER (was {_LIVE} AND NOT is_now {_LIVE}),
                count(*) FILTER (was {_LIVE} AND is_now {_LIVE} AND ({changed})),
                count(*) FILTER (was {_LIVE} AND is_now {_LIVE} AND NOT ({changed})),
                count(*) FILTER (was = 'ok' AND is_now = 'ok') FROM pairs""",
        )
        shared, shared_ok = _one(
            found, "SELECT count(*) FILTER (status <> 'gone'), count(*) FILTER (status = 'ok') FROM common"
        )
        states = db.execute(
            "SELECT was, is_now, count(*) AS n FROM pairs WHERE was <> is_now GROUP BY ALL ORDER BY n DESC, 1, 2"
        ).fetchall()
        return Diff(
            run_a=run_a,
            run_b=run_b,
            table=found.records[0].table,
            whole_table=found.whole,
            before=before + shared,
            after=after + shared,
            added=added,
            removed=removed,
            changed=other,
            same=same + shared,
            compared=compared + shared_ok,
            steps=_steps(found),
            became=[Became(was=was, now=now, items=items) for was, now, items in states],
            columns=_columns(found, columns, different, top),
            fields=_fields(found),
        )


def differing(warehouse: str, run_a: str, run_b: str, column: str, limit: int, tolerance: float = 1e-6) -> pa.Table:
    """The items in which a column differs: where they are, the value before and the value now; of a column of fields,
    the fields that do. Of `status`, all items of another one; of the others, those that are ok on both sides."""
    with sides(warehouse, run_a, run_b) as found:
        found.check(column)
        place = "a.item_id, a.source_uri, a.page"
        if column in found.of_type(FIELDS):
            ok, names = (
                "SELECT item_id FROM {} WHERE status = 'ok'",
                f"SELECT item_id, source_uri, page, unnest({quoted(column)}) AS f FROM",
            )
            query = f"""SELECT coalesce(a.source_uri, b.source_uri) AS source_uri, coalesce(a.f.name, b.f.name) AS name,
                   a.f.value AS a, b.f.value AS b
                FROM ({names} a WHERE status = 'ok' AND item_id IN ({ok.format("b")})) AS a
                FULL JOIN ({names} b WHERE status = 'ok' AND item_id IN ({ok.format("a")})) AS b
                ON (a.item_id, a.f.name) = (b.item_id, b.f.name)
                WHERE a.f.value IS DISTINCT FROM b.f.value ORDER BY ALL LIMIT {limit}"""
        elif column == "status":
            found.pair([])
            query = f"""SELECT item_id, coalesce(a.source_uri, b.source_uri) AS source_uri,
                    coalesce(a.page, b.page) AS page, was AS a, is_now AS b
                FROM pairs LEFT JOIN a USING (item_id) LEFT JOIN b USING (item_id)
                WHERE was <> is_now ORDER BY source_uri, page LIMIT {limit}"""
        else:
            one = next(each for each in found.columns() if each.name == column)
            values = f"{one.sql} AS {{}}, {quoted(column)} AS value, item_id, source_uri, page, status FROM {{}}"
            query = f"""SELECT {place}, a.value AS a, b.value AS b
                FROM (SELECT {values.format("a0", "a")}) AS a
                JOIN (SELECT {values.format("b0", "b")}) AS b USING (item_id)
                WHERE a.status = 'ok' AND b.status = 'ok' AND {one.differs(0, tolerance)}
                ORDER BY a.source_uri, a.page LIMIT {limit}"""
        return found.db.sql(query).to_arrow_table()


def _one(found: Sides, query: str) -> tuple[Any, ...]:
    (row,) = found.db.execute(query).fetchall()
    return tuple(row)


def _columns(found: Sides, columns: list[Compared], different: list[str], top: int) -> list[ColumnChange]:
    """In the order of how many items differ."""
    counts = ["count(*)"]
    for number, (column, differs) in enumerate(zip(columns, different, strict=True)):
        a, b = f"a{number}", f"b{number}"
        shift = f"{b}::DOUBLE - {a}::DOUBLE" if column.kind in ("number", "float") else "NULL::DOUBLE"
        finite = f"FILTER (isfinite({shift}))"
        counts += [
            f"count(*) FILTER ({differs})",
            f"count(*) FILTER ({a} IS NULL AND {b} IS NOT NULL)",
            f"count(*) FILTER ({b} IS NULL AND {a} IS NOT NULL)",
            f"avg({shift}) {finite}",
            f"arg_max({shift}, abs({shift})) {finite}",
        ]
    row = _one(found, f"SELECT {', '.join(counts)} FROM pairs WHERE was = 'ok' AND is_now = 'ok'")
    spreads = [_spreads(found, columns, side) for side in ("a", "b")]
    changes = []
    for number, column in enumerate(columns):
        differ, appeared, vanished, mean, largest = row[1 + 5 * number : 6 + 5 * number]
        change = ColumnChange(
            column=column.name,
            kind=column.kind,
            of_source=column.of_source,
            differ=differ,
            appeared=appeared,
            vanished=vanished,
            mean_shift=mean,
            largest_shift=largest,
            before=spreads[0].get(column.name),
            after=spreads[1].get(column.name),
        )
        if differ and column.kind == "category":
            became = found.db.execute(
                f"""SELECT a{number}, b{number}, count(*) AS n FROM pairs
                WHERE was = 'ok' AND is_now = 'ok' AND {different[number]}
                GROUP BY ALL ORDER BY n DESC, 1, 2 LIMIT {top}"""
            ).fetchall()
            change.became = [Became(was=was, now=now, items=items) for was, now, items in became]
        changes.append(change)
    return sorted(changes, key=lambda change: -change.differ)


def _spreads(found: Sides, columns: list[Compared], side: str) -> dict[str, Spread]:
    """Of the numbers, over all items of a side that are ok."""
    numbers = [column for column in columns if column.kind in ("number", "float")]
    if not numbers:
        return {}
    chosen = ", ".join(f"{column.sql}::DOUBLE AS c{number}" for number, column in enumerate(numbers))
    rows = " UNION ALL ".join(f"SELECT {chosen} FROM {name} WHERE status = 'ok'" for name in (side, "common"))
    (items,) = _one(found, f"SELECT count(*) FROM ({rows})")
    quantile = "quantile_cont" if items <= EXACT else "approx_quantile"
    told = ", ".join(
        f"count(c{n}), avg(c{n}) FILTER (isfinite(c{n})), {quantile}(c{n}, 0.5), {quantile}(c{n}, 0.95)"
        for n in range(len(numbers))
    )
    row = _one(found, f"SELECT {told} FROM ({rows})")
    return {
        column.name: Spread(values=row[4 * n], mean=row[4 * n + 1], p50=row[4 * n + 2], p95=row[4 * n + 3])
        for n, column in enumerate(numbers)
    }


def _steps(found: Sides) -> list[StepChange]:
    """The steps whose settings differ between the pipelines of the runs, or their fingerprints between the items."""
    made: dict[int, dict[str, str]] = {}
    for side in "ab":
        rows = found.db.execute(f"SELECT DISTINCT hash(fingerprints), fingerprints FROM {side}").fetchall()
        made |= {key: dict(value) for key, value in rows if value}
    items: Counter[str] = Counter()
    pairs = found.db.execute(
        """SELECT made_a, made_b, count(*) FROM pairs
        WHERE was = 'ok' AND is_now = 'ok' AND made_a <> made_b GROUP BY ALL"""
    ).fetchall()
    for key_a, key_b, count in pairs:
        a, b = made.get(key_a, {}), made.get(key_b, {})
        for step in a.keys() | b.keys():
            if a.get(step) != b.get(step):
                items[step] += count
    first, second = ({step.name: step for step in record.request.pipeline.steps} for record in found.records)
    changes: list[StepChange] = []
    for name in [*second, *(name for name in first if name not in second), *sorted(items)]:
        settings = _settings(first.get(name), second.get(name))
        if (settings or items[name]) and name not in {one.step for one in changes}:
            kind = "changed" if (name in first) == (name in second) else "added" if name in second else "removed"
            changes.append(StepChange(step=name, change=kind, items=items[name], settings=settings))
    return changes


def _settings(a: Step | None, b: Step | None) -> dict[str, tuple[Any, Any]]:
    told: list[Mapping[str, Any]] = [
        {"op": step.op, "when": step.when, **{f"config.{key}": value for key, value in step.config.items()}}
        if step else {}
        for step in (a, b)
    ]  # fmt: skip
    names = dict.fromkeys([*told[0], *told[1]])
    return {name: (told[0].get(name), told[1].get(name)) for name in names if told[0].get(name) != told[1].get(name)}


def _fields(found: Sides) -> list[FieldChange]:
    """By step and name, over the documents that have an item that is ok on both sides."""
    if not found.of_type(FIELDS):
        return []
    view = next(view for view in views(found.schema, found.steps) if view.name == "fields")
    sql = {side: view.over(side) for side in ("a", "b", "common")}
    kind = r"regexp_replace(name, '\[\d+\]', '[]')"
    documents = "SELECT object_id FROM pairs GROUP BY ALL HAVING bool_or(was = 'ok') AND bool_or(is_now = 'ok')"
    kept = "SELECT object_id, step, name, any_value(value) AS value FROM ({}) SEMI JOIN documents USING (object_id)"
    rows = found.db.execute(
        f"""WITH documents AS ({documents}),
        old AS ({kept.format(sql["a"])} GROUP BY ALL), new AS ({kept.format(sql["b"])} GROUP BY ALL),
        found AS (
            SELECT step, name, old.object_id IS NOT NULL AS was, new.object_id IS NOT NULL AS is_now,
                   old.value IS NOT DISTINCT FROM new.value AS same
            FROM old FULL JOIN new USING (object_id, step, name)
            UNION ALL SELECT step, name, true, true, true FROM ({sql["common"]}))
        SELECT step, {kind} AS field, count(*) FILTER (was AND is_now AND same),
               count(*) FILTER (was AND is_now AND NOT same), count(*) FILTER (NOT is_now), count(*) FILTER (NOT was)
        FROM found GROUP BY ALL ORDER BY step, field"""
    ).fetchall()
    return [
        FieldChange(step=step, name=name, same=same, different=different, only_before=a, only_after=b)
        for step, name, same, different, a, b in rows
    ]
