"""Which files are one object: every file by itself, or by a rule those of one capture together."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from swath.flows.source.captures import RULES, Member
from swath.flows.source.sorting import insert, rows_of, scratch_database
from swath.infra.scratch import Scratch
from swath.operators.survey.roles import METADATA
from swath.schemas.errors import ConfigurationError

IMAGE = "image"
"""The role of a file that is an object of its own."""


class File(NamedTuple):
    """A file of the source that was taken."""

    path: str
    """Below the source."""
    uri: str
    etag: str
    size: int
    """Bytes."""


class Object(NamedTuple):
    """What one capture or document is in the source."""

    path: str
    """Of its first file, below the source."""
    etag: str
    """That of the file, or a digest of those of all files."""
    size: int
    """Bytes of all files."""
    files: tuple[File, ...]
    roles: tuple[str, ...]
    """Sorted; one a file."""

    @property
    def uri(self) -> str:
        return self.files[0].uri


Rule = Callable[[str], Member | None]
"""From a file's path below the source to its place in an object; None for a file of its own."""


def check_rule(rule: str | None) -> Rule | None:
    """The grouping rule: one by name (`micasense`), or a regular expression. Raises ConfigurationError where it is
    none, or has not the groups `key` and `role`."""
    if rule is None or rule in RULES:
        return RULES.get(rule or "")
    try:
        expression = re.compile(rule)
    except re.error as error:
        raise ConfigurationError(f"source.group {rule!r} is no regular expression: {error}") from error
    missing = {"key", "role"} - set(expression.groupindex)
    if missing:
        names = " and ".join(f"(?P<{name}>...)" for name in sorted(missing))
        raise ConfigurationError(
            f"source.group {rule!r} is none of {', '.join(RULES)}, and lacks {names}; write for example "
            "(?P<key>.+)_(?P<role>\\d)[.]tif"
        )

    def of(path: str) -> Member | None:
        match = expression.search(path)
        if match is None or match["key"] is None:
            return None
        return Member(posixpath.dirname(path), match["key"], match["role"] or "")

    return of


def is_metadata(rule: Rule | None, path: str) -> bool:
    """Whether the rule takes a file for a text that tells of a scene's bands."""
    member = rule(path) if rule else None
    return member is not None and member.role == METADATA


def objects_of(files: Iterable[File], rule: Rule | None) -> Iterator[Object]:
    """The objects, in the order of their first files' folders and keys; memory does not grow with their number.

    By the rule, files of one folder with the same `key` are one object. Files of which it knows nothing are objects
    of their own. Of coarser copies of a band, which a rule by name tells by their rank, the finest is taken.
    """
    if rule is None:
        for file in files:
            yield Object(file.path, file.etag, file.size, (file,), (IMAGE,))
        return
    for _, members in groupby(_sorted_by_key(files, rule), key=itemgetter(0, 1, 2)):
        finest: dict[str, int] = {}
        kept = [(role, File(*file)) for _, _, _, role, rank, *file in members if rank == finest.setdefault(role, rank)]
        yield _object(kept)


def _object(members: list[tuple[str, File]]) -> Object:
    members.sort(key=lambda member: member[0] == METADATA)  # an object goes by the name of a picture
    roles, files = zip(*members, strict=True)
    etag = files[0].etag
    if len(members) > 1:
        content = repr([(role, file.etag) for role, file in members])
        etag = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    return Object(files[0].path, etag, sum(file.size for file in files), files, roles)


_KEYED = pa.schema(
    [(name, pa.string()) for name in ("folder", "key", "alone", "role")]
    + [("rank", pa.int32())]
    + [(name, pa.string()) for name in ("path", "uri", "etag")]
    + [("size", pa.int64())]
)


def _sorted_by_key(files: Iterable[File], rule: Rule) -> Iterator[tuple[Any, ...]]:
    """Rows of `_KEYED`, members of one object next to each other; sorted on disk where they are many."""
    with Scratch("grouping") as folder, scratch_database(folder) as database:
        insert(database, "keyed", (_keyed(file, rule) for file in files), _KEYED)
        yield from rows_of(database, "FROM keyed ORDER BY folder, key, alone, role, rank, uri")


def _keyed(file: File, rule: Rule) -> tuple[Any, ...]:
    member = rule(file.path)
    if member is None:
        folder, name = posixpath.split(file.path)
        return folder, name, name, IMAGE, 0, *file
    return member.folder, member.key, "", member.role, member.rank, *file
