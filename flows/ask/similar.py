"""Which items of a table look most like one of them, or like a file that is not among them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swath.flows.ask.query import Session, open_session
from swath.infra import storage
from swath.operators.image.hashing import distance
from swath.schemas.errors import QueryError, SourceError
from swath.schemas.items import MANIFEST, Status, item_id, object_id
from swath.schemas.sql import literal, quoted, shape
from swath.schemas.types import EMBEDDING

if TYPE_CHECKING:
    from swath.flows.pipelines.binding import Bound
    from swath.operators.core.chain import BoundStep


@dataclass(frozen=True)
class Looks:
    """What an item is compared by: its columns of a hash and of a vector, and the values that are sought."""

    columns: dict[str, str]
    """`phash` and `embedding`, as far as the table has them, to the names of the columns."""
    values: dict[str, str | list[float]]
    item_id: str | None
    """Of the item that is asked about, which is not among the answers."""


def similar(warehouse: str, uri: str, count: int, pipeline: str | None = None) -> pa.Table:
    """The items that look most like the one of that URI or id, the most alike first: by the cosine of embeddings where
    the table has some, else by perceptual hashes.

    A file that is no item is put through the steps that made those columns. Every row is compared: seconds for a
    million. Raises QueryError where there is nothing to compare by.
    """
    with contextlib.closing(open_session(warehouse, pipeline)) as session:
        name = _table(session, pipeline)
    with contextlib.closing(open_session(warehouse, name)) as session:
        columns = _compared_by(session, name)
        found = _known(session, name, uri, columns) or _seen(warehouse, session, name, uri, columns)
        return _ranked(session, name, found, count)


def _table(session: Session, pipeline: str | None) -> str:
    if pipeline is None and len(session.pipelines) == 1:
        return session.pipelines[0]
    if pipeline in session.pipelines:
        return pipeline
    there = f"there are {', '.join(session.pipelines)}" if session.pipelines else "`swath run` makes one"
    what = f"no table of a pipeline {pipeline!r}" if pipeline else "not one table but several; name one with --pipeline"
    raise QueryError(f"{session.warehouse} has {what if session.pipelines else 'no table'}; {there}")


def _compared_by(session: Session, name: str) -> dict[str, str]:
    wanted = {"phash": pa.string(), "embedding": EMBEDDING}
    columns = {
        kind: column.name
        for kind, type_ in wanted.items()
        for column in reversed(session.view(f"{name}.stored").columns)
        if f"_{column.name}".endswith(f"_{kind}") and shape(column.type) == shape(type_)
    }
    if not columns:
        raise QueryError(f"the items of {name} cannot be compared; give the pipeline a step perceptual_hash or embed")
    return columns


def _known(session: Session, name: str, uri: str, columns: dict[str, str]) -> Looks | None:
    """What the table holds of the item."""
    sought = f"item_id = {literal(uri)} OR source_uri IN ({literal(uri)}, {literal(storage.normalize(uri))})"
    chosen = ", ".join(f"{quoted(column)} AS {kind}" for kind, column in columns.items())
    query = (
        f"SELECT item_id, {chosen} FROM {quoted(name)}.stored WHERE ({sought}) "
        f"AND status = {literal(Status.OK)} ORDER BY page NULLS FIRST LIMIT 1"
    )
    rows = session.stream(query).read_all().to_pylist()
    if not rows:
        return None
    own = rows[0].pop("item_id")
    values = {kind: value for kind, value in rows[0].items() if value is not None}
    if not values:
        raise QueryError(f"{uri} has neither hash nor embedding: the steps that make them left it out")
    return Looks(columns, values, own)


def _seen(warehouse: str, session: Session, name: str, uri: str, columns: dict[str, str]) -> Looks:
    """What the steps that made the columns, as the newest run had them, say of a file."""
    from swath.flows.pipelines.binding import bind
    from swath.flows.run.records import Runs
    from swath.operators.core.chain import Chain, links_of

    query = f"SELECT run_id FROM {quoted(name)}.stored ORDER BY processed_at DESC LIMIT 1"
    newest = session.stream(query).read_all().to_pylist()
    if not newest:
        raise QueryError(f"the table of {name} is empty")
    bound = bind(Runs(warehouse).load(newest[0]["run_id"]).request.pipeline)
    place = storage.normalize(uri)
    try:
        content = storage.read(place)
    except OSError as error:
        raise SourceError(f"{uri} is no item of {name}, and no file that can be read ({error})") from None
    row = dict.fromkeys(column.name for column in MANIFEST) | {"item_id": item_id(place), "object_id": object_id(place)}
    row |= {"source_uri": place, "size_bytes": len(content), "bytes": content, "status": Status.OK, "seconds": {}}
    row |= dict.fromkeys(("reject_operator", "reject_reason", "reject_message"))
    chain = Chain(links_of(_makers(bound, {bound.step_of[column] for column in columns.values()})))
    chain.load()
    (done,) = chain.run([row])
    if done["status"] != Status.OK:
        raise SourceError(f"{uri}: {done['reject_message']} ({done['reject_reason']})")
    values = {kind: done[column] for kind, column in columns.items() if done.get(column) is not None}
    if not values:
        raise QueryError(f"the steps of {name} that would describe {uri} leave it out (`when`)")
    return Looks(columns, values, None)


def _makers(bound: Bound, names: set[str]) -> list[BoundStep]:
    """The steps of these names, and those that make what they read."""
    steps: list[BoundStep] = []
    wanted: set[str] = set()
    for step in reversed(bound.steps):
        if step.name in names or wanted & step.makes:
            steps.append(step)
            wanted |= step.reads
    return steps[::-1]


def _ranked(session: Session, name: str, looks: Looks, count: int) -> pa.Table:
    """The best of all items, which are read batch by batch."""
    chosen = ["item_id", "source_uri", "page", *(f"{quoted(looks.columns[kind])} AS {kind}" for kind in looks.values)]
    where = [f"status = {literal(Status.OK)}"]
    where += [f"{quoted(looks.columns[kind])} IS NOT NULL" for kind in looks.values]
    if looks.item_id is not None:
        where.append(f"item_id <> {literal(looks.item_id)}")
    query = f"SELECT {', '.join(chosen)} FROM {quoted(name)}.stored WHERE {' AND '.join(where)}"
    best: pa.Table | None = None
    for batch in session.stream(query):
        rows = pa.Table.from_batches([batch])
        order = [("item_id", "ascending")]
        if isinstance(bits := looks.values.get("phash"), str):
            differing = [distance(bits, one) for one in rows["phash"].to_pylist()]
            rows = rows.append_column("differing_bits", pa.array(differing, pa.int32())).drop("phash")
            order.insert(0, ("differing_bits", "ascending"))
        if isinstance(vector := looks.values.get("embedding"), list):
            rows = rows.append_column("similarity", cosines(rows["embedding"], vector)).drop("embedding")
            order.insert(0, ("similarity", "descending"))
        best = (pa.concat_tables([best, rows]) if best else rows).sort_by(order).slice(0, count)
    if best is None:
        raise QueryError(f"there is nothing in the table of {name} that could be compared")
    return best


def cosines(vectors: pa.ChunkedArray, vector: list[float]) -> pa.Array:
    """Of each vector with the one; null where it has another length, as those of another model."""
    found = np.full(len(vectors), np.nan, np.float32)
    lengths = pc.list_value_length(vectors).to_numpy()
    same = lengths == len(vector)
    flat = pc.list_flatten(vectors.filter(pa.array(same))).to_numpy().reshape(-1, len(vector))
    sizes = np.linalg.norm(flat, axis=1) * np.linalg.norm(vector)
    found[same] = flat @ np.asarray(vector, np.float32) / np.maximum(sizes, 1e-12)
    return pa.array(found, from_pandas=True)
