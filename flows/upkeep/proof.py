"""Every file of a warehouse looked through for what is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from swath.flows.upkeep.clean import PACKED
from swath.flows.upkeep.report import Size
from swath.flows.upkeep.sought import Sought
from swath.flows.upkeep.walk import Found, kind_of
from swath.infra import storage
from swath.infra.lake import Lake
from swath.infra.threads import Threads

THREADS = 4


class Looked(BaseModel):
    """What was looked at."""

    parquet: Size = Size()
    """Every value, and the statistics in the footers."""
    avro: Size = Size()
    """Manifests and lists of them: every value, bounds of columns among them."""
    others: Size = Size()
    """Every byte: JSON, HTML, pictures, the catalog."""
    unread: list[str] = []
    """Files that could not be looked into, and why."""


def hits(lake: Lake, files: Iterable[Found], sought: Sought, looked: Looked) -> Iterator[Found]:
    """The files that still name one of them, in their name or in their content; `looked` is counted up."""

    def look(one: Found) -> tuple[Found, str, bool | str]:
        kind = "parquet" if one.path.endswith(".parquet") else "avro" if one.path.endswith(".avro") else "others"
        if sought.is_in(one.path.encode()):
            return one, kind, True
        if one.path.rpartition(".")[2].lower() in PACKED:
            return one, kind, f"{one.path}: packed; look into it yourself"
        try:
            return one, kind, _names(lake, one, kind, sought)
        except FileNotFoundError:  # deleted since it was listed
            return one, kind, False
        except (OSError, ValueError, EOFError) as error:
            return one, kind, f"{one.path}: cannot be read ({' '.join(str(error).split())[:100]})"

    with Threads(THREADS, thread_name_prefix="proof") as pool:
        for one, kind, found in pool.map(look, files):
            if isinstance(found, str):
                looked.unread.append(found)
                continue
            getattr(looked, kind).add(one.size)
            if found:
                yield one


def _names(lake: Lake, one: Found, kind: str, sought: Sought) -> bool:
    if kind == "avro" and kind_of(one.path) == "metadata":
        return any(sought.is_bound(value) for value in lake.avro_values(one.path.split("/")[1], one.uri))
    content = storage.read(one.uri)
    if kind == "parquet" and content:
        return sought.is_in_parquet(content)
    return sought.is_in(content)
