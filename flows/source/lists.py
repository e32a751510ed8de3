"""Sources that name their files, so that nothing has to be listed: inventories, tables of URIs, STAC, events."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from swath.flows.source.events import EXTENSIONS, Event, holds_events, read_events
from swath.flows.source.inventory import READERS, kind_of, load_s3_inventory, load_table, local_copy, s3_inventory
from swath.flows.source.sorting import insert, rows_of, scratch_database
from swath.flows.source.stac import EXTENSIONS as STAC
from swath.flows.source.stac import Items, read_items
from swath.infra.scratch import Scratch
from swath.infra.storage import Listed, is_local, local_path, look_up, read
from swath.infra.threads import Threads
from swath.schemas.errors import SourceError

THREADS = 16
PEEK_BYTES = 4 << 20
"""Of a file that may be a list of events: more than its first message."""
_UNKNOWN = datetime.fromtimestamp(0, UTC)
_EVENTS = pa.schema([
    ("uri", pa.string()), ("removed", pa.bool_()), ("size", pa.int64()), ("etag", pa.string()),
    ("sequencer", pa.string()), ("happened_at", pa.string()),
])  # fmt: skip


class Named(NamedTuple):
    """What a list says of a file."""

    file: Listed
    removed: bool = False
    """It is in the source no more."""


@dataclass(frozen=True)
class FileList:
    """The files that a list names, each once, in the order of their URIs."""

    root: str
    """What their paths are below, as far as the list tells."""
    files: Iterator[Named]
    events: bool = False
    """Whether it tells what happened, which may be nothing, and not what there is."""
    items: Items | None = None
    """Of STAC: which of the files are one object, with which roles."""


def read_list(source: str) -> FileList | None:
    """The list that the URI names; None where it names the files themselves, or a folder of whatever.

    Raises SourceError for a list that cannot be read or names no files.
    """
    kind = kind_of(source)
    if kind not in (*READERS, *EXTENSIONS, *STAC) or (is_local(source) and local_path(source).is_dir()):
        return None
    with ExitStack() as stack:
        scratch = Scratch("lists")
        stack.callback(scratch.close)
        if kind in READERS:
            database = stack.enter_context(scratch_database(scratch.path))
            load_table(database, source, scratch.path)
            first, last = database.execute("SELECT min(uri), max(uri) FROM files").fetchall()[0]
            if first is None:
                raise SourceError(f"{source}: names no files")
            shared = os.path.commonprefix([first, last])  # noqa: RUF071 - cut back to a slash below
            root = shared[: shared.rfind("/") + 1]
        else:
            path = local_copy(source, scratch.path)
            if kind in STAC and (items := read_items(path, source)) is not None:
                uris = ((uri, None, None) for uri in sorted(items.paths))
                return FileList("", _closing(stack.pop_all(), _asked(uris, _of_table)), items=items)
            if kind not in EXTENSIONS:
                return None
            if (said := s3_inventory(path)) is None:
                return read_event_files(iter([Listed(source, 0, "", _UNKNOWN)]))
            database = stack.enter_context(scratch_database(scratch.path))
            root = load_s3_inventory(database, source, said, scratch.path)
        rows = rows_of(database, "SELECT uri, size, etag FROM files ORDER BY uri, etag NULLS FIRST, size NULLS FIRST")
        return FileList(root, _closing(stack.pop_all(), _asked(_last_of_each(rows), _of_table)))
    raise AssertionError("unreachable")


def may_hold_events(file: Listed) -> bool:
    """Whether a folder whose first file this is, is one of events."""
    if kind_of(file.uri) not in EXTENSIONS:
        return False
    with Scratch("lists") as folder:
        beginning = folder / "beginning"  # it may be large, and something else
        try:
            beginning.write_bytes(read(file.uri, PEEK_BYTES))
        except OSError:  # gone since, or not ours to read: as for any other file, fetching it will say so
            return False
        return holds_events(beginning)


def read_event_files(files: Iterator[Listed]) -> FileList:
    """What events say in the end, several of one object being told of: its last one counts. An object that was removed
    is asked for, because a version may have been all of it that went, or the list be an old one."""
    with ExitStack() as stack:
        scratch = Scratch("events")
        stack.callback(scratch.close)
        database = stack.enter_context(scratch_database(scratch.path))
        insert(database, "events", _events(files, scratch), _EVENTS)
        buckets = database.execute("SELECT DISTINCT split_part(uri, '/', 3) FROM events LIMIT 2").fetchall()
        root = f"s3://{buckets[0][0]}" if len(buckets) == 1 else "s3://"
        # A bucket without sequencers has times; where those are equal, what is there is asked for.
        rows = rows_of(
            database, "SELECT uri, size, etag, removed FROM events ORDER BY uri, sequencer, happened_at, removed"
        )
        return FileList(root, _closing(stack.pop_all(), _asked(_last_of_each(rows), _of_event)), events=True)
    raise AssertionError("unreachable")


def _events(files: Iterator[Listed], scratch: Scratch) -> Iterator[Event]:
    """The events of the files in turn; remote ones are fetched some ahead, and kept no longer than they are read."""
    with Threads(THREADS, thread_name_prefix="fetch") as pool:
        ahead: deque[tuple[str, Path, Future[Path]]] = deque()
        for number, (uri, *_) in enumerate(files):
            if kind_of(uri) not in EXTENSIONS:
                raise SourceError(
                    f"{uri}: stands among lists of events, but is none; keep them in a folder of their own"
                )
            folder = scratch.path / str(number)
            folder.mkdir()
            ahead.append((uri, folder, pool.submit(local_copy, uri, folder)))
            if len(ahead) > THREADS:
                yield from _events_of(*ahead.popleft())
        while ahead:
            yield from _events_of(*ahead.popleft())


def _events_of(uri: str, folder: Path, copy: Future[Path]) -> Iterator[Event]:
    yield from read_events(copy.result(), uri)
    shutil.rmtree(folder)


def _closing(stack: ExitStack, files: Iterator[Named]) -> Iterator[Named]:
    with stack:
        yield from files


Row = tuple[str, int | None, str | None] | tuple[str, int | None, str | None, bool]


def _last_of_each(rows: Iterator[Row]) -> Iterator[Row]:
    """Of rows that are sorted by URI, the last of each URI."""
    before: Row | None = None
    for row in rows:
        if before is not None and before[0] != row[0]:
            yield before
        before = row
    if before is not None:
        yield before


def _asked(rows: Iterator[Row], ask: Callable[..., Named]) -> Iterator[Named]:
    """The files, in order; of those of which something is not said, the stores are asked, some ahead."""
    with Threads(THREADS, thread_name_prefix="stat") as pool:
        ahead: deque[Named | Future[Named]] = deque()
        for uri, size, etag, *removed in rows:
            if size is not None and etag is not None and not any(removed):
                ahead.append(Named(Listed(uri, size, etag, _UNKNOWN)))
            else:
                ahead.append(pool.submit(ask, uri, size, etag, *removed))
            while ahead and (len(ahead) > 4 * THREADS or not isinstance(ahead[0], Future)):
                yield _answer(ahead.popleft())
        while ahead:
            yield _answer(ahead.popleft())


def _answer(one: Named | Future[Named]) -> Named:
    return one.result() if isinstance(one, Future) else one


def _of_table(uri: str, size: int | None, etag: str | None) -> Named:
    """A file that is not there stays in the list: it is an item that will be rejected as not found."""
    try:
        found = look_up(uri)
    except PermissionError:
        found = None
    known = found or Listed(uri, 0, "", _UNKNOWN)
    return Named(known._replace(size=known.size if size is None else size, etag=known.etag if etag is None else etag))


def _of_event(uri: str, size: int | None, etag: str | None, removed: bool) -> Named:
    if not removed:
        return _of_table(uri, size, etag)
    try:
        found = look_up(uri)
    except PermissionError:  # how a store answers for what is not there, where its folder may not be listed
        found = None
    return Named(found or Listed(uri, 0, "", _UNKNOWN), removed=found is None)
