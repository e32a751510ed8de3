"""Files that nobody refers to any more: found by what does refer, never by what a name looks like alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pyarrow as pa

from swath.flows.duck import parquet, scratch
from swath.flows.upkeep.claims import Claims
from swath.flows.upkeep.report import Action
from swath.flows.upkeep.units import human_bytes
from swath.flows.upkeep.walk import Found
from swath.infra import storage
from swath.infra.lake import Lake

DAY = timedelta(days=1)
"""Nothing younger is swept: somebody may just be about to refer to it."""
THREADS = 8
CHUNK = 1_000
"""Files that are deleted while publishing waits."""
_METADATA = re.compile(r"(\d+)-[^/]*\.metadata\.json")
_ARTIFACT = re.compile(r"([0-9a-f]{32})-([^./]+)[^/]*")


def orphans(
    lake: Lake, table: str, found: Iterable[Found], claims: Claims, expired: Collection[int], kept: list[str]
) -> list[Found]:
    """Those of a table's files that none of its snapshots names, but for the `expired` (in a dry run they are still
    there), and that no unfinished run has staged. `found` was listed before `claims` were read."""
    held: dict[str, int] = defaultdict(int)
    named = lake.named(table)
    for snapshot_id in expired:
        named.by_snapshot.pop(snapshot_id, None)
        named.metadata.pop(snapshot_id, None)
    alive = named.all()
    newest = max((_version(uri) for uri in named.heads), default=-1)
    doomed = []
    for one in found:
        _, _, folder, *rest = one.path.split("/")
        if one.uri in alive:
            continue
        if folder == "metadata" and _version(one.uri) > newest:
            kept.append(
                f"all files of {table}: {one.path} is newer than what the catalog knows, which may be an old copy; "
                "the next publish tells"
            )
            return []
        if folder == "data" and rest[0] in claims.unfinished:
            held[rest[0]] += one.size
            continue
        doomed.append(one)
    for run_id, size in sorted(held.items()):
        kept.append(
            f"{human_bytes(size)} that run {run_id} has staged and not published; "
            f"`swath resume {run_id}` or `swath discard --run {run_id}`"
        )
    return doomed


def delete_orphans(lake: Lake, table: str, doomed: Sequence[Found]) -> list[Found]:
    """Deletes files of a table, some at a time while nobody publishes, and returns those that it has: a rollback may
    have put back in the meantime what no snapshot named before."""
    deleted: list[Found] = []
    alive, seen = set[str](), None
    for start in range(0, len(doomed), CHUNK):
        with lake.publishing(table, "of the sweep"):
            if seen is None or lake.snapshot(table) != seen:
                seen, alive = lake.snapshot(table), lake.named(table).all()
            part = [one for one in doomed[start : start + CHUNK] if one.uri not in alive]
            _delete(part)
            deleted += part
    return deleted


def leftovers(found: Iterable[Found], claims: Claims, now: datetime, manifests: timedelta) -> dict[str, list[Found]]:
    """Of the files of runs and backfills: staging of those that are over, and manifests of those that are so for as
    long as said."""
    doomed: dict[str, list[Found]] = {"staging": [], "manifests": []}
    for one in found:
        _, kind, name, *rest = one.path.split("/")
        end = (claims.finished if kind == "runs" else claims.backfills).get(name)
        if end is None or len(rest) < 2:
            continue
        if kind == "runs" and rest[0] == "waves":
            doomed["staging"].append(one)
        elif end < now - manifests and (rest[0] == "manifest" or (kind != "runs" and one.path.endswith(".parquet"))):
            doomed["manifests"].append(one)
    return doomed


def artifacts(
    lake: Lake, found: Iterable[Found], claims: Claims, expired: Mapping[str, Collection[int]], kept: list[str]
) -> list[Found]:
    """Artifacts of which no row of any snapshot is the maker: none has their item and their step's fingerprint.

    `found` are those old enough; what was stored since the first unfinished run began is left alone.
    """
    named: dict[str, tuple[Found, str, str]] = {}
    strange = 0
    for one in found:
        match = _ARTIFACT.fullmatch(one.path.rpartition("/")[2])
        if match is None:
            strange += 1
        elif claims.oldest is None or one.modified < claims.oldest:
            named[one.uri] = one, match[1], match[2]
    if strange:
        kept.append(f"{strange:,} files below artifacts/ that are not named as artifacts are")
    if not named:
        return []
    with scratch(lake.warehouse) as db:
        columns = [list(named), [item for _, item, _ in named.values()], [made for *_, made in named.values()]]
        db.register("given", pa.table(columns, names=["uri", "item_id", "made"]))
        db.execute("CREATE TABLE orphans AS FROM given")
        for table in lake.tables():
            schema = lake.schema(table)
            if schema is None or not {"item_id", "fingerprints"} <= set(schema.names):
                continue
            by_snapshot = lake.named(table).by_snapshot
            files = {path for key, paths in by_snapshot.items() if key not in expired.get(table, ()) for path in paths}
            if files:
                db.execute(
                    f"""DELETE FROM orphans WHERE (item_id, made) IN (
                        SELECT item_id, unnest(map_values(fingerprints)) FROM {parquet(sorted(files))}
                        SEMI JOIN given USING (item_id))"""
                )
        return [named[uri][0] for (uri,) in db.execute("SELECT uri FROM orphans ORDER BY uri").fetchall()]


def deleted(what: str, files: Collection[Found], dry_run: bool = True, table: str = "") -> Action | None:
    """Deletes files, unless that is done or this is a dry run; None where there are none."""
    if not dry_run:
        _delete(files)
    return Action(what=what, table=table, files=len(files), bytes=sum(one.size for one in files)) if files else None


def _delete(files: Iterable[Found]) -> None:
    with ThreadPoolExecutor(THREADS, thread_name_prefix="sweep") as pool:
        list(pool.map(lambda one: storage.delete(one.uri), files))


def _version(uri: str) -> int:
    """The number of a metadata file; -1 for any other."""
    match = _METADATA.fullmatch(uri.rpartition("/")[2])
    return int(match[1]) if match else -1
