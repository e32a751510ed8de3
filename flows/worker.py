"""One stage of a pipeline as a worker: blocks of the manifest in, rows out. Knows nothing of Ray."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from swath.flows.alone import run_alone
from swath.flows.journal import Watched
from swath.infra import storage
from swath.operators.core.base import BYTES, Artifact, Reject, Resources
from swath.operators.core.chain import Chain, Journal, Link, NoJournal, Row, reject
from swath.schemas.columns import Column, schema_of
from swath.schemas.errors import RunFailed
from swath.schemas.items import Reason, Status
from swath.schemas.pipeline import Limits

READ = "read"
"""The step name of rejects that no operator made: the object could not be read, or was too large to be."""
LOAD_SECONDS = 180
"""What starting a process and loading its models may take, beside an item's own time."""
Progress = Callable[[str, int, int], None]
"""Told (stage, items, rejects) since the last call."""


@dataclass(frozen=True)
class Stage:
    """Neighbouring steps fused into one worker."""

    name: str
    links: tuple[Link, ...]
    resources: Resources
    first: bool = True
    last: bool = True

    @property
    def reads_bytes(self) -> bool:
        return self.first and any(BYTES.name in link.step.reads for link in self.links)


@dataclass(frozen=True)
class Context:
    """What every worker of a wave knows."""

    run_id: str
    wave: int
    columns: tuple[Column, ...]
    fingerprint: str
    fingerprints: dict[str, str]
    limits: Limits
    suspects: str
    """URI prefix of the items that were being touched when a worker died."""
    artifacts: str
    """URI prefix of what operators keep beside the table."""


class StageWorker:
    """Built once a worker process; called with one block at a time.

    A block of the first stage is a table with the columns of `schemas.items.MANIFEST`, in which items of one
    object are neighbours; the last stage returns the table's columns. Between stages rows travel pickled.
    """

    def __init__(self, stage: Stage, context: Context, watched: bool, progress: Progress | None = None) -> None:
        limit_threads(max(1, int(stage.resources.cpus)))
        self.stage, self.context, self.progress = stage, context, progress
        self.journal: Journal = NoJournal()
        self._exit = ExitStack()
        cut = next((i for i, link in enumerate(stage.links) if link.of_objects), len(stage.links))
        # An object's operator sees all its items at once, so it runs when the items themselves are through.
        self.chains = [Chain(part, store=self._keep) for part in (stage.links[:cut], stage.links[cut:]) if part]
        for chain in self.chains:
            chain.load()
        if watched:
            limits = context.limits
            watch = Watched(context.suspects, limits.seconds, limits.memory_bytes)
            self.journal = self._exit.enter_context(watch)
            for chain in self.chains:
                chain.journal = self.journal

    def __call__(self, block: pa.Table) -> pa.Table:
        rows = self._started(block) if self.stage.first else _unpacked(block)
        suspects = self._suspects()
        for chain in self.chains:
            rows = self._isolated(chain, rows, suspects)
        finished = list(rows)
        self.journal.rest()
        if self.stage.last:
            finished = [finish(row, self.context) for row in finished]
        result = to_table(finished, self.context.columns) if self.stage.last else _packed(finished)
        if self.progress:
            self.progress(self.stage.name, len(finished), sum(row["status"] == Status.REJECTED for row in finished))
        return result

    def close(self) -> None:
        self._exit.close()

    def _started(self, block: pa.Table) -> Iterator[Row]:
        """The block's rows as dicts, with the content of their object where a step reads it."""
        rows = block.to_pylist()
        blank = dict.fromkeys(column.name for column in self.context.columns)
        limit = self.context.limits.max_bytes
        wanted = [row["source_uri"] for row in rows if self.stage.reads_bytes and row["size_bytes"] <= limit]
        contents = storage.read_many(list(dict.fromkeys(wanted)))
        current: str | None = None
        content: bytes | Exception = b""
        for manifest in rows:
            row: Row = {**blank, **manifest, "status": Status.OK, "seconds": {}}
            uri = row["source_uri"]
            if self.stage.reads_bytes and row["size_bytes"] > limit:
                message = f"the file has {row['size_bytes']:,} bytes, the limit is {limit:,}"
                reject(row, READ, Reject(Reason.TOO_LARGE, message))
            elif self.stage.reads_bytes:
                self.journal.rest()  # waiting for the store is nothing an item can be blamed for
                if uri != current:
                    current, content = uri, next(contents)
                if isinstance(content, bytes):
                    row[BYTES.name] = content
                elif isinstance(content, FileNotFoundError | PermissionError):
                    reject(row, READ, Reject(Reason.NOT_FOUND, f"{type(content).__name__}: {content}"))
                else:
                    raise content
            yield row

    def _isolated(self, chain: Chain, rows: Iterable[Row], suspects: frozenset[str]) -> Iterator[Row]:
        """The rows through the chain, in order; those a worker died on go alone, in a process of their own."""
        if not suspects:
            return chain.run(rows)
        whole = chain.links[0].of_objects
        ordered = list(rows)
        accused = {row["object_id"] if whole else row["item_id"] for row in ordered if row["item_id"] in suspects}
        key = "object_id" if whole else "item_id"
        free = [row for row in ordered if row[key] not in accused]
        results = {row["item_id"]: row for row in chain.run(free)}
        self.journal.rest()
        for name in sorted(accused):
            together = [row for row in ordered if row[key] == name]
            results |= {row["item_id"]: row for row in self._alone(chain.links, together)}
        return iter([results[row["item_id"]] for row in ordered])

    def _alone(self, links: Sequence[Link], rows: list[Row]) -> list[Row]:
        """The rows from a child process, or rejected where they end that too."""
        limits = self.context.limits
        with TemporaryDirectory(prefix="swath-alone-") as folder:
            context = replace(self.context, suspects=storage.normalize(folder))
            outcome = run_alone(
                "swath.flows.worker:attempt",
                pickle.dumps((links, context, rows)),
                seconds=LOAD_SECONDS + limits.seconds * len(rows) * len(links),
                memory_bytes=2 * limits.memory_bytes,  # its own sidecar is there before this
            )
            if outcome.result is not None:
                finished: list[Row] = pickle.loads(outcome.result)
                return finished
            note = _note(Path(folder))
        if note is None and outcome.reason == Reason.CRASHED:
            raise RunFailed(f"a worker could not start: {outcome.message}")
        reason = Reason(note["reason"]) if note else Reason(outcome.reason or Reason.CRASHED)
        how = {
            Reason.CRASHED: f"its process ended: {outcome.message}",
            Reason.TIMED_OUT: f"it took longer than {limits.seconds:g} s",
            Reason.OUT_OF_MEMORY: f"it took more than {limits.memory_bytes / 2**30:.2g} GiB of memory",
        }[reason]
        for row in rows:
            reject(row, note["step"] if note else links[0].step.name, Reject(reason, f"{how}, also when tried alone"))
            for name in {name for link in links for name in link.drops}:
                row.pop(name, None)
        return rows

    def _suspects(self) -> frozenset[str]:
        return frozenset(storage.list_names(self.context.suspects))

    def _keep(self, row: Row, step: str, artifact: Artifact) -> str:
        name = f"{row['item_id']}-{self.context.fingerprints[step]}{artifact.suffix}"
        uri = storage.join(self.context.artifacts, row["item_id"][:2], name)
        storage.write(uri, artifact.content)
        return uri


def attempt(payload: bytes) -> bytes:
    """Runs the rows of a pickled (links, context, rows) under a sidecar of their own; the finished rows, pickled."""
    links, context, rows = pickle.loads(payload)
    stage = Stage("alone", tuple(links), Resources(), first=False)
    worker = StageWorker(stage, context, watched=True)
    finished = list(worker.chains[0].run(rows))
    worker.close()
    return pickle.dumps(finished)


def limit_threads(threads: int) -> None:
    """One policy for every library in this process that brings threads of its own."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["OMP_THREAD_LIMIT"] = str(threads)  # Tesseract: 6 times slower where several fight for the cores
    import cv2

    cv2.setNumThreads(threads)


def to_table(rows: Sequence[Row], columns: Sequence[Column]) -> pa.Table:
    """Rows as the table's stored columns; a value that does not fit its column's type rejects its row."""
    schema = schema_of(columns)
    while True:
        arrays = []
        for field in schema:
            values = [row.get(field.name) for row in rows]
            if pa.types.is_map(field.type):
                values = [value if value is None else list(value.items()) for value in values]
            try:
                arrays.append(pa.array(values, field.type))
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                _reject_misfits(rows, values, field)
                break
        else:
            return pa.table(arrays, schema=schema)


def finish(row: Row, context: Context) -> Row:
    """The row with its provenance."""
    return {
        **row,
        "run_id": context.run_id,
        "wave": context.wave,
        "fingerprint": context.fingerprint,
        "fingerprints": context.fingerprints,
        "processed_at": datetime.now(UTC),
    }


def _reject_misfits(rows: Sequence[Row], values: list[Any], field: pa.Field) -> None:
    for row, value in zip(rows, values, strict=True):
        try:
            pa.array([value], field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            row[field.name] = None
            reject(row, field.name, Reject(Reason.OPERATOR_ERROR, f"column {field.name!r} is {field.type}: {error}"))


def _note(folder: Path, patience: float = 5.0) -> dict[str, str] | None:
    """What the child's sidecar left; it writes after the child's death, so it may take a moment."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for path in folder.iterdir():
            if not path.name.startswith("."):
                note: dict[str, str] = json.loads(path.read_bytes())
                return note
        time.sleep(0.02)
    return None


def _packed(rows: list[Row]) -> pa.Table:
    # Pickle between our own workers only: rows carry numpy arrays and tensors that Arrow has no type for.
    packed = [pickle.dumps(row, protocol=5) for row in rows]
    return pa.table({"item_id": [row["item_id"] for row in rows], "row": pa.array(packed, pa.large_binary())})


def _unpacked(block: pa.Table) -> Iterator[Row]:
    for packed in block.column("row"):
        yield pickle.loads(packed.as_buffer())
