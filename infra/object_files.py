"""Azure Blob Storage and Google Cloud Storage as fsspec has them: what DuckDB, PyIceberg and `storage` call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obstore.fsspec import BufferedFile, FsspecStore

from swath.infra.object_stores import etag_of, open_store, plain_errors
from swath.infra.uris import split_bucket

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore


class ObjectFiles(FsspecStore):
    """obstore's own, with names exactly as they are, versions and times told, conditions on writes, Python's errors."""

    cachable = False

    def __init__(self, scheme: str, patient: bool) -> None:
        self._patient = patient
        super().__init__(scheme)  # type: ignore[call-overload]

    def _split_path(self, path: str) -> tuple[str, str]:
        return split_bucket(path if "://" in path else f"{self.protocol}://{path}")

    def _construct_store(self, bucket: str) -> ObjectStore:
        return open_store(str(self.protocol), bucket, patient=self._patient)

    def _of(self, path: str) -> tuple[ObjectStore, str, str]:
        bucket, key = self._split_path(path)
        return self._construct_store(bucket), bucket, key.rstrip("/")

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        store, bucket, key = self._of(path)
        with plain_errors():
            try:
                return _file(bucket, await store.head_async(key))
            except FileNotFoundError:
                async for page in store.list(key or None, chunk_size=1):
                    if page:
                        return _folder(bucket, key)
                raise

    async def _ls(self, path: str, detail: bool = False, **_: Any) -> list[Any]:
        store, bucket, key = self._of(path)
        with plain_errors():
            found = await store.list_with_delimiter_async(key or None)
        entries = [
            *(_file(bucket, one) for one in found["objects"]),
            *(_folder(bucket, prefix) for prefix in found["common_prefixes"]),
        ]
        if not entries:
            raise FileNotFoundError(path)
        return entries if detail else [entry["name"] for entry in entries]

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        with plain_errors():
            return await super()._cat_file(path, start, end)

    async def _pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", etag: str | None = None, **_: Any
    ) -> None:
        """Stores bytes; with the mode `create` raises FileExistsError where something is, with `etag` FileNotFoundError
        where the object has another by now. Azure compares ETags, Google the number of the object's generation."""
        store, _bucket, key = self._of(path)
        with plain_errors():
            if etag is None:
                await store.put_async(key, value, mode=mode)  # type: ignore[arg-type]
                return
            meta = await store.head_async(key)
            if etag_of(meta) != etag:
                raise FileNotFoundError("the object was replaced in the meantime")
            version = {name: meta[name] for name in ("e_tag", "version") if meta[name]}
            await store.put_async(key, value, mode=version)  # type: ignore[arg-type]

    async def _put_file(self, lpath: str, rpath: str, mode: str = "overwrite", **_: Any) -> None:
        with plain_errors():
            await super()._put_file(lpath, rpath, mode)

    async def _rm_file(self, path: str, **_: Any) -> None:
        with plain_errors():
            await super()._rm_file(path)

    async def _rm(self, path: str, recursive: bool = False, **_: Any) -> None:
        store, _bucket, key = self._of(path)
        with plain_errors():
            async for page in store.list(key):
                await store.delete_async([one["path"] for one in page])

    def _open(self, path: str, mode: Any = "rb", *_: Any, **__: Any) -> BufferedFile:
        with plain_errors():
            return _File(self, path, mode)


class _File(BufferedFile):
    def read(self, length: int = -1) -> bytes:
        with plain_errors():
            return super().read(length)

    def write(self, data: bytes) -> int:
        with plain_errors():
            return super().write(data)

    def close(self) -> None:
        if hasattr(self, "_reader") or hasattr(self, "_writer"):  # else it was never opened
            with plain_errors():
                super().close()


def _file(bucket: str, meta: ObjectMeta) -> dict[str, Any]:
    return {
        "name": f"{bucket}/{meta['path']}",
        "type": "file",
        "size": meta["size"],
        "ETag": etag_of(meta),
        "LastModified": meta["last_modified"],
    }


def _folder(bucket: str, key: str) -> dict[str, Any]:
    return {"name": f"{bucket}/{key}".rstrip("/"), "type": "directory", "size": 0}
