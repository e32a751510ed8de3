"""What every machine of a cluster must have before it is given work of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version

from swath.flows.work.code import swath_digest
from swath.infra import storage
from swath.infra.settings import settings

WAREHOUSE = (
    "does not see the warehouse, a folder of the driver's machine ({}): keep it in object storage (`--warehouse "
    "s3://bucket/prefix`), or on a disk that every node has at the same path"
)
SOURCE = (
    "does not see the source, a folder of the driver's machine ({}): put it into object storage, or on a disk that "
    "every node has at the same path"
)
CATALOG = (
    "does not see the catalog, a SQLite file of the driver's machine ({}): a driver on another machine would begin an "
    "empty one; name a catalog that all of them reach in SWATH_CATALOG, such as Postgres or REST"
)
FILE = (
    "does not see {}, a file of the driver's machine that a step names: put it on a disk that every node has at the "
    "same path, or keep the warehouse in object storage, through which such files travel"
)


@dataclass(frozen=True)
class Needs:
    """The same code as the driver's, and the files of its disk that are no node's own."""

    version: str
    digest: str
    """Of the package's code."""
    seen: tuple[tuple[str, str], ...] = ()
    """Each the URI of a local file and the sentence about a node that does not see it, with a place for its path."""

    def lacking(self) -> str | None:
        """What this machine lacks of it, in words that follow its name."""
        if (version("swath"), swath_digest()) != (self.version, self.digest):
            return (
                f"has another swath ({version('swath')}, {swath_digest()}) than the driver of the run ({self.version}, "
                f"{self.digest}): give every machine of the cluster the same image, or install the same package"
            )
        for uri, sentence in self.seen:
            if not storage.exists(uri):
                return sentence.format(storage.local_path(uri))
        return None


def needs_of(warehouse: str, mark: str, source: str, files: Iterable[str]) -> Needs:
    """What a run needs: of its warehouse the object `mark`, which it has written itself, and of its source an object,
    where they are on a disk; its catalog, where that is a file; and the `files` that its steps name."""
    seen = [(mark, WAREHOUSE)] if storage.is_local(warehouse) else []
    if storage.is_local(source) and storage.exists(source):
        seen.append((source, SOURCE))
    local = storage.local_path(warehouse) if storage.is_local(warehouse) else None
    catalog = settings().catalog_for(warehouse, local).get("uri", "")
    if catalog.startswith("sqlite:///"):
        path = catalog.removeprefix("sqlite:///").partition("?")[0]
        seen.append((storage.normalize(path), CATALOG))
    seen += [(storage.normalize(path), FILE) for path in files]
    return Needs(version("swath"), swath_digest(), tuple(seen))
