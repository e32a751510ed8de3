"""The one place through which everything reads and writes objects, on local disk, S3 and other stores.

Functions over URIs (see `swath.infra.uris`), safe in threads and in Ray workers: clients are made once a process from
the environment. Every call is tried again while a store does not answer, then raises StorageUnavailable.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import posixpath
import shutil
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from swath.infra.filesystems import attempt, fsspec, pieces, told_of_waiting
from swath.infra.listing import FIRST_CONTACT_S, Listed, list_objects, local_etag, look_up
from swath.infra.ranged import RangedFile
from swath.infra.threads import Threads
from swath.infra.uris import (
    is_local,
    join,
    local_path,
    normalize,
    parent,
    relative,
    scheme_of,
    split_bucket,
    uri_of,
)
from swath.schemas.errors import StorageUnavailable, WarehouseError

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "Listed",
    "check_writable",
    "create",
    "delete",
    "delete_prefix",
    "download",
    "etag",
    "exists",
    "fetch",
    "fsspec",
    "is_local",
    "join",
    "list_names",
    "list_objects",
    "local_path",
    "look_up",
    "normalize",
    "open_ranged",
    "parent",
    "read",
    "read_many",
    "register",
    "relative",
    "replace_if",
    "scheme_of",
    "told_of_waiting",
    "upload",
    "uri_of",
    "write",
]

READ_AHEAD = 8
"""Files of a disk that it is told of before they are read."""


def read(uri: str, most: int = -1) -> bytes:
    """The content of an object; where `most` is given, no more than that many bytes of it.

    Raises FileNotFoundError where it is gone, PermissionError, or StorageUnavailable when patience ends.
    """
    if is_local(uri):
        path = local_path(uri)

        def local() -> bytes:
            with path.open("rb") as file:
                return file.read(most)

        try:
            return local()
        except OSError:  # what words the error costs as much again as reading: only a bad file pays for it
            return attempt(uri, local, patience_s=0)

    def fetch() -> bytes:
        read, size = [], 0
        for piece in pieces(uri):
            read.append(piece)
            size += len(piece)
            if 0 <= most <= size:
                break
        content = b"".join(read)
        return content if most < 0 else content[:most]

    return attempt(uri, fetch)


def open_ranged(uri: str) -> RangedFile:
    """An object as a seekable file of which only the ranges that are read are fetched. Raises as `read` does."""
    return RangedFile(uri)


def read_many(uris: Iterable[str], threads: int = 16) -> Iterator[bytes | Exception]:
    """The contents of the objects in their order, or what `read` raised; at most 2 x `threads` are held ahead."""
    uris = iter(uris)
    first = next(uris, None)
    if first is None:
        return
    uris = chain((first,), uris)
    if is_local(first):
        yield from _read_in_turn(uris)
        return
    with Threads(threads, thread_name_prefix="read") as pool:
        ahead: deque[Future[bytes]] = deque()
        try:
            for uri in uris:
                ahead.append(pool.submit(read, uri))
                if len(ahead) >= 2 * threads:
                    yield _outcome(ahead.popleft().result)
            while ahead:
                yield _outcome(ahead.popleft().result)
        finally:
            for future in ahead:
                future.cancel()


def fetch(uris: Sequence[str], folder: Path, threads: int = 8) -> list[str]:
    """URIs of the objects on this machine's disk: of those that are elsewhere, copies in the folder, which is made.

    None is in memory as a whole. For what is read more than once, or in small pieces. Raises as `read` does.
    """

    def copy(number: int, uri: str) -> str:
        if is_local(uri):
            return uri
        target = folder / f"{number}{posixpath.splitext(uri)[1]}"
        download(uri, target)
        return uri_of(str(target))

    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(threads, thread_name_prefix="fetch") as pool:
        return list(pool.map(copy, range(len(uris)), uris))


def download(uri: str, path: Path) -> None:
    """Copies an object from elsewhere, of any size, to a file of this machine's disk. Raises as `read` does."""

    def copy() -> None:
        with path.open("wb") as target:
            target.writelines(pieces(uri))

    attempt(uri, copy)


def upload(path: Path, uri: str) -> None:
    """Stores a file of this machine's disk, of any size, at a URI elsewhere; a reader never sees a part."""
    client, target = fsspec(uri)
    attempt(f"writing {uri}", lambda: client.put_file(str(path), target))


def _read_in_turn(uris: Iterable[str]) -> Iterator[bytes | Exception]:
    """Files of a disk, without threads, which would wait for the interpreter more than for the disk: it is told early
    what will be read."""
    ahead: deque[str] = deque()
    for uri in uris:
        ahead.append(uri)
        _announce(uri)
        if len(ahead) > READ_AHEAD:
            yield _outcome(partial(read, ahead.popleft()))
    for uri in ahead:
        yield _outcome(partial(read, uri))


def _announce(uri: str) -> None:
    if is_local(uri) and sys.platform == "linux":
        with contextlib.suppress(OSError), open(local_path(uri), "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _outcome(reading: Callable[[], bytes]) -> bytes | Exception:
    try:
        return reading()
    except Exception as error:
        return error


def write(uri: str, content: bytes) -> None:
    """Stores the content; a reader sees the old object or the new one, never a part."""
    if is_local(uri):
        with _beside(uri, content) as temporary:
            os.replace(temporary, local_path(uri))
    else:
        client, path = fsspec(uri)
        attempt(f"writing {uri}", lambda: client.pipe_file(path, content))


def create(uri: str, content: bytes) -> bool:
    """Stores the content if nothing is there; False where something is. Of many callers at once, one gets True.

    A store that took the object but whose answer was lost is asked what it holds.
    """
    if is_local(uri):
        with _beside(uri, content) as temporary:
            try:
                os.link(temporary, local_path(uri))
            except FileExistsError:
                return False
            return True
    if scheme_of(uri) == "s3":
        return _put_if(uri, content, IfNoneMatch="*") or _holds(uri, content)
    client, path = fsspec(uri)
    try:
        attempt(f"creating {uri}", lambda: client.pipe_file(path, content, mode="create"))
    except FileExistsError:
        return _holds(uri, content)
    return True


def replace_if(uri: str, content: bytes, expected: str) -> bool:
    """Stores the content if the object still has the ETag `expected`; False where it has another or is gone.

    Of many callers at once that saw the same one, one gets True.
    """
    if is_local(uri):
        with _locked(uri):
            if etag(uri) != expected:
                return False
            write(uri, content)
            return True
    if scheme_of(uri) == "s3":
        return _put_if(uri, content, IfMatch=f'"{expected}"') or _holds(uri, content)
    client, path = fsspec(uri)
    try:
        attempt(f"writing {uri}", lambda: client.pipe_file(path, content, etag=expected))
    except FileNotFoundError:
        return _holds(uri, content)
    return True


def etag(uri: str) -> str | None:
    """The version of the object's content; None where there is none."""
    try:
        if is_local(uri):
            return local_etag(os.stat(local_path(uri)))
        client, path = fsspec(uri)
        info = attempt(uri, lambda: client.info(path))
    except FileNotFoundError:
        return None
    return str(info.get("ETag") or info.get("etag") or "").strip('"') if info["type"] == "file" else None


def exists(uri: str) -> bool:
    """Whether there is an object of exactly this name."""
    return local_path(uri).is_file() if is_local(uri) else etag(uri) is not None


def delete(uri: str) -> None:
    """Removes an object; none there is fine."""
    if is_local(uri):
        local_path(uri).unlink(missing_ok=True)
        return
    client, path = fsspec(uri)
    with contextlib.suppress(FileNotFoundError):
        attempt(f"deleting {uri}", lambda: client.rm_file(path))


def delete_prefix(uri: str) -> None:
    """Removes everything below a folder; none there is fine."""
    if is_local(uri):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(local_path(uri))
        return
    client, path = fsspec(uri)
    with contextlib.suppress(FileNotFoundError):
        attempt(f"deleting {uri}", lambda: client.rm(path, recursive=True))


def list_names(uri: str) -> list[str]:
    """Names directly below a folder, sorted, those of folders with a slash at the end; empty where there is none."""
    if is_local(uri):
        try:
            with os.scandir(local_path(uri)) as found:
                return sorted(entry.name + "/" if entry.is_dir() else entry.name for entry in found)
        except (FileNotFoundError, NotADirectoryError):
            return []
    client, path = fsspec(uri)
    try:
        entries = attempt(f"listing {uri}", lambda: client.ls(path, detail=True))
    except FileNotFoundError:
        return []
    named = (
        (entry["name"].rstrip("/").rpartition("/")[2], entry["type"])
        for entry in entries
        if entry["name"].rstrip("/") != path.rstrip("/")
    )
    return sorted(name + "/" if kind == "directory" else name for name, kind in named)


def register(connection: duckdb.DuckDBPyConnection, uri: str) -> None:
    """Lets a DuckDB connection read `uri` and its neighbours by their URIs; local ones need nothing."""
    if not is_local(uri) and not connection.filesystem_is_registered(scheme_of(uri)):
        client, _ = fsspec(uri, patient=True)
        connection.register_filesystem(client)


def check_writable(uri: str) -> None:
    """Raises WarehouseError where no object can be stored below `uri`."""
    probe = join(normalize(uri), f".probe-{uuid.uuid4().hex}")
    try:
        if is_local(probe):
            write(probe, b"")
        else:
            client, path = fsspec(probe)
            if scheme_of(probe) == "s3":  # some servers make a missing bucket on the first write
                with contextlib.suppress(PermissionError):
                    bucket, _ = split_bucket(probe)
                    attempt(uri, lambda: client.call_s3("head_bucket", Bucket=bucket), patience_s=FIRST_CONTACT_S)
            attempt(uri, lambda: client.pipe_file(path, b"probe"), patience_s=FIRST_CONTACT_S)
        delete(probe)
    except FileNotFoundError as error:
        local = "no folder can be made there; choose another"
        what = local if is_local(uri) else "the bucket does not exist; create it"
        raise WarehouseError(f"{uri}: {what} or check its name") from error
    except PermissionError as error:
        raise WarehouseError(f"{uri}: cannot be written; check its permissions and the credentials") from error
    except (OSError, StorageUnavailable) as error:
        raise WarehouseError(
            f"{uri}: cannot be written ({error}); check the path, the endpoint and the space"
        ) from error


@contextlib.contextmanager
def _beside(uri: str, content: bytes) -> Iterator[Path]:
    """A hidden file with the content in the object's own folder, which is made; gone afterwards."""
    target = local_path(uri)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(uri: str) -> Iterator[None]:
    """Among the processes of this machine, one at a time."""
    target = local_path(uri)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.flock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _put_if(uri: str, content: bytes, **condition: str) -> bool:
    """One conditional PUT to S3; False where the condition does not hold."""
    client, _ = fsspec(uri)
    bucket, key = split_bucket(uri)

    def put() -> bool:
        try:
            client.call_s3("put_object", Bucket=bucket, Key=key, Body=content, **condition)
        except OSError as error:
            response = getattr(error.__cause__, "response", None) or {}
            if response.get("Error", {}).get("Code") in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                return False
            raise
        return True

    try:
        return attempt(f"writing {uri}", put)
    except FileNotFoundError:  # IfMatch on an object that is gone
        return False


def _holds(uri: str, content: bytes) -> bool:
    try:
        return read(uri) == content
    except FileNotFoundError:
        return False
