"""Event lists: what a store said of its objects as it happened, such as S3's notifications, as JSON lines."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from swath.infra.uris import normalize
from swath.schemas.errors import SourceError

EXTENSIONS = ("jsonl", "ndjson", "json")
"""Of files that may hold events; `.gz` may follow."""
LINE_BYTES = 16 << 20
"""A message is never as long: queues carry 256 KiB."""
DOCUMENT_BYTES = 64 << 20
"""A file that is one document over many lines may be as large."""
DEPTH = 6
"""Envelopes within each other: a queue's around a topic's around the store's."""


class Event(NamedTuple):
    """What became of an object."""

    uri: str
    removed: bool
    """The object, or one version of it: what is left is for the store to say."""
    size: int | None
    etag: str | None
    sequencer: str
    """Later events of one object have a greater one; empty where the store gives none."""
    happened_at: str
    """ISO 8601."""


def read_events(path: Path, name: str) -> Iterator[Event]:
    """The events of one file, as they stand there. Messages that tell of no object are passed over.

    Raises SourceError with the line that is none.
    """
    for number, message in _messages(path, name):
        try:
            yield from (event for record in _records(message, DEPTH) if (event := _event(record)) is not None)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise SourceError(f"{name}: line {number} is no notification of a store ({_brief(error)})") from error


def holds_events(path: Path) -> bool:
    """Whether the file's first message is one that `read_events` understands."""
    try:
        for _, message in _messages(path, str(path)):
            list(_records(message, DEPTH))
            return True
    except (SourceError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        pass
    return False


def _messages(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    """Line numbers and messages: one a line, or one in the whole file."""
    try:
        with _opened(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES), b""), 1):
                if not line.strip():
                    continue
                try:
                    message = json.loads(line)
                except ValueError:
                    if number > 1 or (message := _document(path)) is None:
                        raise
                    yield number, message
                    return
                yield number, message
    except (ValueError, OSError, EOFError, RecursionError) as error:
        raise SourceError(f"{name}: is no list of events, one JSON document a line ({_brief(error)})") from error


def _document(path: Path) -> Any:
    """The file as one document; None where it is none, or too large."""
    with _opened(path) as file:
        content = file.read(DOCUMENT_BYTES + 1)
    try:
        return json.loads(content) if len(content) <= DOCUMENT_BYTES else None
    except ValueError:
        return None


def _opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _records(message: Any, depth: int) -> Iterator[dict[str, Any]]:
    """The records within a message of S3 (and MinIO, Ceph), SNS, SQS, Lambda or EventBridge.

    Layout: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html.
    """
    if isinstance(message, str):
        message = json.loads(message)
    if not depth:
        raise ValueError("it is wrapped too often")
    if "s3" in message or ("detail" in message and message.get("source") == "aws.s3"):
        yield message
        return
    if message.get("Event") == "s3:TestEvent":
        return
    if "Records" in message:
        for record in message["Records"]:
            yield from _records(record, depth - 1)
        return
    for envelope in ("Sns", "Message", "Body", "body"):
        if envelope in message:
            yield from _records(message[envelope], depth - 1)
            return
    raise ValueError(f"it has {', '.join(sorted(message)[:5]) or 'nothing'}")


def _event(record: dict[str, Any]) -> Event | None:
    """None for what happens to an object that stays as it is: tags, storage classes, restores."""
    if "s3" in record:
        name, told, at = str(record["eventName"]).removeprefix("s3:"), record["s3"], record.get("eventTime")
        key = unquote_plus(told["object"]["key"])
    else:  # EventBridge, whose keys are not encoded
        name, told, at = str(record["detail-type"]).replace(" ", ""), record["detail"], record.get("time")
        key = told["object"]["key"]
    if name.startswith("ObjectCreated"):
        removed = False
    elif name.startswith(("ObjectRemoved", "ObjectDeleted", "LifecycleExpiration")):
        removed = True
    else:
        return None
    found = told["object"]
    if not key or key.endswith("/") or any(part.startswith(".") for part in key.split("/")):
        return None  # as in a listing: folders and hidden names are nobody's images
    size, etag = found.get("size"), found.get("eTag", found.get("etag"))
    return Event(
        normalize(f"s3://{told['bucket']['name']}/{key}"),
        removed,
        None if size is None else int(size),
        str(etag).strip('"') if etag else None,
        str(found.get("sequencer") or "").upper().ljust(64, "0"),
        str(at or ""),
    )


def _brief(error: BaseException) -> str:
    return f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:120]
