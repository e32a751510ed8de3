"""One stage of a pipeline as a worker: blocks of the manifest in, rows out. Knows nothing of Ray."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from swath.flows.work.apart import Recipe, run_apart
from swath.flows.work.artifacts import Keeper
from swath.flows.work.clock import Clock, Spent
from swath.flows.work.files import at_hand
from swath.flows.work.heap import keep_freed_memory
from swath.flows.work.journal import LOADING, RESTING, Watched, resident_bytes, resting
from swath.flows.work.nodes import Needs
from swath.flows.work.threads import limit_threads
from swath.infra import storage
from swath.infra.logs import LOG
from swath.infra.models import fetch
from swath.operators.core.base import BYTES, OPEN, Reject, Resources
from swath.operators.core.chain import Chain, Journal, Link, NoJournal, Row, reject
from swath.operators.models.reference import use_fetch
from swath.schemas.columns import Column, schema_of
from swath.schemas.errors import RunFailed
from swath.schemas.items import Reason, Status
from swath.schemas.pipeline import Limits

READ = "read"
"""The step name of rejects that no operator made: the object could not be read, or was too large to be."""
STARTS = 5
"""How often a stage's workers may die while loading before the run stops; Ray would start them for ever."""
RESTS = 5
"""How often they may die between the items of one block, none of which can then be left out of it."""
TOLD = 20
"""Rejects of a block that are told one by one; their number is told of all."""
Rejected = Mapping[str, str | int | None]
"""A rejected item: item (its URI), page, step, reason, detail, and the host and process that it was done in."""
Progress = Callable[[str, int, int, Spent, Sequence[Rejected]], None]
"""Told (stage, items, rejects, seconds spent, some of the rejects) since the last call."""


@dataclass(frozen=True)
class Stage:
    """Neighbouring steps fused into one worker."""

    name: str
    links: tuple[Link, ...]
    resources: Resources
    first: bool = True
    last: bool = True
    fetches: bool = False
    """Whether it reads the objects from the store: the first stage does, where any stage wants their bytes."""
    opens: bool = False
    """Whether its rows get what opens their files; the first stage's do, where any stage wants it."""


@dataclass(frozen=True)
class Context:
    """What every worker of a wave knows."""

    run_id: str
    wave: int
    columns: tuple[Column, ...]
    fingerprint: str
    fingerprints: dict[str, str]
    """Of all steps of the pipeline."""
    models: dict[str, str]
    """Of the steps that have one: its name and digest."""
    makes: dict[str, tuple[str, ...]]
    """All steps, in order, and the columns they make."""
    runs: tuple[str, ...]
    """The steps that run; what the others have made is carried over."""
    limits: Limits
    suspects: str
    """URI prefix of the items that were being touched when a worker died."""
    artifacts: str
    """URI prefix of what operators keep beside the table."""
    needs: Needs | None = None
    """What each node of a cluster must have to work on it."""
    files: tuple[tuple[str, str], ...] = ()
    """The driver's own files that steps name: how they name each, and its URI."""


class StageWorker:
    """Built once a worker process; called with one block at a time.

    A block of the first stage is a table with the columns of `schemas.items.MANIFEST`, in which items of one
    object are neighbours; the last stage returns the table's columns. Between stages rows travel pickled.

    Its operators run in this process, which a sidecar ends in their stead where it is `watched`; `apart`, each block
    gets a process of its own, and this one lives on whatever they do.
    """

    def __init__(
        self, stage: Stage, context: Context, watched: bool, progress: Progress | None = None, *, apart: bool = False
    ) -> None:
        self.threads = max(1, int(stage.resources.cpus))
        self.stage, self.context, self.progress, self.apart = stage, context, progress, apart
        self.suspects = suspects_of(stage, context)
        self.watch: Watched | None = None
        self.journal: Journal = NoJournal()
        self.clock = Clock()
        self._finished: tuple[int, int] = 0, 0
        self._rejected: list[Rejected] = []
        self._blocks = 0
        if watched:
            self.watch = Watched(self.suspects, context.limits.seconds, context.limits.memory_bytes)
            self.journal = self.watch.slot
        try:
            self.chains = self._loaded()
        except BaseException:
            self.close()
            raise
        loaded = self.clock.take()["idle"]  # from now on it can be given work
        of = {"run": context.run_id, "wave": context.wave, "stage": stage.name, "seconds": round(loaded, 3)}
        LOG.info("worker ready", extra=of | {"host": socket.gethostname(), "pid": os.getpid()})

    def _loaded(self) -> list[Chain]:
        """The stage's operators, ready to work unless each item gets a process of its own."""
        if self.watch:
            self._check_starts()
            self.watch.slot.load()
        links = at_hand(self.stage.links, dict(self.context.files))
        keeper = Keeper(self.context.artifacts, self.context.fingerprints, self.journal, self.clock)
        cut = next((i for i, link in enumerate(links) if link.of_objects), len(links))
        # An object's operator sees all its items at once, so it runs when the items themselves are through.
        chains = [Chain(part, self.journal, keeper) for part in (links[:cut], links[cut:]) if part]
        if self.apart:
            return chains
        limit_threads(self.threads)
        keep_freed_memory()
        use_fetch(fetch)
        for chain in chains:
            chain.load()
        self.journal.rest()
        if self.watch and self._bloated():
            raise RunFailed(
                f"a worker for {self.stage.name} has {resident_bytes(os.getpid()) / 2**30:.2f} GiB in memory before "
                f"its first item, the limit is {self.context.limits.memory_bytes / 2**30:.2f} GiB; raise `limits: "
                "{memory_bytes: ...}` of the pipeline"
            )
        return chains

    def __call__(self, block: pa.Table) -> pa.Table:
        with self.clock.at("work"):
            return self._through(block)

    def _through(self, block: pa.Table) -> pa.Table:
        suspects: frozenset[str] = frozenset()
        if self.watch:
            self.watch.ensure()
            if self._blocks and self._bloated():
                os._exit(1)  # many items have left it so, and none is at fault: Ray starts another one
            told = storage.list_names(self.suspects)
            self._check_rests(block, told)
            suspects = frozenset(name for name in told if not name.startswith((LOADING, RESTING)))
            self.watch.slot.begin(_name(block))
        rows = self._started(block) if self.stage.first else _unpacked(block)
        for chain in self.chains:
            rows = self._isolated(chain, rows, suspects)
        finished = list(rows)
        self.journal.rest()
        if self.stage.last:
            finished = [finish(row, self.context) for row in finished]
        result = to_table(finished, self.context.columns) if self.stage.last else _packed(finished)
        self._blocks += 1
        rejected = [row for row in finished if row["status"] == Status.REJECTED]
        self._finished = len(finished), len(rejected)
        self._rejected = [_told(row) for row in rejected[:TOLD]] if self.stage.last else []
        return result

    def done(self) -> None:
        """What the last block became is where it belongs: a death from now on is none of that block's."""
        if self.watch:
            self.watch.slot.end()
        if self.progress:
            self.progress(self.stage.name, *self._finished, self.clock.take(), self._rejected)

    def close(self) -> None:
        if self.watch:
            self.watch.__exit__()

    def _check_starts(self) -> None:
        died = sum(name.startswith(LOADING) for name in storage.list_names(self.suspects))
        if died >= STARTS:
            raise RunFailed(f"workers for {self.stage.name} died {died} times while their models were being loaded")

    def _check_rests(self, block: pa.Table, told: Iterable[str]) -> None:
        died = sum(name.startswith(resting(_name(block))) for name in told)
        if died >= RESTS:
            first = block.column("source_uri" if self.stage.first else "item_id")[0].as_py()
            raise RunFailed(
                f"workers for {self.stage.name} died {died} times over the same {block.num_rows} items, the first of "
                f"which is {first}, and none was being worked on, so that none can be left out; see what ends them "
                "(`dmesg` tells of processes for which the machine had no memory), then `swath resume`"
            )

    def _bloated(self) -> bool:
        return resident_bytes(os.getpid()) > self.context.limits.memory_bytes

    def _started(self, block: pa.Table) -> Iterator[Row]:
        """The block's rows as dicts, with the content of their object where a step reads it."""
        rows = [begun(row, self.context) for row in block.to_pylist()]
        if self.stage.opens:
            rows = [row | {OPEN.name: storage.open_ranged} for row in rows]
        limit = self.context.limits.max_bytes
        fetched = [row for row in rows if self.stage.fetches and row["status"] == Status.OK]
        wanted = [row["source_uri"] for row in fetched if row["size_bytes"] <= limit]
        contents = storage.read_many(list(dict.fromkeys(wanted)))
        current: str | None = None
        content: bytes | Exception = b""
        for row in rows:
            uri = row["source_uri"]
            if not self.stage.fetches or row["status"] != Status.OK:
                pass
            elif row["size_bytes"] > limit:
                message = f"the file has {row['size_bytes']:,} bytes, the limit is {limit:,}"
                reject(row, READ, Reject(Reason.TOO_LARGE, message))
            else:
                self.journal.rest()  # waiting for the store is nothing an item can be blamed for
                if uri != current:
                    with self.clock.at("store"):
                        current, content = uri, next(contents)
                if isinstance(content, bytes):
                    row[BYTES.name] = content
                elif isinstance(content, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
                    reject(row, READ, Reject(Reason.NOT_FOUND, f"{type(content).__name__}: {content}"))
                else:
                    raise content
            yield row

    def _isolated(self, chain: Chain, rows: Iterable[Row], suspects: frozenset[str]) -> Iterator[Row]:
        """The rows through the chain, in order; apart from this process where a worker died on one of them."""
        if not suspects and not self.apart:
            return chain.run(rows)
        ordered = list(rows)
        if not self.apart and suspects.isdisjoint(row["item_id"] for row in ordered):
            return chain.run(ordered)
        self.journal.rest()
        context = self.context
        recipe = Recipe(tuple(chain.links), context.artifacts, context.fingerprints, self.threads, context.limits)
        return iter(run_apart(recipe, ordered, suspects))


def _name(block: pa.Table) -> str:
    name: str = block.column("item_id")[0].as_py()
    return name


def _told(row: Row) -> Rejected:
    said = {"step": row["reject_operator"], "reason": str(row["reject_reason"]), "detail": row["reject_message"]}
    where = {"host": socket.gethostname(), "pid": os.getpid()}
    return {"item": row["source_uri"], "page": row.get("page")} | said | where


def suspects_of(stage: Stage, context: Context) -> str:
    """URI of the folder in which a stage's sidecars leave what its workers died on."""
    return storage.join(context.suspects, stage.name.replace(" + ", "-"))


def to_table(rows: Sequence[Row], columns: Sequence[Column]) -> pa.Table:
    """Rows as the table's stored columns; a value that does not fit its column's type rejects its row."""
    schema = schema_of(columns)
    while True:
        arrays = []
        for field in schema:
            values = [row.get(field.name) for row in rows]
            if pa.types.is_map(field.type):
                values = [value if value is None else list(dict(value).items()) for value in values]
            try:
                arrays.append(pa.array(values, field.type))
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                _reject_misfits(rows, values, field)
                break
        else:
            return pa.table(arrays, schema=schema)


def begun(row: Row, context: Context) -> Row:
    """The row as its first step finds it: new, or with what the steps that do not run have made before."""
    maps = {name: dict(row.get(name) or ()) for name in ("fingerprints", "step_runs", "seconds")}
    # Rows from before there was `step_runs` were made by one run.
    runs = maps["step_runs"] or dict.fromkeys(maps["fingerprints"], row.get("run_id"))
    carried = {name: run for name, run in runs.items() if name in context.fingerprints and name not in context.runs}
    made = {name for step in context.runs for name in context.makes[step]}
    return {
        **{name: value for name, value in row.items() if name not in made},
        "status": row.get("status") or Status.OK,
        "step_runs": carried,
        "seconds": {name: value for name, value in maps["seconds"].items() if name in carried},
    }


def finish(row: Row, context: Context) -> Row:
    """The row with its provenance, and without what steps after its reject have made in earlier runs."""
    return {
        **row,
        **dict.fromkeys(_never_reached(row, context)),
        "step_runs": row["step_runs"] | dict.fromkeys(context.runs, context.run_id),
        "run_id": context.run_id,
        "wave": context.wave,
        "fingerprint": context.fingerprint,
        "fingerprints": context.fingerprints,
        "models": context.models,
        "processed_at": datetime.now(UTC),
    }


def _never_reached(row: Row, context: Context) -> list[str]:
    """The columns of the steps that come after the one that rejected the row."""
    if row["status"] != Status.REJECTED:
        return []
    steps = [READ, *context.makes]
    after = steps[steps.index(row["reject_operator"]) + 1 :] if row["reject_operator"] in steps else []
    return [column for step in after for column in context.makes[step]]


def _reject_misfits(rows: Sequence[Row], values: list[Any], field: pa.Field) -> None:
    for row, value in zip(rows, values, strict=True):
        try:
            pa.array([value], field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            row[field.name] = None
            reject(row, field.name, Reject(Reason.OPERATOR_ERROR, f"column {field.name!r} is {field.type}: {error}"))


def _packed(rows: list[Row]) -> pa.Table:
    # Pickle between our own workers only: rows carry numpy arrays and tensors that Arrow has no type for.
    packed = [pickle.dumps(row, protocol=5) for row in rows]
    return pa.table({"item_id": [row["item_id"] for row in rows], "row": pa.array(packed, pa.large_binary())})


def _unpacked(block: pa.Table) -> Iterator[Row]:
    for packed in block.column("row"):
        yield pickle.loads(packed.as_buffer())
