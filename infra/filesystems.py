"""The clients of the object stores: made once a process from the environment, never pickled."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential_jitter,
)

from swath.infra.object_stores import CONNECT_S, READ_S, open_store, plain_errors
from swath.infra.settings import environment, settings
from swath.infra.uris import local_path, remote_path, scheme_of, split_bucket
from swath.schemas.errors import StorageUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

PIECE_BYTES = 1 << 20
RANGES_TOGETHER = 8
"""Of one object, fetched at the same time."""
UNANSWERED_S = 10
"""For how long a store does not answer before it is told, and how often from then on."""
_FINAL = (errno.EINVAL, errno.ENOSYS, errno.ENAMETOOLONG, errno.ENOSPC)


def fsspec(uri: str, *, patient: bool = False) -> tuple[Any, str]:
    """The fsspec filesystem of `uri` and the path in it; for listings, ETags and writes. A `patient` one, for libraries
    that call it themselves, tries again what `attempt` would."""
    scheme = scheme_of(uri)
    path = str(local_path(uri)) if scheme == "file" else remote_path(uri)
    return _fsspec(scheme, patient, environment(), os.getpid()), path


def pieces(uri: str) -> Iterator[bytes]:
    """The content of an object elsewhere than on local disk, piece by piece.

    By obstore: one request an object, nine times as many a second as with s3fs. It takes a connection that ends too
    early for an error, as pyarrow does not: that makes an object that is empty, or all zeros, of an answer whose
    headers were cut.
    """
    try:
        store, key = objects(uri)
        found = store.get(key)
    except ValueError:  # such as `a//b`, which is no path to obstore
        yield from _by_fsspec(uri)
        return
    for piece in found.stream(PIECE_BYTES):
        yield bytes(piece)


def first_range(uri: str, size: int) -> tuple[bytes, int, str | None]:
    """The first bytes of an object elsewhere than on local disk, the size of all of it, and its version."""
    from obstore.exceptions import BaseError

    store, key = objects(uri)
    with suppress(ValueError):  # as above
        try:
            found = store.get(key, options={"range": (0, size)})
        except BaseError:
            meta = store.head(key)
            if meta["size"]:
                raise
            return b"", 0, meta["e_tag"]  # of which no range can be asked
        return bytes(found.bytes()), found.meta["size"], found.meta["e_tag"]
    client, path = fsspec(uri)
    whole = int(client.info(path)["size"])
    return bytes(client.cat_file(path, start=0, end=min(size, whole))) if whole else b"", whole, None


def ranges(uri: str, asked: Sequence[tuple[int, int]], version: str | None) -> list[bytes]:
    """Ranges (first byte, the one after the last) of an object elsewhere than on local disk, fetched together.

    Raises FileNotFoundError also where the object has another version by now, of those that have some.
    """
    if version is None:
        client, path = fsspec(uri)
        starts, ends = zip(*asked, strict=True)
        return [bytes(one) for one in client.cat_ranges([path] * len(asked), starts, ends, on_error="raise")]
    store, key = objects(uri)

    def one(part: tuple[int, int]) -> bytes:
        return bytes(store.get(key, options={"range": part, "if_match": version}).bytes())

    return [one(asked[0])] if len(asked) == 1 else list(_fetchers(os.getpid()).map(one, asked))


@lru_cache(maxsize=2)
def _fetchers(pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(RANGES_TOGETHER, thread_name_prefix="ranges")


def _by_fsspec(uri: str) -> Iterator[bytes]:
    client, path = fsspec(uri)
    with client.open(path, "rb", cache_type="none") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def objects(uri: str) -> tuple[ObjectStore, str]:
    """The client of the bucket in `uri`, which tries nothing again and raises obstore's errors, and the key in it."""
    bucket, key = split_bucket(uri)
    return _objects(scheme_of(uri), bucket, environment(), os.getpid()), key


@lru_cache(maxsize=64)
def _objects(scheme: str, bucket: str, variables: frozenset[tuple[str, str]], pid: int) -> ObjectStore:
    return open_store(scheme, bucket)


@lru_cache(maxsize=16)
def _fsspec(scheme: str, patient: bool, variables: frozenset[tuple[str, str]], pid: int) -> Any:
    import fsspec as library

    if scheme == "file":
        return library.filesystem("file")
    if scheme != "s3":
        from swath.infra.object_files import ObjectFiles

        return ObjectFiles(scheme, patient)
    import s3fs.core

    options = settings()
    config: dict[str, Any] = {"connect_timeout": CONNECT_S, "read_timeout": READ_S, "max_pool_connections": 32}
    if options.s3_endpoint:  # what servers other than Amazon's understand
        config |= {"s3": {"addressing_style": "path"}, "request_checksum_calculation": "when_required"}
    s3 = library.filesystem(
        "s3",
        anon=options.s3_anonymous,
        endpoint_url=options.s3_endpoint,
        client_kwargs={"region_name": options.s3_region},
        config_kwargs=config,
        max_concurrency=2,  # parts of 50 MB of a large file
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    s3fs.core.set_custom_error_handler(_may_pass_in_s3fs)
    s3.retries = 1  # `attempt` does it, and knows when to stop
    if patient:
        waits = accumulate(min(1.7**count * 0.1, 15) for count in range(options.storage_attempts))  # s3fs's own
        s3.retries += sum(waited < options.storage_patience_s for waited in waits)
    return s3


def _may_pass_in_s3fs(error: Exception) -> bool:
    """What may pass of the errors on which s3fs gives up."""
    from aiohttp import ClientError as ConnectionLost
    from botocore.exceptions import ClientError, ConnectionError

    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500
    return isinstance(error, ConnectionLost | ConnectionError | OSError)


@contextmanager
def told_of_waiting(tell: Callable[[str], None]) -> Iterator[None]:
    """While the context lasts `tell` hears, in whatever thread waits, of stores that do not answer."""
    _listeners.append(tell)
    try:
        yield
    finally:
        _listeners.remove(tell)


_listeners: list[Callable[[str], None]] = []
_told = 0.0


def _tell(state: RetryCallState) -> None:
    global _told
    waited = state.seconds_since_start or 0
    if waited >= UNANSWERED_S and time.monotonic() - _told >= UNANSWERED_S and state.outcome:
        _told = time.monotonic()
        for tell in _listeners:
            tell(f"a store has not answered for {waited:.0f} s: {state.outcome.exception()}")


def attempt(what: str, action: Callable[[], T], patience_s: float | None = None) -> T:
    """The result of `action`, tried again while the store does not answer.

    Raises FileNotFoundError, FileExistsError and PermissionError at once, StorageUnavailable when patience ends.
    """
    options = settings()
    patience = options.storage_patience_s if patience_s is None else min(patience_s, options.storage_patience_s)
    try:
        for trial in Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_exponential_jitter(initial=0.2, max=15),
            stop=stop_after_delay(patience) | stop_after_attempt(options.storage_attempts),
            before_sleep=_tell,
            reraise=True,
        ):
            with trial:
                return _translated(what, action)
    except StorageUnavailable as error:
        raise StorageUnavailable(f"{error}; tried for up to {patience:.0f} s") from error
    raise AssertionError("unreachable")


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later; what the store calls wrong in itself stays wrong."""
    return isinstance(error, StorageUnavailable) and getattr(error.__cause__, "errno", None) not in _FINAL


def _translated(what: str, action: Callable[[], T]) -> T:
    """Runs `action`; the many errors of the clients become four."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        with plain_errors():
            return action()
    except (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise type(error)(f"{what}: {error}") from error
    except (PermissionError, NoCredentialsError, PartialCredentialsError) as error:
        raise PermissionError(f"{what}: not allowed ({_brief(error)}); check the credentials") from error
    except (OSError, BotoCoreError, ClientError) as error:
        raise StorageUnavailable(f"{what}: {_brief(error)}") from error


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + " …"
