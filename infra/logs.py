"""What a run does, for machines: `logging` under the name `swath`, on request as one JSON object a line.

An event is a short, fixed message; what it is about stands in fields beside it: run, wave, item (its URI), step,
reason.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from swath.schemas.errors import ConfigurationError

LOG = logging.getLogger("swath")
LOG.addHandler(logging.NullHandler())  # a program that uses the package decides where it goes
OFTEN, PERIOD_S = 50, 60.0
"""How often the same event is written within a period; of what goes beyond that, the number is told."""


def is_json() -> bool:
    """Whether standard error is for machines."""
    return os.environ.get("SWATH_LOG") == "json"


def to_standard_error() -> None:
    """Everything that is logged in this process, warnings of libraries included, as JSON on standard error, where
    SWATH_LOG is json. Raises ConfigurationError for what it may not be."""
    if (wanted := os.environ.get("SWATH_LOG") or "text") not in ("text", "json"):
        raise ConfigurationError(f"SWATH_LOG is {wanted!r}; it may be text or json")
    if not is_json():
        return
    from pythonjsonlogger.json import JsonFormatter

    class Formatter(JsonFormatter):
        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            return {name: _clean(value) for name, value in log_data.items() if value is not None}

    handler = logging.StreamHandler(sys.stderr)
    names = {"levelname": "level", "name": "logger", "message": "event"}
    handler.setFormatter(Formatter("%(levelname)s %(name)s %(message)s", rename_fields=names, timestamp=True))
    handler.addFilter(Sparing())
    logging.captureWarnings(True)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    LOG.setLevel(logging.INFO)


class Sparing(logging.Filter):
    """Lets an event through OFTEN times a period; the next one that comes through says how many did not."""

    def __init__(self) -> None:
        super().__init__()
        self._period = 0
        self._told: Counter[tuple[str, str]] = Counter()
        self._left_out: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        event, period = (record.name, str(record.msg)), int(time.monotonic() // PERIOD_S)
        if period != self._period:
            self._period, self._told = period, Counter()
        self._told[event] += 1
        if self._told[event] > OFTEN:
            self._left_out[event] += 1
            return False
        if left_out := self._left_out.pop(event, 0):
            record.left_out = left_out
        return True


def _clean(value: Any) -> Any:
    """The value with every text in it scrubbed."""
    if isinstance(value, str):
        return scrubbed(value)
    if isinstance(value, dict):
        return {name: _clean(one) for name, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list | tuple) else value


def scrubbed(text: str) -> str:
    """The text without the secrets of the environment, which error messages of other libraries may quote, and without
    what signs a URL."""
    text = re.sub(r"://[^/@\s]*:[^/@\s]*@", "://***@", text)
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]+", r"\1?***", text)
    for value in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def _secrets() -> Iterator[str]:
    named = dict(os.environ)
    with suppress(ValueError, TypeError):
        named |= json.loads(os.environ.get("SWATH_CATALOG", "{}"))
    for name, value in named.items():
        if (
            isinstance(value, str)
            and len(value) >= 6
            and re.search("(?i)secret|token|passw|credential|access_key", name)
        ):
            yield value
