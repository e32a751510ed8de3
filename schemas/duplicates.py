"""The SQL that finds items which look alike, without comparing each with each."""

from __future__ import annotations

from collections.abc import Sequence

from swath.schemas.items import Status
from swath.schemas.sql import literal, quoted

NEAR_BITS = 6
"""In how many of 64 bits the perceptual hashes of two items differ at most."""
DUPLICATES = (
    "One row a pair of items that look alike: every two hashes that differ in at most 3 of 64 bits, and those of up to "
    f"{NEAR_BITS} that have one of their four parts in common; of items with the same hash, each with the first of them"
)


def duplicates_sql(table: str, place: Sequence[str], hashed: str, vector: str | None) -> str:
    """DuckDB SQL for the pairs of a table, by its columns of perceptual hashes and of embeddings.

    Of two hashes that differ in 3 bits at most, one of the four 16-bit parts is the same (pigeonhole): only hashes with
    a part in common are compared. Of equal hashes the first stands for all: a thousand blank pages are a thousand
    pairs and not half a million.
    """
    kept = ", ".join(map(quoted, place))
    vectors = quoted(vector) if vector else "CAST(NULL AS FLOAT[])"
    alike = (
        f"SELECT {kept}, {vectors} AS vector, "
        f"('0x' || {quoted(hashed)})::UBIGINT AS bits, "
        f"row_number() OVER (PARTITION BY {quoted(hashed)} ORDER BY item_id) AS place "
        f"FROM {table} WHERE status <> {literal(Status.GONE)} AND {quoted(hashed)} IS NOT NULL"
    )
    parts = "SELECT bits, part, (bits >> (16 * part)) & 65535 AS value FROM first, range(4) AS parts(part)"
    near = (
        "SELECT DISTINCT one.bits AS bits, two.bits AS other FROM parts AS one JOIN parts AS two "
        "ON one.part = two.part AND one.value = two.value AND one.bits < two.bits "
        f"WHERE bit_count(xor(one.bits, two.bits)) <= {NEAR_BITS}"
    )
    # DuckDB's cosine looks into lists that are null too, and stumbles over what Parquet left in them.
    one, two = (f"list_filter({side}.vector, lambda value: value IS NOT NULL)" for side in ("one", "two"))
    cosine = f"list_cosine_similarity({one}, {two})"
    chosen = ", ".join(
        [
            *(f"one.{quoted(name)} AS {quoted(name)}" for name in place),
            *(f"two.{quoted(name)} AS {quoted(f'other_{name}')}" for name in place if name != "partition"),
            "CAST(bit_count(xor(one.bits, two.bits)) AS INTEGER) AS differing_bits",
            f"CASE WHEN len(one.vector) = len(two.vector) THEN CAST({cosine} AS FLOAT) END AS similarity",
        ]
    )
    same = f"SELECT {chosen} FROM first AS one JOIN alike AS two ON one.bits = two.bits AND two.place > 1"
    close = f"SELECT {chosen} FROM near JOIN first AS one ON one.bits = near.bits JOIN first AS two ON two.bits = other"
    return (
        f"WITH alike AS ({alike}), first AS (SELECT * FROM alike WHERE place = 1), parts AS ({parts}), "
        f"near AS ({near}) {same} UNION ALL {close}"
    )
