"""The nested types that operators share. A view recognises a column by its type, not by its name."""

from __future__ import annotations

import pyarrow as pa

from swath.schemas.columns import Column, list_of, struct

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
SEGMENTS = list_of(
    Column("label", pa.string(), "Class name"),
    Column("fraction", pa.float32(), "Share of the valid picture that the class covers, 0 to 1"),
    Column("pixels", pa.int64(), "Area in the source picture", "pixels"),
    Column("area_m2", pa.float64(), "Area on the ground; null where the scale is unknown", "square metres"),
)
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
    Column("page", pa.int32(), "Its page in the document, from 1; null where the object is no document"),
    Column("box", BOX, "Where it stands on that page; null where it was derived"),
    Column("failed_checks", pa.list_(pa.string()), "What contradicts it: net_plus_tax, iban_checksum"),
)
"""Of an object: they stand on its first item, each with the page it was found on."""
