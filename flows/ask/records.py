"""The JSON records that runs leave in a warehouse, as tables: `runs` and `checks`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from swath.infra import storage
from swath.schemas.checks import CHECKS
from swath.schemas.columns import Column
from swath.schemas.runs import RUNS


def run_records(folder: str, runs: Iterable[str]) -> pa.Table:
    """A row a run that wrote its record below the folder."""
    return _records(_documents(storage.join(folder, run, "run.json") for run in runs), RUNS)


def check_records(folder: str, runs: Iterable[str]) -> pa.Table:
    """A row a data-quality check that a run wrote down."""
    places = [storage.join(folder, run, "checks") for run in runs]
    reports = _documents(storage.join(place, name) for place in places for name in storage.list_names(place))
    return _records([{**report, **check} for report in reports for check in report.get("checks") or ()], CHECKS)


def _records(records: list[dict[str, Any]], columns: Iterable[Column]) -> pa.Table:
    """JSON objects as rows; fields that are missing, or of another kind, are null."""
    return pa.table({c.name: pa.array([_value(r.get(c.name), c.type) for r in records], c.type) for c in columns})


def _documents(uris: Iterable[str]) -> list[dict[str, Any]]:
    """The JSON objects that are there and whole; a run that is just being written may lack its own."""
    documents = []
    for content in storage.read_many(uri for uri in uris if uri.endswith(".json")):
        if isinstance(content, FileNotFoundError):
            continue
        if isinstance(content, Exception):
            raise content
        with contextlib.suppress(ValueError):
            documents.append(json.loads(content))
    return [document for document in documents if isinstance(document, dict)]


def _value(value: Any, kind: pa.DataType) -> Any:
    """A value of a JSON record as an Arrow scalar; null where it is of another kind."""
    if value is None:
        return None  # Arrow makes no array of lists that begins with the null of a cast
    try:
        if pa.types.is_nested(kind):
            return pa.scalar(list(value.items()) if isinstance(value, dict) else value, kind)
        return pa.scalar(value).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return None
