"""Names of objects. Canonical: `file:///abs/path`, `s3://bucket/key`, `gs://…`, `az://…`.

Names stand in them exactly as they are in the store, spaces, `#`, `%` and `?` included; nothing is percent-encoded.
Two courtesies for local names: a `file://` URI that is not there as written is tried percent-decoded (other
programs write `%20`), and names that are no UTF-8 stand percent-encoded, because no table could hold their bytes.
"""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from swath.schemas.errors import ConfigurationError

REMOTE = ("s3", "gs", "az")
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}


def normalize(uri: str | os.PathLike[str]) -> str:
    """The canonical form, without a trailing slash; plain paths become `file://` and absolute.

    Raises ConfigurationError for a scheme that no storage here speaks.
    """
    text = os.fspath(uri)
    if not text:
        raise ConfigurationError("the URI is empty; give a folder, a file or a bucket")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return "file://" + os.path.abspath(os.path.expanduser(text))
    scheme = _SAME.get(scheme.lower(), scheme.lower())
    if scheme == "file":
        return "file://" + os.path.abspath("/" + rest.removeprefix("localhost").lstrip("/"))
    if scheme not in REMOTE:
        raise ConfigurationError(f"{text}: cannot read {scheme}://; use a path, file://, s3://, gs:// or az://")
    if not rest.strip("/"):
        raise ConfigurationError(f"{text}: the bucket is missing; write {scheme}://bucket/prefix")
    return f"{scheme}://{rest.strip('/')}"


def scheme_of(uri: str) -> str:
    """`file`, `s3`, `gs` or `az`; plain paths are `file`."""
    return uri.partition("://")[0] if "://" in uri else "file"


def is_local(uri: str) -> bool:
    """Whether it is a file of this machine."""
    return scheme_of(uri) == "file"


def join(uri: str, *parts: str) -> str:
    """The URI of something below; parts may hold slashes."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts if part.strip("/"))])


def relative(uri: str, root: str) -> str:
    """The path of `uri` below `root`; its file name where the two are the same. Raises ValueError elsewhere."""
    if uri == root:
        return posixpath.basename(uri)
    prefix = root.rstrip("/") + "/"
    if not uri.startswith(prefix):
        raise ValueError(f"{uri} is not below {root}")
    return uri[len(prefix) :]


def parent(uri: str) -> str:
    """The URI one level up."""
    return uri.rstrip("/").rpartition("/")[0]


def remote_path(uri: str) -> str:
    """`bucket/key` of a remote URI, as pyarrow and fsspec want it."""
    return uri.partition("://")[2]


def split_bucket(uri: str) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = remote_path(uri).partition("/")
    return bucket, key


def local_path(uri: str) -> Path:
    """The path of a local URI."""
    path = uri.removeprefix("file://")
    if "%" in path and not os.path.lexists(path):
        decoded = os.fsdecode(unquote_to_bytes(path))
        if "\x00" not in decoded and os.path.lexists(decoded):
            return Path(decoded)
    return Path(path)


def uri_of(path: str) -> str:
    """The URI of an absolute local path."""
    try:
        path.encode()
    except UnicodeEncodeError:  # a name that is no UTF-8: its bytes came in as surrogates
        path = quote_from_bytes(os.fsencode(path))
    return "file://" + path
