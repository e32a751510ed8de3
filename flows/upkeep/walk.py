"""Every file of a warehouse, hidden ones too, with what it is for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import NamedTuple

from swath.infra import storage
from swath.infra.filesystems import attempt
from swath.infra.lake import Lake
from swath.infra.listing import modified_of
from swath.schemas.errors import ConfigurationError


class Found(NamedTuple):
    """A file."""

    uri: str
    path: str
    """Below the warehouse."""
    size: int
    """Bytes."""
    modified: datetime
    """With time zone UTC."""


def opened(warehouse: str) -> Lake:
    """The lake of a warehouse. Raises ConfigurationError where there is none, before anything makes its folder."""
    root = storage.normalize(warehouse)
    if storage.is_local(root) and not storage.local_path(root).is_dir():
        raise ConfigurationError(f"{storage.local_path(root)}: there is no warehouse; --warehouse names another")
    return Lake(root)


def walk(warehouse: str, below: str = "") -> Iterator[Found]:
    """The files below a folder of the warehouse, folder by folder; nothing where there is none."""
    client, root = storage.fsspec(warehouse)
    root = root.rstrip("/")
    folders = [f"{root}/{below}".rstrip("/")]
    while folders:
        folder = folders.pop()
        try:
            found = attempt(f"listing {folder}", partial(client.ls, folder, detail=True))
        except FileNotFoundError:
            continue
        for one in sorted(found, key=itemgetter("name")):
            path = one["name"].removeprefix(root).strip("/")
            if f"{root}/{path}" == folder:
                continue  # what stores keep in place of an empty folder
            if one["type"] == "directory":
                folders.append(f"{root}/{path}")
            elif one["type"] == "file":
                yield Found(storage.join(warehouse, path), path, one["size"], modified_of(one))


def kind_of(path: str) -> str:
    """What a file is for, by where it lies: data, metadata, artifacts, runs or other."""
    parts = path.split("/")
    if parts[0] == "tables" and len(parts) > 3 and parts[2] in ("data", "metadata"):
        return parts[2]
    if parts[0] == "artifacts":
        return "artifacts"
    return "runs" if parts[0] == "_swath" and parts[1] in ("runs", "backfills") else "other"


def is_temporary(path: str) -> bool:
    """Whether it is what a write, or a look whether one may write, leaves behind where it is killed."""
    name = path.rpartition("/")[2]
    return (name.startswith(".") and name.endswith(".tmp")) or name.startswith(".probe-")
