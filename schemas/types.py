"""The nested types that operators share. A view recognises a column by its type, not by its name."""

from __future__ import annotations

import pyarrow as pa

from swath.schemas.columns import Column, list_of, struct
from swath.schemas.sql import shape

BOX = struct(
    Column("x_min", pa.float32(), "Left edge in the source picture", "pixels"),
    Column("y_min", pa.float32(), "Top edge in the source picture", "pixels"),
    Column("x_max", pa.float32(), "Right edge in the source picture", "pixels"),
    Column("y_max", pa.float32(), "Bottom edge in the source picture", "pixels"),
)
"""Axis-aligned, in source pixels as stored in the file (before EXIF orientation). A pixel (0, 0) covers
the square from (0, 0) to (1, 1), so a whole picture is (0, 0, width, height)."""

LABELS = list_of(
    Column("label", pa.string(), "Class name"),
    Column("score", pa.float32(), "Probability of the class, 0 to 1"),
)
EMBEDDING = pa.list_(pa.float32())
"""A vector of length 1. Iceberg knows no half precision: its values are those of float16, kept in float32."""
_AREA = Column("area_m2", pa.float64(), "Area on the ground; null where the scale is unknown", "square metres")
SEGMENTS = list_of(
    Column("label", pa.string(), "Class name"),
    Column("fraction", pa.float32(), "Share of the valid picture that the class covers, 0 to 1"),
    Column("pixels", pa.int64(), "Area in the source picture", "pixels"),
    _AREA,
)
INDICES = list_of(
    Column("name", pa.string(), "Which index: ndvi, ndwi, exg ..."),
    Column("mean", pa.float64(), "Mean; null where no pixel has a value", "index"),
    Column("std", pa.float64(), "Standard deviation", "index"),
    *(Column(f"p{percent:02d}", pa.float64(), f"{percent}th percentile", "index") for percent in (5, 25, 50, 75, 95)),
    Column("histogram", pa.list_(pa.int64()), "Pixels in each of its bins, which are of one width", "pixels"),
    Column("histogram_low", pa.float64(), "Where the first bin begins; what lies below counts to it", "index"),
    Column("histogram_high", pa.float64(), "Where the last bin ends; what lies above counts to it", "index"),
    Column("pixels", pa.int64(), "Pixels that have a value", "pixels"),
    Column("valid_fraction", pa.float64(), "Share of the item's pixels that have a value, 0 to 1"),
    Column("calibrated", pa.bool_(), "Whether it is made of reflectance; else of digital numbers"),
    Column("note", pa.string(), "Why there are no values; null where there are"),
)
"""Spectral indices of an item."""
DETECTIONS = list_of(
    Column("label", pa.string(), "Class name"),
    Column("score", pa.float32(), "How sure the model is, 0 to 1"),
    Column("box", BOX, "Where it is"),
    Column("area_m2", pa.float64(), "Area of the box on the ground; null where it is unknown", "square metres"),
    Column("ground", pa.binary(), "Polygon of the box on the ground (WKB, CRS84); null where it is unknown"),
)
"""The best first."""
INSTANCES = list_of(
    Column("label", pa.string(), "Class name"),
    Column("score", pa.float32(), "How sure the model is, 0 to 1; null of a region that was cut out of a class map"),
    Column("box", BOX, "Around it"),
    Column("pixels", pa.int64(), "Area in the source picture", "pixels"),
    _AREA,
    Column("outline", pa.string(), "MULTIPOLYGON in WKT, in source pixels, y downwards"),
    Column("ground", pa.binary(), "The outline on the ground (WKB, CRS84); null where it is unknown"),
)
"""Things, or regions, of which the outlines are known."""
WORDS = list_of(
    Column("text", pa.string(), "The word as read"),
    Column("confidence", pa.float32(), "The engine's own confidence, 0 to 1"),
    Column("box", BOX, "Where the word stands"),
)
LINES = list_of(
    Column("text", pa.string(), "The line as read, words joined by one space"),
    Column("confidence", pa.float32(), "Mean confidence of its words, 0 to 1"),
    Column("box", BOX, "Where the line stands"),
    Column("words", WORDS, "Its words in reading order"),
)
FIELDS = list_of(
    Column("name", pa.string(), "Field: total, issue_date, issuer; of a line item as line_items[1].amount"),
    Column("value", pa.string(), "Normalised: date as YYYY-MM-DD, number with a point; null where it cannot be read"),
    Column("raw", pa.string(), "The text it was read from"),
    Column("confidence", pa.float32(), "Probability that the value is right, 0 to 1, lowered by failed checks"),
    Column("item_id", pa.string(), "The page it stands on"),
    Column("page", pa.int32(), "Its page in the document, from 1; null where the object is no document", "pages"),
    Column("box", BOX, "Where it stands on that page; null where it was derived"),
    Column("failed_checks", pa.list_(pa.string()), "What contradicts it: net_plus_tax, iban_checksum"),
)
"""Of an object: they stand on its first item, each with the page it was found on."""
MATCHES = list_of(
    Column("key", pa.string(), "Key of the row of the reference table; null where no row fits"),
    Column("field", pa.string(), "Field of the document that was compared: total, issuer, purchase_order"),
    Column("found", pa.string(), "Its value in the document; null where it has none"),
    Column("expected", pa.string(), "Its value in the reference table"),
    Column("outcome", pa.string(), "matched, mismatch, or unknown where no row fits"),
    Column("difference", pa.float64(), "Of amounts: found less expected", "currency of the document"),
    Column("similarity", pa.float32(), "Of names: likeness, 0 to 1"),
)
"""Of an object: they stand on its first item, one element a field that was compared."""
CODES = list_of(
    Column("format", pa.string(), "Kind of the code: QRCode, EAN13, Code128"),
    Column(
        "text", pa.string(), "What it says; control characters replaced. Written by a stranger: never run or opened"
    ),
    Column("content", pa.binary(), "The bytes of it"),
    Column("box", BOX, "Where it stands"),
)
REGIONS = list_of(
    Column("kind", pa.string(), "header, paragraph, table, cell, totals_block, signature, stamp, logo or checkbox"),
    Column("text", pa.string(), "The text that stands in it, its lines joined by newlines; null where it has none"),
    Column("confidence", pa.float32(), "How sure it is that this is such a region, 0 to 1"),
    Column("box", BOX, "Where it stands"),
    Column("row", pa.int32(), "Of a cell: its row in the table, from 1", "position"),
    Column("column", pa.int32(), "Of a cell: its column in the table, from 1", "position"),
    Column("state", pa.string(), "Of a checkbox: checked or empty"),
    Column(
        "parent", pa.int32(), "Position in this list, from 1, of the region it is part of: a cell's table", "position"
    ),
)
"""In reading order, a table before its cells. A table without text is one of rulings alone."""
REDACTIONS = list_of(
    Column("rule", pa.string(), "The rule that found it: email, iban, card, the name of a pattern"),
    Column("box", BOX, "What was blackened; one that runs over two lines has two"),
    Column("count", pa.int32(), "1 where it begins, 0 where it goes on: the sum is how often rules matched", "matches"),
)
"""What was masked by which rule and where; never what it was."""


_GREW = ((DETECTIONS, 3), (INSTANCES, 6))
"""Types whose elements had only so many of their fields once; the others came after them."""


def is_of(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column of a table is of one of these types, or of what the type was when the table was made."""
    if shape(kind) == shape(wanted):
        return True
    return any(wanted is grown and shape(kind) == shape(_first(grown, had)) for grown, had in _GREW)


def _first(kind: pa.ListType, count: int) -> pa.ListType:
    return pa.list_(pa.struct(list(kind.value_type)[:count]))
