"""What a person must decide: SQL over a pipeline's table and the decisions that were taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from swath.schemas.columns import Column
from swath.schemas.corrections import DECIDED
from swath.schemas.items import MANIFEST, VERDICT
from swath.schemas.sql import literal, quoted, shape, sql_type
from swath.schemas.types import FIELDS, MATCHES
from swath.schemas.views import PLACE, STEP, TABLE, View

REASONS = ("missing", "failed_check", "low_confidence", "mismatch", "unknown", "retake", "rejected")
"""Why a person must look."""
SPARED = ("customer", "email", "issuer_address", "phone", "website", "line_items.description", "line_items.quantity")
"""Fields about whose low confidence nobody is asked unless they are named: no payment hangs on them, and what an item's
amounts add up to is checked."""
_OURS = {column.name: column for column in (*MANIFEST, *VERDICT, *DECIDED)}
_BOX = {
    side: Column(side, pa.float32(), f"{edge} edge of its box in the source picture", "pixels")
    for side, edge in (("x_min", "Left"), ("y_min", "Top"), ("x_max", "Right"), ("y_max", "Bottom"))
}
VALUE = (
    Column("review_id", pa.string(), "Name of the value: `swath review decide` takes it"),
    Column("field", pa.string(), "Field it is about; of a match, the first that differs"),
    Column("value", pa.string(), "The value as it was read; null where there is none"),
    Column("confidence", pa.float32(), "Probability that it is right, 0 to 1; null where nothing says"),
    Column("reason", pa.string(), "Why a person must look: " + ", ".join(REASONS)),
    Column("detail", pa.string(), "What is wrong with it, in words"),
    _OURS["object_id"],
    *PLACE,
    STEP,
    _OURS["path"],
    *_BOX.values(),
    _OURS["document_type"],
    _OURS["engine"],
    *(_OURS[name] for name in ("etag", "run_id", "fingerprint")),
)
STALE = Column("stale_value", pa.string(), "What was decided on an older version of the document; it does not count")


@dataclass(frozen=True)
class Rules:
    """When a person must look."""

    threshold: float = 0.8
    """Confidence below which a value is doubtful."""
    required: tuple[str, ...] = ()
    """Fields that every document must have."""
    fields: tuple[str, ...] = ()
    """The only fields that anybody is asked about, `line_items` for all of an item; empty: all, but for a low
    confidence of those that are `SPARED`."""


def is_reviewed(schema: pa.Schema) -> bool:
    """Whether a table has values that people decide about: fields of documents, or matches."""
    return any(shape(field.type) in (shape(FIELDS), shape(MATCHES)) for field in schema)


def values(schema: pa.Schema, steps: Mapping[str, str], pipeline: str, rules: Rules) -> str:
    """SQL over TABLE of every value that can be decided."""
    parts = [*_field_values(schema, steps, rules), *_match_values(schema, steps), *_page_values(schema, steps)]
    names = ", ".join(quoted(column.name) for column in VALUE[1:])
    key = f"left(md5(concat_ws('|', {literal(pipeline)}, object_id, path)), 16)"
    return f"SELECT {key} AS review_id, {names} FROM ({' UNION ALL '.join(parts)})"


def review(values: str, decisions: str) -> View:
    """What is still to be decided."""
    columns = (*VALUE, STALE)
    sql = (
        f"SELECT v.*, d.after AS stale_value FROM {values} v LEFT JOIN {decisions} d USING (object_id, path) "
        "WHERE v.reason IS NOT NULL AND (d.path IS NULL OR d.etag IS DISTINCT FROM v.etag)"
    )
    return View("review", "One row a thing that a person must decide", columns, sql)


def review_rate(stored: str, values: str) -> View:
    """How many documents of each run needed nobody."""
    columns = (
        _OURS["run_id"],
        Column("documents", pa.int64(), "Documents whose rows the run made", "documents"),
        Column("first_pass", pa.int64(), "Those about which nothing is to be decided", "documents"),
        Column("first_pass_rate", pa.float64(), "Share of the documents about which nothing is to be decided, 0 to 1"),
    )
    sql = (
        f"SELECT run_id, count(*) AS documents, count(*) FILTER (passed) AS first_pass, "
        "count(*) FILTER (passed) / count(*) AS first_pass_rate FROM ("
        "SELECT object_id, max(run_id) AS run_id, "
        f"object_id NOT IN (SELECT object_id FROM {values} WHERE reason IS NOT NULL) AS passed "
        f"FROM {stored} WHERE status <> 'gone' GROUP BY object_id) GROUP BY run_id"
    )
    return View("review_rate", "One row a run: the share of its documents that needed nobody", columns, sql)


# --- what can be decided --------------------------------------------------------------------------------------------


def _select(source: str, schema: pa.Schema, **given: str) -> str:
    """One part of `values`: the row's own columns where nothing else is given."""
    place = {name: f"r.{quoted(name)}" for name in ("object_id", "item_id", "source_uri", "partition", "page")}
    place |= {name: f"r.{name}" for name in ("etag", "run_id", "fingerprint")}
    columns = {
        "document_type": "r.document_type" if "document_type" in schema.names else "NULL",
        "engine": "r.ocr_engine" if "ocr_engine" in schema.names else "NULL",
        **place,
        **given,
    }
    chosen = ", ".join(
        f"CAST({columns.get(column.name, 'NULL')} AS {sql_type(column.type)}) AS {quoted(column.name)}"
        for column in VALUE[1:]
    )
    return f"SELECT {chosen} FROM {source}"


def _field_values(schema: pa.Schema, steps: Mapping[str, str], rules: Rules) -> Iterator[str]:
    required = ", ".join(map(literal, rules.required))
    must_be = f"element.name IN ({required})" if required else "false"
    engine = "p.ocr_engine" if "ocr_engine" in schema.names else "NULL"
    failed, checks = "coalesce(len(element.failed_checks), 0) > 0", "array_to_string(element.failed_checks, ', ')"
    lacks = "'the document must have it, and none was found'"
    sure = "coalesce(element.confidence, 0)"
    agreed = " || ".join(f"coalesce([m.field for m in r.{quoted(name)} if m.outcome = 'matched'], [])"
                         for name in columns_of(schema, MATCHES)) or "[]"  # fmt: skip
    spared = ", ".join(map(literal, () if rules.fields else SPARED))
    unasked = f"regexp_replace(element.name, '\\[\\d+\\]', '') IN ({spared})" if spared else "false"
    doubtful = f"{sure} < {rules.threshold} AND NOT list_contains({agreed}, element.name) AND NOT {unasked}"
    asked = ", ".join(map(literal, (*rules.fields, *rules.required)))
    matters = f"split_part(element.name, '[', 1) IN ({asked})" if rules.fields else "true"
    for column in columns_of(schema, FIELDS):
        step, prefix = steps.get(column, column), literal(f"{column}.")
        source = f"(SELECT *, unnest({quoted(column)}) AS element FROM {TABLE} WHERE status <> 'gone') r"
        page = f"LEFT JOIN {TABLE} p ON p.item_id = coalesce(element.item_id, r.item_id)"
        yield _select(
            f"{source} {page}",
            schema,
            step=literal(step),
            item_id="coalesce(element.item_id, r.item_id)",
            page="coalesce(element.page, p.page)",
            engine=engine,
            path=f"{prefix} || element.name",
            field="element.name",
            value="element.value",
            confidence="element.confidence",
            reason=f"CASE WHEN NOT {matters} THEN NULL "
            f"WHEN element.value IS NULL AND ({failed} OR element.raw IS NOT NULL OR {must_be}) THEN 'missing' "
            "WHEN element.value IS NULL THEN NULL "
            f"WHEN {failed} THEN 'failed_check' WHEN {doubtful} THEN 'low_confidence' END",
            detail="CASE WHEN element.value IS NULL THEN "
            f"coalesce('cannot be read: ' || element.raw, nullif({checks}, ''), {lacks}) WHEN {failed} THEN {checks} "
            f"WHEN {doubtful} THEN printf('confidence %.2f is below %.2f', {sure}, {rules.threshold}::FLOAT) END",
            **{side: f"element.box.{side}" for side in _BOX},
        )
        if required:
            lacking = f"NOT list_contains([f.name for f in {quoted(column)}], name)"
            named = f"(SELECT *, unnest([{required}]) AS name FROM {TABLE} WHERE status <> 'gone')"
            yield _select(
                f"(FROM {named} WHERE {quoted(column)} IS NOT NULL AND {lacking}) r",
                schema,
                step=literal(step),
                path=f"{prefix} || name",
                field="name",
                reason="'missing'",
                detail=lacks,
            )


def _match_values(schema: pa.Schema, steps: Mapping[str, str]) -> Iterator[str]:
    for column in columns_of(schema, MATCHES):
        status = match_status(schema, column)
        if status is None:
            continue
        differ = f"[m for m in {quoted(column)} if m.outcome <> 'matched']"
        read = [f"[f for f in {quoted(name)} if f.name = differ[1].field]" for name in columns_of(schema, FIELDS)]
        fields = " || ".join(f"coalesce({one}, [])" for one in read)
        read_as = f"({fields})[1]" if read else "NULL"
        said = (
            "m.field || CASE WHEN m.outcome = 'unknown' AND m.expected IS NULL "
            "THEN coalesce(' ' || m.found || ' is in no row', ' was not read') "
            "ELSE coalesce(' ' || m.found, ' is missing') || ', expected ' || coalesce(m.expected, 'nothing') END "
            "|| CASE WHEN m.difference IS NOT NULL THEN printf(' (%+.2f)', m.difference) "
            "WHEN m.similarity IS NOT NULL THEN printf(' (likeness %.2f)', m.similarity) ELSE '' END"
        )
        rows = f"(SELECT *, {differ} AS differ FROM {TABLE} WHERE status <> 'gone' AND {quoted(status)} IS NOT NULL)"
        yield _select(
            f"(SELECT *, {read_as} AS element FROM {rows}) r",
            schema,
            step=literal(steps.get(column, column)),
            path=literal(status),
            field="differ[1].field",
            value=f"r.{quoted(status)}",
            reason=f"CASE WHEN r.{quoted(status)} <> 'matched' THEN r.{quoted(status)} END",
            detail=f"array_to_string([{said} for m in differ], '; ')",
            **(
                {
                    "item_id": "coalesce(element.item_id, r.item_id)",
                    "page": "coalesce(element.page, r.page)",
                    "confidence": "element.confidence",
                    **{side: f"element.box.{side}" for side in _BOX},
                }
                if read
                else {}
            ),
        )


def _page_values(schema: pa.Schema, steps: Mapping[str, str]) -> Iterator[str]:
    """Of each page: whether it could be read at all, and whether its picture is good enough."""
    yield _select(
        f"(FROM {TABLE} WHERE status = 'rejected') r",
        schema,
        step="r.reject_operator",
        path=page_path("status"),
        field="'status'",
        value="r.status",
        reason="'rejected'",
        detail="concat_ws(': ', r.reject_reason, r.reject_message)",
    )
    if "page_retake" in schema.names:
        yield _select(
            f"(FROM {TABLE} WHERE status = 'ok' AND len(page_retake) > 0) r",
            schema,
            step=literal(steps.get("page_retake", "page_retake")),
            path=page_path("page_retake"),
            field="'page_retake'",
            value="array_to_string(r.page_retake, ', ')",
            reason="'retake'",
            detail="'photograph the page again: ' || array_to_string(r.page_retake, ', ')",
        )
    elif {"quality_verdict", "quality_reasons"} <= set(schema.names):
        yield _select(
            f"(FROM {TABLE} WHERE status = 'ok' AND quality_verdict IS NOT NULL) r",
            schema,
            step=literal(steps.get("quality_verdict", "quality_verdict")),
            path=page_path("quality_verdict"),
            field="'quality_verdict'",
            value="r.quality_verdict",
            reason="CASE WHEN r.quality_verdict = 'poor' THEN 'retake' END",
            detail="array_to_string(r.quality_reasons, ', ')",
        )


def page_path(name: str) -> str:
    """SQL of the path of a value of a page: `pages[2].quality_verdict`."""
    return f"'pages[' || coalesce(r.page, 1) || '].{name}'"


def match_status(schema: pa.Schema, matches: str) -> str | None:
    """The column with the outcome that belongs to a column of matches."""
    name = matches.removesuffix("matches") + "match_status"
    return name if name in schema.names else None


def field_columns(stored: View) -> list[str]:
    """The columns of a table that hold fields."""
    return [column.name for column in stored.columns if shape(column.type) == shape(FIELDS)]


def columns_of(schema: pa.Schema, kind: pa.DataType) -> list[str]:
    return [field.name for field in schema if shape(field.type) == shape(kind)]
