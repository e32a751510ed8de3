"""Files of the driver's disk that steps name, such as a model or a table: kept in the warehouse, and fetched by each
machine of a cluster once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from swath.infra import storage
from swath.infra.models import fetch
from swath.operators.core.base import Operator
from swath.operators.core.chain import Link
from swath.operators.models.files import file_digest
from swath.operators.models.reference import models_home


def local_files(operators: Iterable[Operator]) -> list[str]:
    """The paths and file:// URIs in the configuration of operators which lead to a file of this machine."""
    named = {text for operator in operators for text in _texts(dict(operator))}
    return sorted(text for text in named if _path(text) is not None)


def keep(files: Iterable[str], folder: str) -> tuple[tuple[str, str], ...]:
    """Stores files below a URI in an object store, each once for its content; how each is named, and where it is."""
    kept: dict[str, str] = {}
    for text in files:
        path = _path(text)
        assert path is not None
        kept[text] = storage.join(folder, file_digest(path)[:16], path.name)
        if not storage.exists(kept[text]):
            storage.upload(path, kept[text])
    return tuple(kept.items())


def at_hand(links: Iterable[Link], kept: Mapping[str, str]) -> tuple[Link, ...]:
    """The links, those whose operators name a kept file with this machine's own copy of it in its place."""
    copies = {text: str(fetch(uri, models_home() / "fetched")) for text, uri in kept.items()}
    copies = {text: storage.uri_of(path) if text.startswith("file://") else path for text, path in copies.items()}
    return tuple(replace(link, step=replace(link.step, operator=_with(link.step.operator, copies))) for link in links)


def _path(text: str) -> Path | None:
    """The file that a text of a configuration leads to, where it looks like a path at all."""
    if not text.startswith("file://") and ("://" in text or "\n" in text or not ("/" in text or Path(text).suffix)):
        return None
    try:
        path = storage.local_path(text) if text.startswith("file://") else Path(text).expanduser()
        return path.absolute() if path.is_file() else None
    except (OSError, ValueError):  # too long, or with a zero in it
        return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, BaseModel | Mapping):
        yield from _texts(list(dict(value).values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _texts(one)


def _with(value: Any, copies: Mapping[str, str]) -> Any:
    """The value with texts replaced, however deep."""
    if isinstance(value, str | Path):
        return type(value)(copies[str(value)]) if str(value) in copies else value
    if isinstance(value, BaseModel):
        new = {name: _with(one, copies) for name, one in value}
        return value.model_copy(update={name: one for name, one in new.items() if one is not getattr(value, name)})
    if isinstance(value, Mapping):
        return {name: _with(one, copies) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_with(one, copies) for one in value)
    return value
