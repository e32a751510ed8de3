"""What runs leave out of their manifests: objects that were forgotten, and partitions whose time is over.

A forgotten object is remembered by a keyed hash of its URI: nobody can read the name out of it, but whoever has the
warehouse and guesses a name can check whether that one was forgotten.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable

from swath.flows.upkeep.retention import over, remembered
from swath.infra import storage

FOLDER = "_swath/forgotten"
KEY = "key"


def stays_out(warehouse: str, table: str) -> Callable[[Iterable[str], str], bool] | None:
    """Tells of an object, by the URIs of its files and its partition, whether a run leaves it out; None where nothing
    is left out."""
    folder = storage.join(warehouse, FOLDER)
    hashes = set(storage.list_names(folder)) - {KEY}
    key = storage.read(storage.join(folder, KEY)) if hashes else b""
    rules = remembered(warehouse, table)
    if not hashes and not rules:
        return None
    return lambda uris, partition: (
        (bool(hashes) and any(_hashed(key, uri) in hashes for uri in uris)) or bool(over(rules, [partition]))
    )


def forget(warehouse: str, uris: Iterable[str]) -> None:
    """From here on runs leave out the objects that have one of these files."""
    folder = storage.join(warehouse, FOLDER)
    storage.create(storage.join(folder, KEY), secrets.token_hex(16).encode())
    key = storage.read(storage.join(folder, KEY))
    for uri in uris:
        storage.write(storage.join(folder, _hashed(key, uri)), b"")


def lift(warehouse: str, uris: Iterable[str]) -> int:
    """From here on runs take them again; how many were left out."""
    folder = storage.join(warehouse, FOLDER)
    names = set(storage.list_names(folder))
    key = storage.read(storage.join(folder, KEY)) if KEY in names else b""
    found = {_hashed(key, uri) for uri in uris} & names if key else set()
    for name in found:
        storage.delete(storage.join(folder, name))
    return len(found)


def _hashed(key: bytes, uri: str) -> str:
    return hashlib.blake2b(uri.encode(), key=key, digest_size=16).hexdigest()
