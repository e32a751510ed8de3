"""A small published table of documents: fields, a match, a quality verdict, and one that could not be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from tests.flows.small_lake import publish

from swath.flows.ask.query import sql
from swath.infra.lake import Lake
from swath.schemas.columns import Column, schema_of
from swath.schemas.items import MANIFEST, VERDICT, item_id, object_id
from swath.schemas.types import FIELDS, MATCHES

INVOICES = schema_of(
    (
        *MANIFEST,
        Column("width_px", pa.int32(), "Width", "pixels"),
        Column("height_px", pa.int32(), "Height", "pixels"),
        Column("quality_verdict", pa.string(), "good or poor"),
        Column("quality_reasons", pa.list_(pa.string()), "What is wrong with the picture"),
        Column("ocr_engine", pa.string(), "Engine that read the page"),
        Column("document_type", pa.string(), "Type of the document"),
        Column("fields", FIELDS, "Fields of the document"),
        Column("match_status", pa.string(), "Outcome of the match"),
        Column("match_key", pa.string(), "Key of the order"),
        Column("matches", MATCHES, "What was compared"),
        *VERDICT,
    )
)
MADE_BY = {
    "swath.columns": json.dumps(
        {
            "fields": {"step": "extract_fields"},
            "match_status": {"step": "match_reference"},
            "matches": {"step": "match_reference"},
            "quality_verdict": {"step": "assess_quality"},
        }
    )
}
BOX = {"x_min": 100.0, "y_min": 40.0, "x_max": 180.0, "y_max": 60.0}


def uri_of(name: str) -> str:
    return name if "://" in name else f"s3://inbox/{name}"


def page(name: str, number: int | None = None, etag: str = "e1", **values: Any) -> dict[str, Any]:
    """One row."""
    uri = uri_of(name)
    return {
        "item_id": item_id(uri, number),
        "object_id": object_id(uri),
        "source_uri": uri,
        "etag": etag,
        "partition": "all",
        "bucket": 0,
        "page": number,
        "status": "ok",
        "run_id": "r1",
        "fingerprint": "f1",
        "processed_at": datetime(2026, 5, 1, 12, tzinfo=UTC),
        "quality_verdict": "good",
        "quality_reasons": [],
        "ocr_engine": "tesserocr 5",
        **values,
    }


def field(name: str, value: str | None, confidence: float = 0.95, **values: Any) -> dict[str, Any]:
    """A value of FIELDS."""
    given = {"raw": value, "item_id": None, "page": None, "box": BOX, "failed_checks": []}
    return {"name": name, "value": value, "confidence": confidence, **given, **values}


def compared(field: str, found: str | None, expected: str | None, outcome: str, **values: Any) -> dict[str, Any]:
    """A value of MATCHES."""
    given = {"key": "PO-2", "difference": None, "similarity": None}
    return {"field": field, "found": found, "expected": expected, "outcome": outcome, **given, **values}


SECOND = item_id(uri_of("two.pdf"), 2)
DOCUMENTS = [
    page(
        "good.png",
        document_type="invoice",
        fields=[field("total", "119.00"), field("issuer", "Mühle"), field("notes", None, 0.0, raw=None)],
        match_status="matched",
        match_key="PO-1",
        matches=[compared("total", "119.00", "119.00", "matched", key="PO-1", difference=0.0)],
    ),
    page(
        "two.pdf",
        1,
        document_type="invoice",
        fields=[
            field("total", "12.00", 0.55, item_id=SECOND, page=2),
            field("net", "10.00", failed_checks=["net_plus_tax"]),
            field("issue_date", None, 0.0, raw="O1.13.2026"),
        ],
        match_status="mismatch",
        match_key="PO-2",
        matches=[
            compared("total", "12.00", "21.00", "mismatch", difference=-9.0),
            compared("issuer", None, "Nordwind", "mismatch", similarity=0.25),
        ],
    ),
    page("two.pdf", 2, quality_verdict="poor", quality_reasons=["too_dark", "blurred"], ocr_engine="rapidocr 3"),
    page(
        "unknown.png",
        document_type="receipt",
        fields=[
            field("purchase_order", "PO-9"),
            field("total", "5.00"),
            field("line_items[1].description", "Soap", 0.4),
        ],
        match_status="unknown",
        matches=[compared("purchase_order", "PO-9", None, "unknown", key=None)],
    ),
    page(
        "broken.png",
        status="rejected",
        reject_operator="decode",
        reject_reason="truncated",
        reject_message="the file ends early",
        quality_verdict=None,
    ),
]


def publish_documents(
    warehouse: str, rows: Sequence[dict[str, Any]] = DOCUMENTS, table: str = "invoices", run_id: str = "r1"
) -> None:
    publish(warehouse, table, rows, INVOICES, run_id)
    Lake(warehouse).ensure(table, INVOICES, MADE_BY)


def fetch(warehouse: str, query: str) -> list[dict[str, Any]]:
    return sql(warehouse, query).read_all().to_pylist()
