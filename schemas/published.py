"""The values that count: what was read, with what people decided in its place, and where each comes from.

Hidden relations of a pipeline: `_decisions` (the latest of each document and path), `_values` (every value that can be
decided, with the reason where a person must), `_published` (the table with the decided values in place).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from swath.schemas.columns import Column
from swath.schemas.items import TIMESTAMP
from swath.schemas.review import columns_of, match_status, page_path
from swath.schemas.sql import literal, quoted, sql_type
from swath.schemas.types import FIELDS, MATCHES
from swath.schemas.views import TABLE, View

DECISIONS, VALUES, PUBLISHED = "_decisions", "_values", "_published"
ORIGIN = (
    Column("raw_value", pa.string(), "The value as it was read, without anybody's correction"),
    Column("origin", pa.string(), "machine; confirmed, corrected or absent by a person; or stale, see decided_value"),
    Column("decided_value", pa.string(), "What a person decided; stale: on an older version, so it does not count"),
    Column("decided_by", pa.string(), "Who decided; null where nobody did"),
    Column("decided_at", TIMESTAMP, "When; null where nobody did"),
)
"""What the view `fields` has beside the value that counts."""
OF_DOCUMENT = (
    Column("corrected_fields", pa.list_(pa.string()), "Paths of its values that are another than was read"),
    Column("to_review", pa.int64(), "What a person must still decide about it", "decisions"),
)
"""What the view `documents` has beside the values that count."""


def decisions(pipeline: str, corrections: str) -> str:
    """SQL of the latest decision of each document and path; of two of one instant, always the same."""
    newest = "row_number() OVER (PARTITION BY object_id, path ORDER BY decided_at DESC, correction_id DESC) = 1"
    return f"SELECT * FROM {corrections} WHERE pipeline = {literal(pipeline)} QUALIFY {newest}"


def published(schema: pa.Schema, decisions: str) -> str:
    """SQL over TABLE of its rows with the decided values in place of the machine's."""
    replaced = {column: _decided_fields(schema, column) for column in columns_of(schema, FIELDS)}
    for column in columns_of(schema, MATCHES):
        if status := match_status(schema, column):
            replaced[status] = _decided_text(literal(status), status)
    if "quality_verdict" in schema.names:
        replaced["quality_verdict"] = _decided_text(page_path("quality_verdict"), "quality_verdict")
    if "page_retake" in schema.names:
        decided = f"d.by_path[{page_path('page_retake')}]"
        is_fine = f"{decided} IS NOT NULL AND {decided}.after IS NULL"
        replaced["page_retake"] = f"CASE WHEN {is_fine} THEN [] ELSE r.page_retake END"
    columns = ", ".join(f"{value} AS {quoted(name)}" for name, value in replaced.items())
    by_path = (
        "SELECT object_id, etag, map_from_entries(list({'k': path, 'v': {'after': after}})) AS by_path "
        f"FROM {decisions} GROUP BY object_id, etag"
    )
    return (
        f"SELECT r.* REPLACE ({columns}) FROM {TABLE} r "
        f"LEFT JOIN ({by_path}) d ON d.object_id = r.object_id AND d.etag = r.etag"
    )


def _decided_text(path: str, column: str) -> str:
    decided = f"d.by_path[{path}]"
    own = f"r.{quoted(column)}"  # null on the pages whose document it is not about
    return f"CASE WHEN {own} IS NULL OR {decided} IS NULL THEN {own} ELSE {decided}.after END"


def _decided_fields(schema: pa.Schema, column: str) -> str:
    """The list with the decided values, and with those that people added."""
    kind = schema.field(column).type
    path = f"d.by_path[{literal(column + '.')} || f.name]"
    instead = {"value": f"{path}.after", "confidence": "1", "failed_checks": "[]"}
    own, added = [], []
    for member in kind.value_type:
        kept = f"f.{quoted(member.name)}"
        value = instead.get(member.name)
        own.append(f"{literal(member.name)}: " + (f"CASE WHEN {path} IS NULL THEN {kept} ELSE {value} END" if value
                                                  else kept))  # fmt: skip
        new = {"name": "f.name", "item_id": "r.item_id", "page": "r.page", **instead}.get(member.name, "NULL")
        added.append(f"{literal(member.name)}: {new}")
    listed, start = f"r.{quoted(column)}", literal(column + ".")
    name, known = f"substr(e.key, {len(column) + 2})", f"[f.name for f in {listed}]"
    entries = (
        f"[{{'name': {name}}} for e in map_entries(d.by_path) if starts_with(e.key, {start}) "
        f"AND e.value.after IS NOT NULL AND NOT list_contains({known}, {name})]"
    )
    as_it_is = sql_type(kind)
    return (
        f"CASE WHEN {listed} IS NULL OR d.by_path IS NULL THEN {listed} ELSE "
        f"CAST([{{{', '.join(own)}}} for f in {listed}] AS {as_it_is}) || "
        f"CAST([{{{', '.join(added)}}} for f in {entries}] AS {as_it_is}) END"
    )


def with_origin(fields: View, schema: pa.Schema, steps: Mapping[str, str], published: str, decisions: str) -> View:
    """The view `fields` with `ORIGIN` beside the value that counts."""
    columns = columns_of(schema, FIELDS)
    if not columns:
        nulls = ", ".join(f"CAST(NULL AS {sql_type(column.type)}) AS {quoted(column.name)}" for column in ORIGIN)
        return replace(fields, columns=(*fields.columns, *ORIGIN), sql=f"SELECT *, {nulls} FROM ({fields.sql})")
    raw = " UNION ALL ".join(
        f"SELECT object_id, {literal(column + '.')} || element.name AS path, any_value(element.value) AS raw_value "
        f"FROM (SELECT object_id, unnest({quoted(column)}) AS element FROM {TABLE} "
        f"WHERE object_id IN (SELECT object_id FROM {decisions})) GROUP BY ALL"
        for column in columns
    )
    now = f"SELECT object_id, any_value(etag) AS now FROM {TABLE} WHERE status <> 'gone' GROUP BY object_id"
    prefixes = " ".join(f"WHEN {literal(steps.get(column, column))} THEN {literal(column + '.')}" for column in columns)
    sql = (
        "SELECT f.*, CASE WHEN d.path IS NULL THEN f.value ELSE raw.raw_value END AS raw_value, "
        "CASE WHEN d.path IS NULL THEN 'machine' WHEN d.etag IS DISTINCT FROM d.now THEN 'stale' ELSE d.decision END "
        "AS origin, d.after AS decided_value, d.decided_by, d.decided_at "
        f"FROM ({fields.over(published)}) f "
        f"LEFT JOIN (SELECT d.*, now FROM {decisions} d JOIN ({now}) USING (object_id)) d "
        f"ON d.source_uri = f.source_uri AND d.path = CASE f.step {prefixes} END || f.name "
        f"LEFT JOIN ({raw}) raw ON raw.object_id = d.object_id AND raw.path = d.path"
    )
    return replace(fields, columns=(*fields.columns, *ORIGIN), sql=sql)


def with_review(documents: View, published: str, decisions: str, review: str) -> View:
    """The view `documents` with `OF_DOCUMENT` beside the values that count."""
    corrected = (
        f"SELECT object_id, etag, list(path ORDER BY path) AS paths FROM {decisions} "
        "WHERE after IS DISTINCT FROM machine_value GROUP BY object_id, etag"
    )
    now = f"SELECT object_id, any_value(etag) AS etag FROM {TABLE} WHERE status <> 'gone' GROUP BY object_id"
    sql = (
        "SELECT d.*, coalesce(c.paths, []) AS corrected_fields, coalesce(w.things, 0) AS to_review "
        f"FROM ({documents.over(published)}) d "
        f"LEFT JOIN (FROM ({corrected}) JOIN ({now}) USING (object_id, etag)) c USING (object_id) "
        f"LEFT JOIN (SELECT object_id, count(*) AS things FROM {review} GROUP BY object_id) w USING (object_id)"
    )
    return replace(documents, columns=(*documents.columns, *OF_DOCUMENT), sql=sql)
