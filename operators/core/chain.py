"""Several operators as one worker: record isolation, routing, timing, dropping what nobody reads any more."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol

from swath.operators.core.base import (
    BYTES,
    GROUND,
    OPEN,
    PIXELS,
    PREPARED,
    SKIPPED,
    SURROUNDINGS,
    TO_SOURCE,
    Artifact,
    Batch,
    ItemOperator,
    ModelOperator,
    Operator,
    Reject,
    Transform,
    must_be,
)
from swath.operators.core.geometry import IDENTITY
from swath.operators.core.when import When
from swath.schemas.columns import Column
from swath.schemas.errors import StorageUnavailable
from swath.schemas.items import Reason, Status

Row = dict[str, Any]
Store = Callable[[Row, str, Artifact], str]
"""Keeps an artifact of (row, step) and returns its URI."""
PIXEL_BUDGET = 256 << 20
"""Bytes of files, working images and models' inputs that may wait for a batch to fill."""


class Journal(Protocol):
    """Told before each touch of an item, so that a dead worker's last items are known."""

    def touch(self, item_ids: Sequence[str], step: str) -> None: ...

    def rest(self) -> None: ...


class NoJournal:
    """Keeps nothing: for a chain that runs in the calling process."""

    def touch(self, item_ids: Sequence[str], step: str) -> None:
        pass

    def rest(self) -> None:
        pass


@dataclass(frozen=True)
class BoundStep:
    """An operator with its place in a pipeline."""

    name: str
    operator: Operator
    when: When | None = None
    fingerprint: str = ""
    discreet: bool = False
    """Whether its exceptions stay unquoted, because it sees what the table must not hold."""

    # Asked for every item: kept, because an operator makes its columns anew each time.

    @cached_property
    def given(self) -> tuple[str, ...]:
        """The columns its operator is given; never none, because a batch must say how long it is."""
        return tuple(column.name for column in self.operator.inputs()) or ("item_id",)

    @cached_property
    def produced(self) -> tuple[str, ...]:
        """The columns its operator returns, a transform's image included."""
        return tuple(self.operator.produced())

    @cached_property
    def outputs(self) -> tuple[Column, ...]:
        """The output columns under the names they have in the table: a step named after its operator keeps the
        operator's own."""
        prefix = "" if self.name == self.operator.op_name() else f"{self.name}_"
        return tuple(
            column if column in (*GROUND, SKIPPED) else column.renamed(prefix + column.name)
            for column in self.operator.outputs()
        )

    @cached_property
    def table_names(self) -> dict[str, str]:
        """From the operator's name of an output column to its name in the table."""
        own = (column.name for column in self.operator.outputs())
        return dict(zip(own, (column.name for column in self.outputs), strict=True))

    @cached_property
    def makes(self) -> frozenset[str]:
        """All columns it makes, under the names that other steps read; of a transform the image too."""
        image = {PIXELS.name, TO_SOURCE.name} if isinstance(self.operator, Transform) else set()
        return frozenset(image.union(column.name for column in self.outputs))

    @cached_property
    def reads(self) -> frozenset[str]:
        """All columns it reads, those of its `when` included."""
        return frozenset(c.name for c in self.operator.inputs()) | (self.when.columns if self.when else frozenset())


@dataclass(frozen=True)
class Link:
    """One call the chain makes: a whole step, or one half of a model's."""

    step: BoundStep
    half: str = "whole"
    """whole, prepare or run."""
    drops: tuple[str, ...] = ()
    """Working columns that nobody reads after this link."""

    @property
    def per_item(self) -> bool:
        return self.half == "prepare" or isinstance(self.step.operator, ItemOperator)

    @property
    def of_objects(self) -> bool:
        return self.half != "prepare" and self.step.operator.scope == "object"

    @property
    def prepared(self) -> str:
        return f"{self.step.name}:{PREPARED.name}"


@dataclass
class Chain:
    """Runs links over a stream of rows; the same rows come out in the same order, with more columns."""

    links: Sequence[Link]
    journal: Journal = field(default_factory=NoJournal)
    store: Store | None = None

    def load(self) -> None:
        """Builds every model; raises what the operators raise."""
        self._models = {
            link.step.name: link.step.operator.load() for link in self.links if link.half in ("whole", "run")
        }

    def run(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Items of one object must be neighbours where an operator has scope 'object'."""
        stream: Iterator[Row] = iter(rows)
        for per_item, group in groupby(self.links, key=lambda link: link.per_item):
            if per_item:
                stream = self._items(stream, list(group))
            else:
                for link in group:
                    stream = self._objects(stream, link) if link.of_objects else self._batches(stream, link)
        return stream

    def _items(self, rows: Iterator[Row], links: list[Link]) -> Iterator[Row]:
        for row in rows:
            for link in links:
                self._apply(link, [row])
            yield row

    def _batches(self, rows: Iterator[Row], link: Link) -> Iterator[Row]:
        waiting: list[Row] = []
        held = 0
        for row in rows:
            waiting.append(row)
            held += _weight(row)
            if len(waiting) == link.step.operator.resources.batch or held > PIXEL_BUDGET:
                yield from self._together(link, waiting)
                waiting, held = [], 0
        yield from self._together(link, waiting)

    def _objects(self, rows: Iterator[Row], link: Link) -> Iterator[Row]:
        for _, group in groupby(rows, key=lambda row: row["object_id"]):
            yield from self._together(link, list(group))

    def _together(self, link: Link, rows: list[Row]) -> list[Row]:
        if rows:
            self._apply(link, rows)
        return rows

    def _apply(self, link: Link, rows: list[Row]) -> None:
        """Runs one link over the rows it applies to; whatever goes wrong stays with the row it went wrong on."""
        step = link.step
        due = [row for row in rows if _applies(link, row)]
        if due:
            self.journal.touch([row["item_id"] for row in due], step.name)
            started = time.perf_counter()
            for row, result in zip(due, self._results(link, due), strict=True):
                self._settle(link, row, result)
            each = (time.perf_counter() - started) / len(due)
            for row in due:
                row["seconds"][step.name] = row["seconds"].get(step.name, 0.0) + each
        for row in rows:
            for name in link.drops:
                row.pop(name, None)

    def _results(self, link: Link, rows: list[Row]) -> list[Row | Reject]:
        try:
            return self._call(link, rows)
        except StorageUnavailable:
            raise  # no item's fault: the run stops, and can be resumed
        except Exception as error:
            if len(rows) == 1 or link.of_objects:
                return [verdict(error, quote=not link.step.discreet)] * len(rows)
            results: list[Row | Reject] = []
            for row in rows:
                self.journal.touch((row["item_id"],), link.step.name)
                results += self._results(link, [row])
            return results

    def _call(self, link: Link, rows: list[Row]) -> list[Row | Reject]:
        operator = link.step.operator
        if link.half == "prepare":
            assert isinstance(operator, ModelOperator)
            items = [{name: row.get(name) for name in link.step.given} for row in rows]
            return [_one({link.prepared: operator.prepare(item)}) for item in items]
        if link.half == "run":
            batch: Batch = {PREPARED.name: [row[link.prepared] for row in rows]}
        else:
            batch = {name: [row.get(name) for row in rows] for name in link.step.given}
        produced = operator.run(batch, self._models[link.step.name])
        must_be(link.step.produced, produced)
        for name, values in produced.items():
            if len(values) != len(rows):
                raise ValueError(f"returned {len(values)} values of {name!r} for {len(rows)} items")
        return [_one({name: values[i] for name, values in produced.items()}) for i in range(len(rows))]

    def _settle(self, link: Link, row: Row, result: Row | Reject) -> None:
        if isinstance(result, Reject):
            reject(row, link.step.name, result)
            return
        if isinstance(link.step.operator, Transform):
            pixels, to_input = result.pop("pixels"), result.pop("to_input")
            if pixels is not None:
                row.pop(SURROUNDINGS.name, None)  # they would not look like these pixels any more
                row["pixels"] = pixels
                anew = PIXELS.name not in link.step.reads
                row["to_source"] = to_input if anew else row.get("to_source", IDENTITY) @ to_input
        if link.half == "prepare":
            row.update(result)
            return
        for name, value in result.items():
            if isinstance(value, Artifact):
                assert self.store is not None, "a chain whose operators return artifacts needs a store"
                value = self.store(row, link.step.name, value)
            row[link.step.table_names[name]] = value


def _applies(link: Link, row: Row) -> bool:
    if row["status"] != Status.OK or row.get(SKIPPED.name) is not None:
        return False
    if link.half == "run":  # decided when it was prepared; what `when` reads may be gone
        return link.prepared in row
    step = link.step
    try:
        return step.when is None or step.when.applies(row)
    except Exception as error:  # columns of types that do not compare
        reject(row, step.name, verdict(error, quote=not step.discreet))
        return False


def _weight(row: Row) -> int:
    """Bytes that a waiting row keeps in memory: those of arrays, and of what says itself how large it is."""
    return sum(len(value) if isinstance(value, bytes) else getattr(value, "nbytes", 0) for value in row.values())


def _one(values: Row) -> Row | Reject:
    return next((value for value in values.values() if isinstance(value, Reject)), values)


def verdict(error: BaseException, quote: bool = True) -> Reject:
    """The reject that an operator's exception stands for, with the exception's own words where they may be quoted."""
    if isinstance(error, Reject):
        return error
    if isinstance(error, MemoryError):
        return Reject(Reason.OUT_OF_MEMORY, "the operator asked for more memory than there is")
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
    words = f": {str(error)[:500]}" if quote else ""
    return Reject(Reason.OPERATOR_ERROR, f"{type(error).__name__}{words} ({place})")


def reject(row: Row, step: str, result: Reject) -> None:
    """Writes the verdict into the row; columns of earlier steps stay."""
    row["status"] = Status.REJECTED
    row["reject_operator"] = step
    row["reject_reason"] = result.reason
    row["reject_message"] = result.message


def links_of(steps: Sequence[BoundStep]) -> list[Link]:
    """The calls for the steps: models split into their halves, and every working column dropped after its last
    reader, or at once where nobody reads it."""
    working = {column.name for column in (BYTES, OPEN, PIXELS, TO_SOURCE)}
    working |= {column.name for step in steps for column in step.outputs if not column.stored}
    pending = set(working)
    links: list[Link] = []
    for step in reversed(steps):
        made = step.makes & working
        halves = [("run", made), ("prepare", step.reads)] if isinstance(step.operator, ModelOperator) else []
        for half, touched in halves or [("whole", made | step.reads)]:
            drops = pending & touched
            pending -= drops
            own = {Link(step, half).prepared} if half == "run" else set()
            links.append(Link(step, half, tuple(sorted(drops | own))))
    return links[::-1]
