"""What is in a source: every object once, in a fixed order, without ever holding the whole list."""

from __future__ import annotations

import itertools
import os
import queue
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from swath.infra.filesystems import attempt, fsspec, objects
from swath.infra.object_stores import CREDENTIALS, ENDPOINTS, etag_of, open_store
from swath.infra.threads import Threads
from swath.infra.uris import is_local, local_path, normalize, scheme_of, split_bucket, uri_of
from swath.schemas.errors import SourceError, StorageUnavailable

T = TypeVar("T")

THREADS = 8
PAGE = 1000
PAGES_AHEAD = 25
"""Pages (of up to 1,000 objects) that each thread may be ahead of the consumer."""
FIRST_CONTACT_S = 15
"""A store that never answered is more likely misspelt than down."""


class Listed(NamedTuple):
    """An object as the store lists it."""

    uri: str
    size: int
    """Bytes."""
    etag: str
    """Version of the content; of local files, `<mtime in ns>-<size>` in hex."""
    modified: datetime
    """With time zone UTC."""


def list_objects(source: str) -> Iterator[Listed]:
    """Every object below `source` (or the one that it names), in the order of its UTF-8 names; in gs:// and az:// in
    the store's, which is the same but for accounts with a hierarchical namespace.

    Left out: names that start with a dot, below folders that do, whatever is no regular file. S3 is listed in
    parallel by the prefixes of its first level. Raises SourceError where there is nothing to list.
    """
    source = normalize(source)
    if is_local(source):
        return _local(source)
    if scheme_of(source) == "s3":
        return _s3(source)
    return _flat(source)


def look_up(uri: str) -> Listed | None:
    """One object, without listing anything; None where there is none of this name. Raises PermissionError and
    StorageUnavailable."""
    uri = normalize(uri)
    try:
        if is_local(uri):
            path = str(local_path(uri))
            info = os.stat(path)
            return _local_listed(path, info) if stat.S_ISREG(info.st_mode) else None
        client, path = fsspec(uri)
        found = attempt(uri, lambda: client.info(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _from_info(uri, found) if found["type"] == "file" else None


def local_etag(info: os.stat_result) -> str:
    """The version of a local file's content, as far as its metadata tells."""
    return f"{info.st_mtime_ns:x}-{info.st_size:x}"


def _local(source: str) -> Iterator[Listed]:
    path = str(local_path(source))
    try:
        info = os.stat(path)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file or folder; check the path") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if stat.S_ISREG(info.st_mode):
        yield _local_listed(path, info)
    elif stat.S_ISDIR(info.st_mode):
        yield from _local_folder(path, ((info.st_dev, info.st_ino),))
    else:
        raise SourceError(f"{path}: neither a file nor a folder")


def _local_folder(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[Listed]:
    """Files of a folder; `above` are the folders that lead here, in which a link back would loop for ever."""
    try:
        with os.scandir(folder) as entries:
            names = [(e.name + "/" if _is_folder(e) else e.name) for e in entries if not e.name.startswith(".")]
    except FileNotFoundError:
        return
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    for name in sorted(names, key=os.fsencode):
        path = os.path.join(folder, name.rstrip("/"))
        try:
            info = os.stat(path)
        except OSError:  # gone since, or a link to nowhere
            continue
        here = (info.st_dev, info.st_ino)
        if stat.S_ISREG(info.st_mode):
            yield _local_listed(path, info)
        elif stat.S_ISDIR(info.st_mode) and here not in above:
            yield from _local_folder(path, (*above, here))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _local_listed(path: str, info: os.stat_result) -> Listed:
    modified = datetime.fromtimestamp(info.st_mtime, UTC)
    return Listed(uri_of(path), info.st_size, local_etag(info), modified)


def _s3(source: str) -> Iterator[Listed]:
    bucket, key = split_bucket(source)
    folder = f"{key}/" if key else ""
    pages = _pages(bucket, folder, delimiter=True)
    first = _first_contact(source, lambda: next(pages, None))
    found = False
    with Threads(THREADS, thread_name_prefix="list") as pool:
        for page in itertools.chain([first] if first else [], pages):
            with closing(_page_in_order(pool, bucket, folder, page)) as listed:
                for one in listed:
                    found = True
                    yield one
    if not found:
        yield from _single(source)


def _page_in_order(pool: ThreadPoolExecutor, bucket: str, folder: str, page: dict[str, Any]) -> Generator[Listed]:
    """The objects of a page of the first level, and, at their places, those below its prefixes."""
    prefixes = [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
    below = {p: _Ahead(pool, _pages(bucket, p, delimiter=False)) for p in prefixes if not _hidden(p, folder)}
    objects = {entry["Key"]: entry for entry in page.get("Contents", ())}
    try:
        for name in sorted((*below, *objects)):
            if name in below:
                for inner in below[name]:
                    yield from _visible(bucket, folder, inner.get("Contents", ()))
            else:
                yield from _visible(bucket, folder, [objects[name]])
    finally:
        for ahead in below.values():
            ahead.stop()


class _Ahead:
    """Pages fetched by a thread of the pool, at most PAGES_AHEAD before they are asked for."""

    def __init__(self, pool: ThreadPoolExecutor, pages: Iterator[dict[str, Any]]) -> None:
        self._queue: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue(PAGES_AHEAD)
        self._stopped = threading.Event()
        pool.submit(self._fetch, pages)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (page := self._queue.get()) is not None:
            if isinstance(page, BaseException):
                raise page
            yield page

    def stop(self) -> None:
        self._stopped.set()

    def _fetch(self, pages: Iterator[dict[str, Any]]) -> None:
        try:
            for page in pages:
                if not self._put(page):
                    return
            self._put(None)
        except BaseException as error:  # handed to the consumer
            self._put(error)

    def _put(self, page: dict[str, Any] | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(page, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False


def _pages(bucket: str, prefix: str, *, delimiter: bool) -> Iterator[dict[str, Any]]:
    s3, _ = fsspec(f"s3://{bucket}")
    options: dict[str, str] = {"Delimiter": "/"} if delimiter else {}
    while True:
        page = attempt(
            f"listing s3://{bucket}/{prefix}",
            lambda: s3.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **options),
        )
        yield page
        if not page.get("IsTruncated"):
            return
        options["ContinuationToken"] = page["NextContinuationToken"]


def _visible(bucket: str, folder: str, entries: Iterable[dict[str, Any]]) -> Iterator[Listed]:
    for entry in entries:
        key = entry["Key"]
        if not key.endswith("/") and not _hidden(key, folder):
            etag = str(entry.get("ETag", "")).strip('"')
            yield Listed(f"s3://{bucket}/{key}", int(entry["Size"]), etag, entry["LastModified"])


def _hidden(key: str, folder: str) -> bool:
    return any(part.startswith(".") for part in key[len(folder) :].split("/"))


def _single(source: str) -> Iterator[Listed]:
    """The one object that the source names. Raises SourceError where there is none."""
    client, path = fsspec(source)
    info = _first_contact(source, lambda: client.info(path))
    if info["type"] != "file":
        raise SourceError(f"{source}: holds no files; check the prefix")
    yield _from_info(source, info)


def _first_contact(source: str, action: Callable[[], T]) -> T:
    """The result of `action`; what goes wrong is told as one sentence about the source."""
    bucket = f"{scheme_of(source)}://{split_bucket(source)[0]}"
    try:
        return attempt(source, action, patience_s=FIRST_CONTACT_S)
    except FileNotFoundError as error:
        if "bucket" in str(error).lower():
            raise SourceError(f"{source}: the bucket {bucket} does not exist; check its name") from error
        raise SourceError(f"{source}: nothing there; check bucket and prefix") from error
    except PermissionError as error:
        raise SourceError(f"{source}: the store refuses these credentials; check {CREDENTIALS[scheme_of(source)]} "
                          "and what they may read") from error  # fmt: skip
    except StorageUnavailable as error:
        raise SourceError(f"{error}; check {ENDPOINTS[scheme_of(source)]} and the network") from error


def _flat(source: str) -> Iterator[Listed]:
    """gs:// and az://, page by page. The client tries again by itself, request by request: to go on from a name, as
    `attempt` would have to, takes an order that not all accounts of Azure have."""
    bucket, key = split_bucket(source)
    folder = f"{key}/" if key else ""
    if not _first_contact(source, lambda: any(objects(source)[0].list(key or None, chunk_size=1))):
        yield from _single(source)
        return
    pages = open_store(scheme_of(source), bucket, patient=True).list(key or None, chunk_size=PAGE)
    while page := attempt(f"listing {source}", lambda: next(pages, None), patience_s=0):
        for one in page:
            if not _hidden(one["path"], folder):
                uri = f"{scheme_of(source)}://{bucket}/{one['path']}"
                yield Listed(uri, one["size"], etag_of(one), one["last_modified"])


def _from_info(uri: str, info: dict[str, Any]) -> Listed:
    etag = str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or "").strip('"')
    return Listed(uri, int(info["size"]), etag, modified_of(info))


def modified_of(info: Mapping[str, Any]) -> datetime:
    """When a file was last written, with time zone UTC, from what an fsspec filesystem tells of it."""
    names = ("LastModified", "updated", "last_modified", "mtime")
    modified = next((info[name] for name in names if info.get(name)), None)
    if isinstance(modified, str):
        return datetime.fromisoformat(modified)
    if isinstance(modified, float):
        return datetime.fromtimestamp(modified, UTC)
    return modified or datetime.now(UTC)
