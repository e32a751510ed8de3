"""Model files in object stores: fetched once to this machine, for as long as the object stays the same."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

from swath.infra import storage
from swath.schemas.errors import ModelError


def fetch(uri: str, folder: Path) -> Path:
    """The file of a model, below `folder` under a name made of its place and version; several processes that want it
    at once fetch it once. Raises ModelError where there is none, and what storage raises."""
    version = storage.etag(uri)
    if version is None:
        raise ModelError(f"model {uri!r} not found; give the URI of an existing object")
    name = hashlib.blake2b(f"{uri}\n{version}".encode(), digest_size=8).hexdigest()
    path = folder / name / uri.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            part = path.with_suffix(".part")
            storage.download(uri, part)
            part.replace(path)
    return path
