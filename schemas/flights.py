"""The SQL that gathers photos to flights, and counts the ground that a flight shows once however often it shows it."""

from __future__ import annotations

import pyarrow as pa

from swath.schemas.columns import Column
from swath.schemas.items import TIMESTAMP, Status
from swath.schemas.sql import literal, quoted
from swath.schemas.types import SEGMENTS

FLIGHTS = (
    "One row a flight or set of scenes: items of one partition and folder, by one camera, with pauses of at most 30 "
    "minutes; where the table has a column `flight`, or its partitions a key of that name, those of one value"
)
FLIGHT_SEGMENTS = (
    "One row a class over a flight, in which every square metre counts once: each photo counts with the part of its "
    "footprint that no photo of a smaller GSD shows, times the share of the whole photo that the class has"
)
PAUSE = "INTERVAL 30 MINUTE"
"""After a longer one begins another flight; a change of batteries takes less."""
AREA, ONCE, UNION = "ground_area_m2", "ground_once_m2", "ground_union"
"""Functions that the connection must have, over WKB in CRS84: square metres of one; of each of a list, without what
those before it cover; and the union of a list."""

_FLIGHT = Column("flight", pa.string(), "Which flight: its value in the table or partition, else a hash")
FLIGHT_COLUMNS = (
    _FLIGHT,
    Column("partition", pa.string(), "Partition of its photos"),
    Column("folder", pa.string(), "Where its photos are, without the numbered folders that cameras make"),
    Column("camera", pa.string(), "Maker and model of its camera"),
    Column("photos", pa.int64(), "Its photos, those that were rejected too", "items"),
    Column("rejected_photos", pa.int64(), "Its photos that could not be processed", "items"),
    Column("photos_on_ground", pa.int64(), "Its photos that have a footprint", "items"),
    Column("approximate_photos", pa.int64(), "Its photos of which the footprint is approximate", "items"),
    Column("started_at", TIMESTAMP, "When its first photo was taken"),
    Column("ended_at", TIMESTAMP, "When its last photo was taken"),
    Column("area_m2", pa.float64(), "Ground that it shows, however often", "square metres"),
    Column("overlap", pa.float64(), "Photos that show a square metre of it, on average; 1 to the number of photos"),
    Column("gsd_min_m", pa.float64(), "Smallest side of a source pixel on the ground", "metres"),
    Column("gsd_max_m", pa.float64(), "Largest side of a source pixel on the ground", "metres"),
    Column("footprint", pa.binary(), "Union of its photos' footprints; WKB, CRS84"),
)
_SEGMENT = SEGMENTS.value_type
SEGMENT_COLUMNS = (
    _FLIGHT,
    Column("step", pa.string(), "Step of the pipeline that says so"),
    Column("label", _SEGMENT.field("label").type, "Name of the class"),
    Column("area_m2", pa.float64(), "Ground that the class covers, each square metre once", "square metres"),
    Column("measured_m2", pa.float64(), "Ground of the flight of which the step said something", "square metres"),
    Column("photos", pa.int64(), "Photos that show the class", "items"),
)


def footprint_of(schema: pa.Schema) -> str | None:
    """The column of footprints that a table has, the one of a step `footprint` before others."""
    names = [
        field.name
        for field in schema
        if f"_{field.name}".endswith("_footprint")
        and (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))
    ]
    return min(names, key=len, default=None)


def flights_sql(table: str, schema: pa.Schema, footprint: str) -> str:
    """DuckDB SQL over a table for `FLIGHT_COLUMNS`."""
    covered = "list(footprint ORDER BY gsd, item_id) FILTER (footprint IS NOT NULL)"
    whole = (
        "SELECT flight, min(partition) AS partition, min(folder) AS folder, max(camera) AS camera, "
        "count(DISTINCT object_id) AS photos, "
        f"count(DISTINCT object_id) FILTER (status = {literal(Status.REJECTED)}) AS rejected_photos, "
        "count(DISTINCT object_id) FILTER (footprint IS NOT NULL) AS photos_on_ground, "
        "count(DISTINCT object_id) FILTER (approximate) AS approximate_photos, "
        "min(captured_at) AS started_at, max(captured_at) AS ended_at, "
        f"list_sum({ONCE}({covered})) AS area_m2, {UNION}({covered}) AS footprint, "
        f"sum({AREA}(footprint)) AS shown_m2, min(gsd) AS gsd_min_m, max(gsd) AS gsd_max_m FROM flown GROUP BY flight"
    )
    names = ", ".join(
        "shown_m2 / nullif(area_m2, 0) AS overlap" if column.name == "overlap" else column.name
        for column in FLIGHT_COLUMNS
    )
    return f"WITH {_flown(table, schema, footprint)} SELECT {names} FROM ({whole})"


def flight_segments_sql(table: str, schema: pa.Schema, footprint: str, made_by: dict[str, str]) -> str:
    """DuckDB SQL over a table for `SEGMENT_COLUMNS`; `made_by` are its columns of segments with their steps."""
    parts = []
    for name, step in made_by.items():
        segments = quoted(name)
        seen = f"SELECT flown.* FROM flown JOIN {table} AS t USING (item_id) WHERE t.{segments} IS NOT NULL"
        lists = (
            "SELECT flight, list(item_id ORDER BY gsd, item_id) AS ids, "
            f"{ONCE}(list(footprint ORDER BY gsd, item_id)) AS parts "
            f"FROM ({seen}) WHERE footprint IS NOT NULL GROUP BY flight"
        )
        once = (
            "SELECT flight, unnest(ids) AS item_id, unnest(parts) AS once_m2, list_sum(parts) AS measured_m2 "
            f"FROM ({lists})"
        )
        each = f"SELECT item_id, unnest({segments}) AS element FROM {table} WHERE status <> {literal(Status.GONE)}"
        parts.append(
            f"SELECT flight, {literal(step)} AS step, element.label AS label, "
            "sum(element.fraction * once_m2) AS area_m2, max(measured_m2) AS measured_m2, "
            "count(*) FILTER (element.fraction > 0) AS photos "
            f"FROM ({once}) JOIN ({each}) USING (item_id) GROUP BY flight, element.label"
        )
    return f"WITH {_flown(table, schema, footprint)} {' UNION ALL '.join(parts)}"


def _flown(table: str, schema: pa.Schema, footprint: str) -> str:
    """The common table expression `flown`: the items of a table, each with its flight.

    Photos without a time, such as those that could not be read, belong to the flight of the photo before them by name.
    """

    def given(name: str, otherwise: str) -> str:
        return quoted(name) if name in schema.names else otherwise

    before = footprint.removesuffix("footprint")
    make, model = (f"coalesce({given(name, 'NULL::VARCHAR')}, '')" for name in ("camera_make", "camera_model"))
    camera = f"CASE WHEN starts_with({model}, {make}) THEN {model} ELSE {make} || ' ' || {model} END"
    folder = r"regexp_replace(regexp_replace(source_uri, '/[^/]*$', ''), '/[0-9]{3}[A-Z0-9_]{5}$', '')"  # DCF's folders
    in_partition = "nullif(regexp_extract(partition, '(^|/)flight=([^/]*)', 2), '')"
    columns = {
        "captured_at": given("captured_at", "NULL::TIMESTAMPTZ"),
        "sure": f"{given('captured_at_from', 'NULL')} <> 'clock'",
        "camera": f"nullif(trim({camera}), '')",
        "folder": folder,
        "footprint": quoted(footprint),
        "gsd": given(f"{before}gsd_m", "NULL::DOUBLE"),
        "approximate": given(f"{footprint}_approximate", "false"),
        "named": f"coalesce({given('flight', 'NULL')}::VARCHAR, {in_partition})",
    }
    chosen = ", ".join(f"{value} AS {name}" for name, value in columns.items())
    read = (
        f"SELECT item_id, object_id, source_uri, partition, status, {chosen} "
        f"FROM {table} WHERE status <> {literal(Status.GONE)}"
    )
    same = "PARTITION BY partition, folder, camera"
    # A camera's clock may be hours off UTC: beside photos of known time, one that had no satellites has none.
    moment = f"CASE WHEN sure OR coalesce(bool_or(sure) OVER ({same}), false) = false THEN captured_at END"
    photos = f"SELECT * REPLACE ({moment} AS captured_at) FROM read"
    apart = (
        f"SELECT *, captured_at - lag(captured_at) OVER ({same} ORDER BY captured_at, source_uri) > {PAUSE} AS parted "
        "FROM photos WHERE captured_at IS NOT NULL"
    )
    counted = (
        "SELECT *, count(*) FILTER (parted) OVER "
        f"({same} ORDER BY captured_at, source_uri ROWS UNBOUNDED PRECEDING) AS flight_number FROM apart"
    )
    begun = f"SELECT item_id, min(captured_at) OVER ({same}, flight_number) AS begun FROM counted"
    hashed = "md5(concat_ws('|', partition, folder, camera, epoch_us(begun)))[:16]"
    timed = (
        f"SELECT photos.*, CASE WHEN begun IS NOT NULL THEN {hashed} END AS timed "
        "FROM photos LEFT JOIN begun USING (item_id)"
    )
    place = "PARTITION BY partition, folder ORDER BY source_uri, item_id"
    flight = (
        f"coalesce(named, timed, last_value(timed IGNORE NULLS) OVER ({place} ROWS UNBOUNDED PRECEDING), "
        f"first_value(timed IGNORE NULLS) OVER ({place} ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING), "
        "md5(concat_ws('|', partition, folder))[:16])"
    )
    steps = {"read": read, "photos": photos, "apart": apart, "counted": counted, "begun": begun, "timed": timed}
    steps["flown"] = f"SELECT *, {flight} AS flight FROM timed"
    return ", ".join(f"{name} AS ({query})" for name, query in steps.items())
