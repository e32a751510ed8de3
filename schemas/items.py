"""The columns every item has: identity, source, verdict, provenance."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import pyarrow as pa

from swath.schemas.columns import Column, list_of, struct

TIMESTAMP = pa.timestamp("us", tz="UTC")

WINDOW = struct(
    Column("x", pa.int64(), "Left edge of the window in the raster", "pixels"),
    Column("y", pa.int64(), "Top edge of the window in the raster", "pixels"),
    Column("width", pa.int64(), "Width of the window", "pixels"),
    Column("height", pa.int64(), "Height of the window", "pixels"),
)
ASSETS = list_of(
    Column("role", pa.string(), "What the file is to its object: image, or the name of a band"),
    Column("uri", pa.string(), "Where the file is"),
    Column("etag", pa.string(), "Version of the content"),
    Column("bytes", pa.int64(), "Size of the file", "bytes"),
)


class Status(StrEnum):
    """What became of an item."""

    OK = "ok"
    REJECTED = "rejected"
    GONE = "gone"


class Reason(StrEnum):
    """Why an item was rejected; the whole list."""

    EMPTY = "empty"
    """The file has no bytes."""
    NOT_AN_IMAGE = "not_an_image"
    """The content is of no kind that we know as an image or document."""
    UNSUPPORTED = "unsupported"
    """The kind is known but this variant cannot be read."""
    TRUNCATED = "truncated"
    """The file ends before its picture does."""
    CORRUPT = "corrupt"
    """The content breaks the rules of its own format."""
    TOO_LARGE = "too_large"
    """More bytes or pixels than the pipeline allows."""
    ENCRYPTED = "encrypted"
    """The document wants a password."""
    NOT_FOUND = "not_found"
    """The file was listed but could not be read any more."""
    OPERATOR_ERROR = "operator_error"
    """An operator raised on this item."""
    CRASHED = "crashed"
    """The item killed its process, and did so again when tried alone."""
    TIMED_OUT = "timed_out"
    """The item took longer than the pipeline's limit, and did so again when tried alone."""
    OUT_OF_MEMORY = "out_of_memory"
    """The item took more memory than the pipeline's limit, and did so again when tried alone."""


MANIFEST = (
    Column("item_id", pa.string(), "Hash of source URI, page and window: the place, not the content"),
    Column("object_id", pa.string(), "Hash of the source URI; the items of one object share it"),
    Column("source_uri", pa.string(), "Where the object's first file is"),
    Column("etag", pa.string(), "Version of the content of all the object's files"),
    Column("size_bytes", pa.int64(), "Size of all the object's files", "bytes"),
    Column("partition", pa.string(), "Partition of the table, by the pattern of the run; 'all' without one"),
    Column("bucket", pa.int32(), "Slice of a large partition that is replaced as a whole"),
    Column("page", pa.int32(), "Page of the document, from 1; null where the object is no document"),
    Column("window", WINDOW, "Part of the raster; null for the whole"),
    Column("assets", ASSETS, "The files of the object"),
)
"""What is known of an item before anything has looked at its pixels."""

VERDICT = (
    Column("status", pa.string(), "ok, rejected (see reject_reason) or gone (no longer in the source)"),
    Column("reject_operator", pa.string(), "Step at which the item was rejected"),
    Column("reject_reason", pa.string(), "Short reason code: " + ", ".join(Reason)),
    Column("reject_message", pa.string(), "What was wrong, in words"),
    Column("run_id", pa.string(), "Run that made the row"),
    Column("wave", pa.int32(), "Wave of the run that made the row"),
    Column("fingerprint", pa.string(), "Digest of the whole pipeline that made the row"),
    Column("fingerprints", pa.map_(pa.string(), pa.string()), "Digest of each step that made the row"),
    Column("models", pa.map_(pa.string(), pa.string()), "Model of each step that has one: its name@sha256"),
    Column("step_runs", pa.map_(pa.string(), pa.string()), "Run that each step's columns come from"),
    Column("seconds", pa.map_(pa.string(), pa.float32()), "Time each step took for this item", "seconds"),
    Column("processed_at", TIMESTAMP, "When the row was made"),
)
"""What became of it, and which run says so."""


def object_id(source_uri: str) -> str:
    """32 hex digits that name an object by its place."""
    return _digest(source_uri)


def item_id(source_uri: str, page: int | None = None, window: tuple[int, int, int, int] | None = None) -> str:
    """32 hex digits that name an item by its place: the URI, the page (from 1), the window (x, y, w, h)."""
    return _digest(source_uri, page, window)


def bucket_of(object_id: str, buckets: int) -> int:
    """The bucket, 0 to `buckets` - 1, in which all items of an object stand."""
    return int(object_id[:8], 16) % buckets


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
