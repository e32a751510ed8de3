"""Flat views over the nested columns of a pipeline's table, generated from the table's own schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from swath.schemas.columns import Column, doc_and_unit
from swath.schemas.duplicates import DUPLICATES, duplicates_sql
from swath.schemas.flights import (
    FLIGHT_COLUMNS,
    FLIGHT_SEGMENTS,
    FLIGHTS,
    SEGMENT_COLUMNS,
    flight_segments_sql,
    flights_sql,
    footprint_of,
)
from swath.schemas.items import MANIFEST, TIMESTAMP, VERDICT, Status
from swath.schemas.sql import literal, quoted, shape, sql_type
from swath.schemas.types import (
    CODES,
    DETECTIONS,
    EMBEDDING,
    FIELDS,
    INDICES,
    INSTANCES,
    LABELS,
    LINES,
    MATCHES,
    REGIONS,
    SEGMENTS,
    is_of,
)

TABLE = "{table}"
"""Stands in a view's SQL for the relation it reads."""

STANDARD = (
    Column("format", pa.string(), "Format of the file"),
    Column("width_px", pa.int32(), "Width of the source picture", "pixels"),
    Column("height_px", pa.int32(), "Height of the source picture", "pixels"),
    Column("captured_at", TIMESTAMP, "When the picture was taken"),
    Column("latitude", pa.float64(), "Latitude of the camera, WGS 84, north is positive", "degrees"),
    Column("longitude", pa.float64(), "Longitude of the camera, WGS 84, east is positive", "degrees"),
    Column("altitude_m", pa.float64(), "Altitude of the camera above sea level", "metres"),
    Column("sharpness", pa.float32(), "Share of an edge's height in its steepest pixel, 0 to 1"),
    Column("brightness", pa.float32(), "Mean luma, 0 black to 1 white"),
    Column("shadows", pa.float32(), "1st percentile of luma, 0 to 1"),
    Column("highlights", pa.float32(), "99th percentile of luma, 0 to 1"),
    Column("contrast", pa.float32(), "Standard deviation of luma, 0 to 0.5"),
    Column("noise", pa.float32(), "Standard deviation of the grain, share of white"),
    Column("clipped_fraction", pa.float32(), "Share of pixels that are as good as black or white, 0 to 1"),
    Column("quality_verdict", pa.string(), "good, or poor where there is a reason"),
    Column("quality_reasons", pa.list_(pa.string()), "What is wrong with the picture"),
    Column("phash", pa.string(), "Perceptual hash"),
)
"""Columns that `items` has for every pipeline; typed nulls where no step makes them."""
_WINDOW = 'Part of the raster; null for the whole. SQL wants the name in quotes: "window"'
_OURS = {column.name: column for column in (*MANIFEST, *VERDICT)}
_HEAD = ("item_id", "object_id", "source_uri", "etag", "size_bytes", "partition", "page", "window")
_TAIL = (
    *("status", "reject_operator", "reject_reason", "reject_message"),
    *("run_id", "wave", "fingerprint", "models", "processed_at"),
)

PLACE = tuple(_OURS[name] for name in ("item_id", "source_uri", "partition", "page"))
"""What every flat view has of its item."""
STEP = Column("step", pa.string(), "Step of the pipeline that says so")
_RANK = Column("rank", pa.int32(), "Position among the item's labels, from 1")
_LINE = Column("line", pa.int32(), "Position of the line in the item, from 1")
_DETECTION = Column("detection", pa.int32(), "Position of the detection in the item, from 1")
_INSTANCE = Column("instance", pa.int32(), "Position of the instance in the item, from 1; its value in the mask")
_REGION = Column("region", pa.int32(), "Position of the region in the item, from 1")
_CODE = Column("code", pa.int32(), "Position of the code in the item, from 1")
_OTHER = tuple(replace(_OURS[name], name=f"other_{name}") for name in ("item_id", "source_uri", "page"))
_ALIKE = (
    Column("differing_bits", pa.int32(), "Bits of 64 in which their perceptual hashes differ; 0 to 6", "bits"),
    Column("similarity", pa.float32(), "Cosine of their embeddings, -1 to 1; null where a step made none"),
)
_WORD = Column("word", pa.int32(), "Position of the word in its line, from 1")


@dataclass(frozen=True)
class View:
    """A named, documented query over one relation."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    sql: str
    """DuckDB SQL; `{table}` stands for the relation."""

    def over(self, relation: str) -> str:
        """The SQL over a relation; a name must come quoted."""
        return self.sql.replace(TABLE, relation)


@dataclass(frozen=True)
class _Flat:
    """A view with a row for every element of the columns of one nested type."""

    name: str
    doc: str
    type: pa.ListType
    unnest: tuple[tuple[str, Column | None], ...]
    """The lists on the way down: path in the element above, column that gets the position (from 1)."""
    fields: tuple[str, ...]
    """Paths in the last element; the column is called like the last part."""


_BOX = ("box.x_min", "box.y_min", "box.x_max", "box.y_max")
_FLAT = (
    _Flat("labels", "One row a label of an item", LABELS, (("", _RANK),), ("label", "score")),
    _Flat(
        "segments",
        "One row a class that covers a part of an item",
        SEGMENTS,
        (("", None),),
        ("label", "fraction", "pixels", "area_m2"),
    ),
    _Flat(
        "indices",
        "One row a spectral index of an item",
        INDICES,
        (("", None),),
        ("name", "mean", "std", "p05", "p25", "p50", "p75", "p95", "pixels", "valid_fraction", "calibrated", "note"),
    ),
    _Flat(
        "detections",
        "One row an object that was detected",
        DETECTIONS,
        (("", _DETECTION),),
        ("label", "score", "area_m2", "ground", *_BOX),
    ),
    _Flat(
        "instances",
        "One row a thing or region of which the outlines are known",
        INSTANCES,
        (("", _INSTANCE),),
        ("label", "score", "pixels", "area_m2", "outline", "ground", *_BOX),
    ),
    _Flat("lines", "One row a line of text", LINES, (("", _LINE),), ("text", "confidence", *_BOX)),
    _Flat(
        "matches",
        "One row a field that was compared with a reference table",
        MATCHES,
        (("", None),),
        ("key", "field", "found", "expected", "outcome", "difference", "similarity"),
    ),
    _Flat(
        "regions",
        "One row a region of a page: header, paragraph, table, cell, totals_block, signature, stamp, logo, checkbox",
        REGIONS,
        (("", _REGION),),
        ("kind", "text", "confidence", "row", "column", "state", "parent", *_BOX),
    ),
    _Flat(
        "codes",
        "One row a barcode or QR code; what it says was written by a stranger",
        CODES,
        (("", _CODE),),
        ("format", "text", *_BOX),
    ),
    _Flat("words", "One row a word", LINES, (("", _LINE), ("words", _WORD)), ("text", "confidence", *_BOX)),
)


_FIELD = {name: FIELDS.value_type.field(name) for name in ("name", "value", "raw", "confidence", "failed_checks")}
_PAGES = Column("pages", pa.int64(), "Its pages, those that were rejected too", "pages")
_DOCUMENT = (
    Column("issuer", pa.string(), "Who wrote it"),
    Column("issuer_address", pa.string(), "Where they are"),
    Column("customer", pa.string(), "To whom it was written"),
    Column("document_number", pa.string(), "Its number"),
    Column("purchase_order", pa.string(), "The order it belongs to"),
    Column("issue_date", pa.date32(), "When it was written"),
    Column("due_date", pa.date32(), "When it is to be paid"),
    Column("currency", pa.string(), "ISO 4217 code of its amounts"),
    Column("net", pa.decimal128(18, 2), "Sum without tax", "units of its currency"),
    Column("tax", pa.decimal128(18, 2), "Tax on the sum", "units of its currency"),
    Column("total", pa.decimal128(18, 2), "What is to be paid", "units of its currency"),
    Column("iban", pa.string(), "Account it is to be paid to"),
    Column("tax_id", pa.string(), "Tax number of who wrote it"),
)
"""The main fields of a document as columns of `documents`; null where there is none, or its value does not fit."""


def views(schema: pa.Schema, steps: Mapping[str, str]) -> list[View]:
    """The views of a table: items, labels, segments, lines, words, fields, documents, rejects, stored ...

    `schema` is the table's, docs in its fields' metadata; `steps` names the step that made a column (the
    column's own name where it is missing). All views exist for every table, empty where it has no such column.
    """
    flats = (_flat(flat, schema, steps) for flat in _FLAT)
    rest = (_duplicates(schema), *_flights(schema, steps), _rejects(), _stored(schema))
    return [_items(schema), *flats, _fields(schema, steps), _documents(schema), *rest]


def _items(schema: pa.Schema) -> View:
    known = {column.name: column for column in (*_OURS.values(), *STANDARD)}
    others = [field.name for field in schema if field.name not in known and _is_plain(field.type)]
    names = [*_HEAD, *(column.name for column in STANDARD), *others, *_TAIL]
    columns = [_column(schema.field(name)) if name in schema.names else known[name] for name in names]
    selected = [
        quoted(column.name)
        if column.name in schema.names
        else f"CAST(NULL AS {sql_type(column.type)}) AS {quoted(column.name)}"
        for column in columns
    ]
    columns = [replace(column, doc=_WINDOW) if column.name == "window" else column for column in columns]
    doc = "One row an item, rejects and vanished ones included"
    return View("items", doc, tuple(columns), f"SELECT {', '.join(selected)} FROM {TABLE}")


def _flat(flat: _Flat, schema: pa.Schema, steps: Mapping[str, str]) -> View:
    element = _element(flat, flat.type)
    positions = [position for _, position in flat.unnest if position]
    fields = [(path, _nested(element, path)) for path in flat.fields]
    columns = (*PLACE, STEP, *positions, *(column for _, column in fields))
    made_by = [(f, steps.get(f.name, f.name)) for f in schema if is_of(f.type, flat.type)]
    if not made_by:
        return _nothing(flat.name, flat.doc, columns)
    selects = []
    for field, step in made_by:
        source = f"{TABLE} WHERE status <> {literal(Status.GONE)}"
        keep = [quoted(column.name) for column in PLACE]
        for path, position in flat.unnest:
            lists = f"element.{quoted(path)}" if path else quoted(field.name)
            number = (
                [f"CAST(generate_subscripts({lists}, 1) AS INTEGER) AS {quoted(position.name)}"] if position else []
            )
            source = f"(SELECT {', '.join([*keep, *number, f'unnest({lists}) AS element'])} FROM {source})"
            keep += [quoted(position.name)] if position else []
        place, rest = keep[: len(PLACE)], keep[len(PLACE) :]
        there = _element(flat, field.type).names  # a table may be older than a field of its type
        values = [
            f"{f'element.{path}' if path.split('.')[0] in there else f'CAST(NULL AS {sql_type(column.type)})'} "
            f"AS {quoted(column.name)}"
            for path, column in fields
        ]
        chosen = ", ".join([*place, f"{literal(step)} AS step", *rest, *values])
        selects.append(f"SELECT {chosen} FROM {source}")
    return View(flat.name, flat.doc, columns, " UNION ALL ".join(selects))


def _element(flat: _Flat, kind: pa.ListType) -> pa.StructType:
    """What the view has a row for, in a column of such a type."""
    element = kind.value_type
    for path, _ in flat.unnest[1:]:
        element = element.field(path).type.value_type
    return element


def _of_type(kind: pa.DataType, schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if shape(field.type) == shape(kind)]


def _nothing(name: str, doc: str, columns: tuple[Column, ...]) -> View:
    nulls = ", ".join(f"CAST(NULL AS {sql_type(c.type)}) AS {quoted(c.name)}" for c in columns)
    return View(name, doc, columns, f"SELECT {nulls} WHERE false")


def _fields(schema: pa.Schema, steps: Mapping[str, str]) -> View:
    """They stand on the first page of their document, but each says on which page it was found."""
    doc = "One row a field of a document, on the page where it stands"
    box = [_nested(FIELDS.value_type, path) for path in _BOX]
    said = [_column(field) for field in _FIELD.values()]
    columns = (*PLACE, _OURS["object_id"], STEP, *said, *box)
    found = _of_type(FIELDS, schema)
    if not found:
        return _nothing("fields", doc, columns)
    selects = []
    for name in found:
        place = ["coalesce(element.item_id, item_id) AS item_id", "source_uri", "partition"]
        place += ["coalesce(element.page, page) AS page", "object_id", f"{literal(steps.get(name, name))} AS step"]
        values = [f"element.{quoted(column.name)} AS {quoted(column.name)}" for column in said]
        values += [f"element.{path} AS {quoted(column.name)}" for path, column in zip(_BOX, box, strict=True)]
        kept = "item_id, source_uri, partition, page, object_id"
        source = (
            f"(SELECT {kept}, unnest({quoted(name)}) AS element FROM {TABLE} WHERE status <> {literal(Status.GONE)})"
        )
        selects.append(f"SELECT {', '.join([*place, *values])} FROM {source}")
    return View("fields", doc, columns, " UNION ALL ".join(selects))


def _documents(schema: pa.Schema) -> View:
    doc = "One row a document, with its main fields as columns"
    columns = (
        *(_OURS[name] for name in ("object_id", "source_uri", "partition")),
        _PAGES,
        Column("rejected_pages", pa.int64(), "Its pages that could not be processed", "pages"),
        Column("document_type", pa.string(), "What kind of paper it is"),
        Column("document_type_confidence", pa.float32(), "Probability that it is that kind, 0 to 1"),
        *_DOCUMENT,
        Column("line_items", pa.int64(), "How many line items were read", "items"),
        Column("lowest_confidence", pa.float32(), "Of its fields without the line items, 0 to 1"),
        Column("failed_checks", pa.int64(), "How many times a check contradicts a field of it", "checks"),
    )
    found = _of_type(FIELDS, schema)
    kinds = [f.name for f in schema if f"_{f.name}".endswith("_document_type") and shape(f.type) == "string"]
    if not found and not kinds:
        return _nothing("documents", doc, columns)
    there = f"FROM {TABLE} WHERE status <> {literal(Status.GONE)}"
    kind = quoted(kinds[0]) if kinds else "CAST(NULL AS VARCHAR)"
    sure = quoted(f"{kinds[0]}_confidence") if kinds and f"{kinds[0]}_confidence" in schema.names else "NULL"
    pages = (
        "SELECT object_id, min(source_uri) AS source_uri, min(partition) AS partition, count(*) AS pages, "
        f"count(*) FILTER (WHERE status = {literal(Status.REJECTED)}) AS rejected_pages, "
        f"max({kind}) AS document_type, CAST(max({sure}) AS FLOAT) AS document_type_confidence "
        f"{there} GROUP BY object_id"
    )
    elements = " UNION ALL ".join(f"SELECT object_id, unnest({quoted(name)}) AS element {there}" for name in found)
    wide = [
        f"max(CASE WHEN element.name = {literal(c.name)} THEN TRY_CAST(element.value AS {sql_type(c.type)}) END) "
        f"AS {quoted(c.name)}"
        for c in _DOCUMENT
    ]
    item = "starts_with(element.name, 'line_items[')"
    wide += [
        f"count(DISTINCT split_part(element.name, '.', 1)) FILTER (WHERE {item}) AS line_items",
        f"CAST(min(element.confidence) FILTER (WHERE NOT {item}) AS FLOAT) AS lowest_confidence",
        "CAST(sum(len(element.failed_checks)) AS BIGINT) AS failed_checks",
    ]
    nothing = f"SELECT object_id, NULL::{sql_type(FIELDS.value_type)} AS element {there} AND false"
    fields = f"SELECT object_id, {', '.join(wide)} FROM ({elements or nothing}) GROUP BY object_id"
    counts = ("line_items", "failed_checks")
    chosen = ", ".join(f"coalesce({c.name}, 0) AS {c.name}" if c.name in counts else quoted(c.name) for c in columns)
    return View("documents", doc, columns, f"SELECT {chosen} FROM ({pages}) LEFT JOIN ({fields}) USING (object_id)")


def _duplicates(schema: pa.Schema) -> View:
    columns = (*PLACE, *_OTHER, *_ALIKE)
    hashes = [f.name for f in schema if f"_{f.name}".endswith("_phash") and shape(f.type) == "string"]
    if not hashes:
        return _nothing("duplicates", DUPLICATES, columns)
    vectors = [f.name for f in schema if f"_{f.name}".endswith("_embedding") and shape(f.type) == shape(EMBEDDING)]
    sql = duplicates_sql(TABLE, [column.name for column in PLACE], hashes[0], vectors[0] if vectors else None)
    return View("duplicates", DUPLICATES, columns, sql)


def _flights(schema: pa.Schema, steps: Mapping[str, str]) -> list[View]:
    footprint = footprint_of(schema)
    made_by = {field.name: steps.get(field.name, field.name) for field in schema if is_of(field.type, SEGMENTS)}
    if footprint is None:
        flights = _nothing("flights", FLIGHTS, FLIGHT_COLUMNS)
    else:
        flights = View("flights", FLIGHTS, FLIGHT_COLUMNS, flights_sql(TABLE, schema, footprint))
    if footprint is None or not made_by:
        segments = _nothing("flight_segments", FLIGHT_SEGMENTS, SEGMENT_COLUMNS)
    else:
        sql = flight_segments_sql(TABLE, schema, footprint, made_by)
        segments = View("flight_segments", FLIGHT_SEGMENTS, SEGMENT_COLUMNS, sql)
    return [flights, segments]


def _rejects() -> View:
    names = ("reject_operator", "reject_reason", "reject_message", "run_id", "processed_at")
    columns = (*PLACE, *(_OURS[name] for name in names))
    chosen = ", ".join(quoted(column.name) for column in columns)
    where = f"status = {literal(Status.REJECTED)}"
    return View("rejects", "One row an item that was rejected", columns, f"SELECT {chosen} FROM {TABLE} WHERE {where}")


def _stored(schema: pa.Schema) -> View:
    doc = "The table itself: every column as stored, nested, with the digests and seconds of each step"
    return View("stored", doc, tuple(_column(field) for field in schema), f"SELECT * FROM {TABLE}")


def _column(field: pa.Field) -> Column:
    doc, unit = doc_and_unit(field)
    return Column(field.name, field.type, doc, unit)


def _nested(element: pa.StructType, path: str) -> Column:
    field: pa.Field | None = None
    for name in path.split("."):
        field = (field.type if field else element).field(name)
    return _column(field)


def _is_plain(kind: pa.DataType) -> bool:
    """Scalars and lists of strings."""
    return not pa.types.is_nested(kind) or shape(kind) == ("list", "string")
