"""What is logged for machines: one JSON object a line, without secrets, and not a flood."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from swath.infra import logs
from swath.schemas.errors import ConfigurationError


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Standard error, with the process' logging on it, which is put back."""
    root = logging.getLogger()
    before, level, own = root.handlers[:], root.level, logs.LOG.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("SWATH_LOG", "json")
    logs.to_standard_error()
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)
    logs.LOG.setLevel(own)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_object_with_its_fields(stream: io.StringIO) -> None:
    logs.LOG.warning(
        "rejected", extra={"run": "r", "wave": 3, "item": "s3://a/b\n.jpg", "page": None, "reason": "empty"}
    )
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {
        "level": "WARNING", "logger": "swath", "event": "rejected", "run": "r", "wave": 3, "item": "s3://a/b\n.jpg",
        "reason": "empty",
    }  # fmt: skip


def test_libraries_are_heard_from_warnings_on(stream: io.StringIO) -> None:
    logging.getLogger("another").info("never mind")
    logging.getLogger("another").error("a %s", "mishap")
    assert [(one["logger"], one["event"]) for one in lines(stream)] == [("another", "a mishap")]


def test_no_secret_and_no_signature_is_logged(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefgh12345")
    monkeypatch.setenv("SWATH_METRICS_TOKEN", "a-token-of-many-signs")
    signed = "https://bucket.s3.amazonaws.com/a.jpg?X-Amz-Signature=0123456789abcdef&X-Amz-Credential=AKIA"
    try:
        raise ValueError(f"key abcdefgh12345 at postgresql://user:password@host/db and {signed}")
    except ValueError as error:
        logs.LOG.exception("failed", extra={"detail": str(error), "item": signed})
    logs.LOG.warning("Bearer a-token-of-many-signs", extra={"fields": {"nested": [signed, "abcdefgh12345"]}})
    text = stream.getvalue()
    for secret in ("abcdefgh12345", "user:password", "0123456789abcdef", "AKIA", "a-token-of-many-signs"):
        assert secret not in text
    assert lines(stream)[0]["item"] == "https://bucket.s3.amazonaws.com/a.jpg?***"


def test_of_many_alike_the_first_are_written_and_the_others_counted(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    for number in range(2000):
        logs.LOG.warning("rejected", extra={"item": number})
    logs.LOG.info("staged")
    now[0] += 2 * logs.PERIOD_S
    logs.LOG.warning("rejected", extra={"item": 2000})
    told = lines(stream)
    assert [one["item"] for one in told if one["event"] == "rejected"] == [*range(logs.OFTEN), 2000]
    assert told[-1]["left_out"] == 2000 - logs.OFTEN
    assert told[-2]["event"] == "staged"


def test_what_it_may_not_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_LOG", "xml")
    with pytest.raises(ConfigurationError, match="'xml'; it may be text or json"):
        logs.to_standard_error()
