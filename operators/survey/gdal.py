"""Python files under GDAL: how it is set up, how it reads them by ranges, and what it says of them."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
NAME = "raster"
"""What GDAL calls every file; what users call theirs may mean something to it."""
GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_CACHEMAX": 96,  # MiB of decoded blocks
    "GDAL_NUM_THREADS": 1,
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    "GTIFF_IGNORE_READ_ERRORS": False,
    "OPJ_NUM_THREADS": 1,
}


def opened(file: Any, driver: str, failures: list[Exception]) -> Any:
    """A rasterio dataset over a seekable file, read by one driver; what the file raises goes into `failures`."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings(), environment():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(NAME, opener=_opener_kind()(file, failures), driver=driver, sharing=False)


@contextmanager
def environment() -> Iterator[None]:
    """GDAL as it is to be while we read: one thread, little memory, no look at neighbouring files, and no credentials:
    bytes come from our own stores, and with boto3 installed a session for each window took half as long as the window.
    """
    import rasterio
    from rasterio.session import DummySession

    with rasterio.Env(session=DummySession(), **GDAL):
        yield


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What GDAL warns of meanwhile."""
    handler, logger = _Complaints(), logging.getLogger("rasterio")
    logger.addHandler(handler)
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)


def tells_of_damage(text: str) -> bool:
    """Whether a warning tells of a damaged block, which GDAL hands out as far as it could be read."""
    return "orrupt JPEG" in text or "premature end" in text.lower()


@cache
def errors() -> tuple[type[Exception], ...]:
    """What rasterio raises where a file cannot be read."""
    from rasterio.errors import RasterioError

    return RasterioError, ValueError, OSError


class _Handle(io.RawIOBase):
    """A file as GDAL opens it, any number of times: each with a place of its own, none closing the file itself.

    What the file raises goes into `failures`, and zeros to GDAL, which cannot take an exception.
    """

    def __init__(self, file: Any, failures: list[Exception]) -> None:
        self._file, self._at, self._failures = file, 0, failures

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, size_of(self._file))[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._tried(lambda: self._from(self._at, len(buffer)), b"")
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """What GDAL asks for to read the blocks of a window together."""
        found = self._tried(lambda: self._ranges(offsets, sizes), [b""] * len(sizes))
        if not self._failures and any(len(part) < size for part, size in zip(found, sizes, strict=True)):
            self._failures.append(EOFError("the file ends within a block"))
        return [part.ljust(size, b"\0") for part, size in zip(found, sizes, strict=True)]

    def _ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        if hasattr(self._file, "get_byte_ranges"):
            found: list[bytes] = self._file.get_byte_ranges(offsets, sizes)
            return found
        return [self._from(offset, size) for offset, size in zip(offsets, sizes, strict=True)]

    def _from(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        content: bytes = self._file.read(size)
        return content

    def _tried(self, action: Callable[[], T], instead: T) -> T:
        try:
            return action()
        except Exception as error:
            self._failures.append(error)
            return instead


def size_of(file: Any) -> int:
    """Bytes of a file."""
    known = getattr(file, "size", None)
    return int(file.seek(0, os.SEEK_END) if known is None else known)


@cache
def _opener_kind() -> Any:
    """The class through which GDAL opens a file, and fetches the blocks of a window together."""
    from rasterio._vsiopener import MultiByteRangeResource
    from rasterio.abc import MultiByteRangeResourceContainer

    MultiByteRangeResource.register(_Handle)

    class Opener(MultiByteRangeResourceContainer):  # type: ignore[misc]
        def __init__(self, file: Any, failures: list[Exception]) -> None:
            self.file, self.failures = file, failures

        def open(self, path: str, mode: str = "r", **options: Any) -> Any:
            if not self.isfile(path):
                raise FileNotFoundError(path)
            return _Handle(self.file, self.failures)

        def isfile(self, path: str) -> bool:
            return path.rpartition("/")[2] == NAME

        def isdir(self, path: str) -> bool:
            return False

        def ls(self, path: str) -> list[str]:
            return []

        def mtime(self, path: str) -> int:
            return 0

        def rm(self, path: str) -> None:
            raise PermissionError(path)

        def size(self, path: str) -> int:
            return size_of(self.file)

    return Opener
