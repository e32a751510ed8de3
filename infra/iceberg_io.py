"""What PyIceberg reads and writes of a table goes through the clients of `filesystems`."""

from __future__ import annotations

from typing import Any

from pyiceberg.io.fsspec import FsspecFileIO

from swath.infra.filesystems import fsspec


class StoreIO(FsspecFileIO):
    """PyIceberg's own reads by pyarrow, which takes a cut connection for the end of a file, and tries nothing again."""

    def get_fs(self, scheme: str, hostname: str | None = None) -> Any:
        return fsspec(f"{scheme}://{hostname or ''}", patient=True)[0]
