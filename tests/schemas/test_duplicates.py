"""Pairs that look alike: none is missed within three bits, and a thousand blank pages are no thousand squared."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from swath.schemas.columns import Column, schema_of
from swath.schemas.duplicates import NEAR_BITS
from swath.schemas.items import MANIFEST, VERDICT
from swath.schemas.types import EMBEDDING
from swath.schemas.views import views

HASHED = Column("phash", pa.string(), "Perceptual hash")
EMBEDDED = Column("embed_embedding", EMBEDDING, "Features")


def pairs(rows: list[dict[str, Any]], *columns: Column) -> list[dict[str, Any]]:
    """What the view says of rows of a table with these columns."""
    schema = schema_of((*MANIFEST, *columns, *VERDICT))
    view = next(view for view in views(schema, {}) if view.name == "duplicates")
    with duckdb.connect() as connection:
        connection.register("items", pa.Table.from_pylist(rows, schema))
        found = connection.sql(view.over("items")).to_arrow_table()
    assert found.schema.names == [column.name for column in view.columns]
    assert [field.type for field in found.schema] == [column.type for column in view.columns]
    return found.to_pylist()


def row(index: int, bits: int | None, status: str = "ok", **values: Any) -> dict[str, Any]:
    place = {"item_id": f"{index:05d}", "source_uri": f"file:///{index}.jpg", "partition": "all"}
    return {**place, "status": status, "phash": None if bits is None else f"{bits:016x}", **values}


def test_every_two_hashes_within_three_bits_are_a_pair_and_none_beyond_six() -> None:
    random = np.random.default_rng(4)
    hashes = [int(one) for one in random.integers(0, 2**64, 300, dtype=np.uint64)]
    for one in hashes[:60]:
        flipped = random.choice(64, int(random.integers(1, 13)), replace=False)
        hashes.append(one ^ sum(1 << int(bit) for bit in flipped))
    found = pairs([row(index, bits) for index, bits in enumerate(hashes)], HASHED)
    apart = {
        (f"{i:05d}", f"{j:05d}"): (hashes[i] ^ hashes[j]).bit_count()
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
    }
    said = {tuple(sorted((one["item_id"], one["other_item_id"]))): one["differing_bits"] for one in found}
    assert len(said) == len(found)
    assert {pair for pair, bits in apart.items() if bits <= 3} <= set(said)
    assert said == {pair: apart[pair] for pair in said}  # type: ignore[index]
    assert 3 < max(said.values()) <= NEAR_BITS


def test_of_many_with_one_hash_each_is_paired_with_the_first() -> None:
    found = pairs([row(index, 7) for index in range(50)] + [row(50, 6), row(51, None), row(52, 7, "gone")], HASHED)
    same = [one for one in found if one["differing_bits"] == 0]
    assert sorted((one["item_id"], one["other_item_id"]) for one in same) == [
        ("00000", f"{i:05d}") for i in range(1, 50)
    ]
    (near,) = [one for one in found if one["differing_bits"]]
    assert {near["item_id"], near["other_item_id"]} == {"00000", "00050"}


def test_the_cosine_of_embeddings_is_told_where_there_are_any() -> None:
    vectors = [[1.0, 0.0], [0.6, 0.8], None, [1.0, 0.0, 0.0]]
    rows = [row(index, 5, embed_embedding=vector) for index, vector in enumerate(vectors)]
    found = {one["other_item_id"]: one["similarity"] for one in pairs(rows, HASHED, EMBEDDED)}
    assert found == {"00001": np.float32(0.6), "00002": None, "00003": None}


def test_a_table_without_hashes_has_no_pairs() -> None:
    assert pairs([], EMBEDDED) == []
