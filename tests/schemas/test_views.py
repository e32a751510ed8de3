"""The SQL of the views, over plain Parquet files."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from swath.operators.image.codec import Decode
from swath.operators.image.hashing import PerceptualHash
from swath.operators.image.quality import AssessQuality
from swath.operators.survey.exif import Exif
from swath.schemas.columns import Column, doc_and_unit, schema_of
from swath.schemas.items import MANIFEST, VERDICT, item_id, object_id
from swath.schemas.sql import literal, shape, sql_type
from swath.schemas.types import FIELDS, LABELS, LINES, SEGMENTS
from swath.schemas.views import STANDARD, View, views

STEPS = (
    Column("width_px", pa.int32(), "Width of the source picture", "pixels"),
    Column("sharpness", pa.float32(), "Variance of the Laplacian at the fixed scale"),
    Column("quality_reasons", pa.list_(pa.string()), "Why it is not usable"),
    Column("cover", pa.float64(), "Share of green ground, 0 to 1"),
    Column("embedding", pa.list_(pa.float32()), "Unit vector"),
    Column("labels", LABELS, "What the picture shows"),
    Column("second_labels", LABELS, "What another model says"),
    Column("classes", SEGMENTS, "Land cover"),
    Column("ocr_lines", LINES, "What was read"),
    Column("document_type", pa.string(), "What kind of paper it is"),
    Column("document_type_confidence", pa.float32(), "Probability that it is that type, 0 to 1"),
    Column("fields", FIELDS, "What the document says"),
)
MADE_BY = {
    "labels": "classify",
    "second_labels": "second",
    "classes": "segment",
    "ocr_lines": "ocr",
    "fields": "extract_fields",
}
SCHEMA = schema_of((*MANIFEST, *STEPS, *VERDICT))
BOX = {"x_min": 1.0, "y_min": 2.0, "x_max": 11.0, "y_max": 7.0}


def word(text: str) -> dict[str, Any]:
    return {"text": text, "confidence": 0.5, "box": BOX}


def field(name: str, value: str, confidence: float, page: int = 1, **more: Any) -> dict[str, Any]:
    place = {"item_id": item_id("file:///e.pdf", page), "page": page, "box": BOX}
    return {"name": name, "value": value, "raw": value, "confidence": confidence, "failed_checks": [], **place, **more}


def row(uri: str, status: str = "ok", **values: Any) -> dict[str, Any]:
    return {
        "item_id": item_id(uri, values.get("page")),
        "object_id": object_id(uri),
        "source_uri": uri,
        "partition": "all",
        "status": status,
        "run_id": "r1",
        "processed_at": datetime(2026, 5, 1, 12, tzinfo=UTC),
        **values,
    }


ROWS = [
    row(
        "file:///a.jpg",
        width_px=640,
        sharpness=3.5,
        quality_reasons=["too_dark"],
        labels=[{"label": "cow", "score": 0.75}, {"label": "dog", "score": 0.25}],
        second_labels=[{"label": "ox", "score": 0.5}],
        classes=[{"label": "grass", "fraction": 0.5, "pixels": 100, "area_m2": 2.5}],
    ),
    row(
        "file:///b.pdf",
        page=2,
        labels=[],
        ocr_lines=[
            {"text": "total 12", "confidence": 0.5, "box": BOX, "words": [word("total"), word("12")]},
            {"text": "", "confidence": 0.0, "box": BOX, "words": []},
            {"text": "thanks", "confidence": 0.5, "box": BOX, "words": [word("thanks")]},
        ],
    ),
    row("file:///c.jpg", "rejected", reject_operator="decode", reject_reason="truncated", reject_message="ends early"),
    row(
        "file:///e.pdf",
        page=1,
        document_type="invoice",
        document_type_confidence=0.75,
        fields=[
            field("issuer", "Acme Ltd", 0.9),
            field("total", "12.50", 0.5, page=2, failed_checks=["net_plus_tax"]),
            field("issue_date", "2026-02-03", 0.75),
            field("due_date", "no date", 0.6),
            field("line_items[1].amount", "10.00", 0.25, failed_checks=["net_plus_tax", "quantity_times_price"]),
            field("line_items[1].description", "Nails", 0.2),
            field("line_items[2].amount", "2.50", 0.2),
        ],
    ),
    row("file:///e.pdf", page=2),
    row("file:///e.pdf", "rejected", page=3, reject_reason="truncated"),
    row("file:///d.jpg", "gone", labels=[{"label": "cat", "score": 1.0}], classes=[], ocr_lines=[]),
]


def by_name(schema: pa.Schema = SCHEMA) -> dict[str, View]:
    return {view.name: view for view in views(schema, MADE_BY)}


@pytest.fixture
def relation(tmp_path: Path) -> str:
    path = tmp_path / "it's.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS, schema=SCHEMA), path)
    return f"read_parquet({literal(str(path))})"


def fetch(view: View, relation: str) -> list[dict[str, Any]]:
    return duckdb.connect().sql(view.over(relation)).to_arrow_table().to_pylist()


def test_items_has_every_row_and_the_columns_of_the_contract_in_their_order(relation: str) -> None:
    items = by_name()["items"]
    names = [column.name for column in items.columns]
    assert names == [
        *("item_id", "object_id", "source_uri", "etag", "size_bytes", "partition", "page", "window"),
        *("format", "width_px", "height_px", "captured_at", "latitude", "longitude", "altitude_m"),
        *("sharpness", "brightness", "shadows", "highlights", "contrast", "noise", "clipped_fraction"),
        *("quality_verdict", "quality_reasons", "phash", "cover", "document_type", "document_type_confidence"),
        *("status", "reject_operator", "reject_reason", "reject_message"),
        *("run_id", "wave", "fingerprint", "models", "processed_at"),
    ]
    rows = fetch(items, relation)
    assert [row["status"] for row in rows] == ["ok", "ok", "rejected", "ok", "ok", "rejected", "gone"]
    assert rows[0]["width_px"] == 640
    assert rows[0]["quality_reasons"] == ["too_dark"]
    assert rows[0]["latitude"] is None


@pytest.mark.parametrize("schema", [SCHEMA, schema_of((*MANIFEST, *VERDICT)), schema_of((*MANIFEST, *STANDARD))])
def test_every_view_returns_exactly_the_columns_and_types_it_promises(schema: pa.Schema) -> None:
    verdict = [column.field() for column in VERDICT if column.name not in schema.names]
    table = pa.schema([*schema, *verdict]).empty_table()
    for view in views(table.schema, {}):
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'").register("t", table)
        result = connection.sql(view.over('"t"')).to_arrow_table().schema
        assert [(field.name, shape(field.type)) for field in result] == [(c.name, shape(c.type)) for c in view.columns]
        assert all(column.doc for column in view.columns)


def test_the_standard_columns_are_those_of_our_operators() -> None:
    operators = (Decode(), AssessQuality(), Exif(), PerceptualHash())
    made = {column.name: column.type for operator in operators for column in operator.outputs()}
    assert {column.name: made[column.name] for column in STANDARD} == {column.name: column.type for column in STANDARD}


def test_labels_of_all_steps_are_ranked_rows_without_vanished_items(relation: str) -> None:
    rows = fetch(by_name()["labels"], relation)
    assert [(r["step"], r["rank"], r["label"], r["score"]) for r in rows] == [
        ("classify", 1, "cow", 0.75),
        ("classify", 2, "dog", 0.25),
        ("second", 1, "ox", 0.5),
    ]
    assert {r["source_uri"] for r in rows} == {"file:///a.jpg"}


def test_segments_keep_area_and_unit(relation: str) -> None:
    view = by_name()["segments"]
    assert [(r["step"], r["label"], r["pixels"], r["area_m2"]) for r in fetch(view, relation)] == [
        ("segment", "grass", 100, 2.5)
    ]
    assert {c.name: c.unit for c in view.columns}["area_m2"] == "square metres"


def test_lines_and_words_are_numbered_and_have_their_boxes(relation: str) -> None:
    made = by_name()
    lines = fetch(made["lines"], relation)
    assert [(r["page"], r["line"], r["text"], r["x_max"]) for r in lines] == [
        (2, 1, "total 12", 11.0),
        (2, 2, "", 11.0),
        (2, 3, "thanks", 11.0),
    ]
    words = fetch(made["words"], relation)
    assert [(r["line"], r["word"], r["text"], r["step"]) for r in words] == [
        (1, 1, "total", "ocr"),
        (1, 2, "12", "ocr"),
        (3, 1, "thanks", "ocr"),
    ]
    assert {c.name: c.unit for c in made["words"].columns}["x_min"] == "pixels"


def test_fields_stand_on_the_page_where_they_were_found(relation: str) -> None:
    rows = {row["name"]: row for row in fetch(by_name()["fields"], relation)}
    assert len(rows) == 7
    total = rows["total"]
    assert (total["page"], total["item_id"]) == (2, item_id("file:///e.pdf", 2))
    assert (total["value"], total["step"], total["x_max"]) == ("12.50", "extract_fields", 11.0)
    assert total["failed_checks"] == ["net_plus_tax"]
    assert rows["issuer"]["page"] == 1


def test_documents_have_one_row_an_object_with_typed_main_fields(relation: str) -> None:
    view = by_name()["documents"]
    rows = {row["source_uri"]: row for row in fetch(view, relation)}
    assert set(rows) == {"file:///a.jpg", "file:///b.pdf", "file:///c.jpg", "file:///e.pdf"}
    one = rows["file:///e.pdf"]
    assert (one["pages"], one["rejected_pages"], one["document_type"]) == (3, 1, "invoice")
    assert (one["issuer"], one["total"], one["issue_date"]) == ("Acme Ltd", Decimal("12.50"), date(2026, 2, 3))
    assert one["due_date"] is None, "a value that is no date is no date"
    assert (one["line_items"], one["failed_checks"]) == (2, 3)
    assert one["lowest_confidence"] == pytest.approx(0.5), "line items do not count"
    assert rows["file:///b.pdf"]["failed_checks"] == 0
    assert {c.name: c.unit for c in view.columns}["total"] == "units of its currency"


def test_a_pipeline_that_only_tells_types_has_documents_without_fields(tmp_path: Path) -> None:
    schema = pa.schema([field for field in SCHEMA if field.name != "fields"])
    kept = [{name: value for name, value in row.items() if name != "fields"} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(kept, schema=schema), tmp_path / "a.parquet")
    rows = fetch(by_name(schema)["documents"], f"read_parquet('{tmp_path}/a.parquet')")
    assert {row["document_type"] for row in rows} == {None, "invoice"}
    assert {row["total"] for row in rows} == {None}


def test_rejects_are_the_rejected_alone(relation: str) -> None:
    only, page = fetch(by_name()["rejects"], relation)
    assert (page["source_uri"], page["page"]) == ("file:///e.pdf", 3)
    assert (only["source_uri"], only["reject_reason"]) == ("file:///c.jpg", "truncated")


def test_a_table_without_nested_columns_has_empty_views(tmp_path: Path) -> None:
    schema = schema_of((*MANIFEST, *VERDICT))
    rows = [{name: value for name, value in row.items() if name in schema.names} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "a.parquet")
    made = by_name(schema)
    for name in ("labels", "segments", "lines", "words", "fields", "documents"):
        assert fetch(made[name], f"read_parquet('{tmp_path}/a.parquet')") == []


def test_a_nested_column_is_known_by_its_type_whatever_its_name_docs_and_string_width() -> None:
    bare = pa.large_list(
        pa.field("item", pa.struct([pa.field("label", pa.large_string(), nullable=False), ("score", pa.float32())]))
    )
    assert shape(bare) == shape(LABELS)
    schema = pa.schema([*schema_of((*MANIFEST, *VERDICT)), pa.field("what", bare)])
    assert "what" in by_name(schema)["labels"].sql
    other = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))
    assert shape(other) != shape(LABELS)


def test_a_column_whose_step_is_unknown_stands_under_its_own_name(relation: str) -> None:
    labels = next(view for view in views(SCHEMA, {}) if view.name == "labels")
    assert {r["step"] for r in fetch(labels, relation)} == {"labels", "second_labels"}


def test_docs_and_units_of_the_table_come_through() -> None:
    columns = {column.name: column for column in by_name()["items"].columns}
    assert (columns["width_px"].doc, columns["width_px"].unit) == ("Width of the source picture", "pixels")
    assert doc_and_unit(columns["size_bytes"].field()) == ("Size of all the object's files", "bytes")


def test_sql_types_are_those_that_duckdb_reads_from_arrow() -> None:
    table = SCHEMA.empty_table()
    connection = duckdb.connect()
    connection.register("t", table)
    described = connection.execute("DESCRIBE t").fetchall()
    for (name, kind, *_), field in zip(described, SCHEMA, strict=True):
        ours = connection.execute(f"SELECT typeof(CAST(NULL AS {sql_type(field.type)}))").fetchone()
        assert ours == (kind,), name
