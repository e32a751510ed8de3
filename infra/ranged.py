"""Files of any store read by ranges: only the bytes that are asked for, and a little ahead of small reads."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from swath.infra.filesystems import attempt, first_range, ranges
from swath.infra.uris import is_local, local_path

HEAD_BYTES = 32 << 10
"""What the first request brings: the header of most files, and the whole of small ones."""
PAGE_BYTES = 16 << 10
"""Smaller reads bring a page of this size, in which the next ones often are."""
KEPT_BYTES = 4 << 20
"""Of what was read is kept, for those that read it again: a mask, a neighbouring window."""


class RangedFile(io.RawIOBase):
    """A read-only, seekable binary file over a URI; pickled, it is opened anew where it arrives.

    Raises FileNotFoundError where the object is gone or is another one than it was, PermissionError, and
    StorageUnavailable when patience ends.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.bytes_read = 0
        """How many bytes were asked of the store."""
        self._at = 0
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._local = os.open(local_path(uri), os.O_RDONLY | os.O_CLOEXEC) if is_local(uri) else None
        self._version: str | None = None
        if self._local is None:
            self._head, self.size, self._version = attempt(uri, lambda: first_range(uri, HEAD_BYTES))
        else:
            self._head, self.size = os.pread(self._local, HEAD_BYTES, 0), os.fstat(self._local).st_size
        self.bytes_read += len(self._head)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.uri,)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._between(self._at, min(self._at + len(buffer), self.size))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def readall(self) -> bytes:
        content = self._between(self._at, self.size)
        self._at += len(content)
        return content

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """The ranges, fetched together; shorter where the file ends. What GDAL asks for the blocks of a window."""
        asked = [(offset, min(offset + size, self.size)) for offset, size in zip(offsets, sizes, strict=True)]
        known = [self._known(*one) for one in asked]
        missing = [one for one, content in zip(asked, known, strict=True) if content is None]
        fetched = iter(self._fetched(missing) if missing else ())
        return [next(fetched) if content is None else content for content in known]

    def close(self) -> None:
        if not self.closed and self._local is not None:
            os.close(self._local)
        super().close()

    def _between(self, start: int, end: int) -> bytes:
        if (known := self._known(start, end)) is not None:
            return known
        page = start // PAGE_BYTES * PAGE_BYTES
        if end - start > PAGE_BYTES:
            return self._fetched([(start, end)])[0]
        content = self._fetched([(page, min(-(-end // PAGE_BYTES) * PAGE_BYTES, self.size))])[0]
        return content[start - page : end - page]

    def _known(self, start: int, end: int) -> bytes | None:
        """What is here already of a range."""
        if start >= end or end <= len(self._head):
            return self._head[start:end]
        for (first, last), content in reversed(self._kept.items()):
            if first <= start and end <= last:
                return content[start - first : end - first]
        return None

    def _keep(self, part: tuple[int, int], content: bytes) -> None:
        self._kept[part] = content
        held = sum(map(len, self._kept.values()))
        while held > KEPT_BYTES and len(self._kept) > 1:
            held -= len(self._kept.popitem(last=False)[1])

    def _fetched(self, asked: list[tuple[int, int]]) -> list[bytes]:
        self.bytes_read += sum(end - start for start, end in asked)
        if self._local is not None:  # of which the system keeps what was read
            return [_whole(self._local, start, end) for start, end in asked]
        found = attempt(self.uri, lambda: ranges(self.uri, asked, self._version))
        for part, content in zip(asked, found, strict=True):
            self._keep(part, content)
        return found


def _whole(handle: int, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := os.pread(handle, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)
