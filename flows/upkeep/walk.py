"""Every file of a warehouse, hidden ones too, with what it is for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import pyarrow.fs as pafs

from swath.infra import storage
from swath.infra.filesystems import attempt
from swath.infra.lake import Lake
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
    filesystem, root = storage.filesystem(warehouse)
    root = root.rstrip("/")
    folders = [f"{root}/{below}".rstrip("/")]
    while folders:
        folder = folders.pop()
        selector = pafs.FileSelector(folder, allow_not_found=True, recursive=False)
        found = attempt(f"listing {folder}", partial(filesystem.get_file_info, selector))
        for one in sorted(found, key=lambda one: str(one.path)):
            if one.type == pafs.FileType.Directory:
                folders.append(one.path)
            elif one.type == pafs.FileType.File:
                path = one.path[len(root) + 1 :]
                modified = one.mtime if one.mtime.tzinfo else one.mtime.replace(tzinfo=UTC)
                yield Found(storage.join(warehouse, path), path, one.size, modified)


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
