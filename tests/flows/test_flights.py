"""Photos as flights: what belongs together, and ground that counts once however often it was photographed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
import shapely
from pyproj import Geod
from tests.flows.small_lake import photo, publish

from swath.flows.ask.query import describe, sql
from swath.schemas.columns import Column, schema_of
from swath.schemas.flights import FLIGHT_COLUMNS, SEGMENT_COLUMNS
from swath.schemas.items import MANIFEST, TIMESTAMP, VERDICT
from swath.schemas.types import SEGMENTS

MADE = (
    Column("captured_at", TIMESTAMP, "When"),
    Column("captured_at_from", pa.string(), "Whose time"),
    Column("camera_make", pa.string(), "Maker"),
    Column("camera_model", pa.string(), "Model"),
    Column("gsd_m", pa.float64(), "Size of a pixel", "metres"),
    Column("footprint", pa.binary(), "Where; WKB, CRS84"),
    Column("footprint_approximate", pa.bool_(), "Whether it is"),
    Column("segments", SEGMENTS, "Classes"),
)
SCHEMA = schema_of((*MANIFEST, *MADE, *VERDICT))
START = datetime(2026, 5, 1, 10, tzinfo=UTC)
DEGREE = 0.001


def square(left: float, bottom: float = 0.0, side: float = 1.0) -> bytes:
    """WKB of a square, in thousandths of a degree from a corner in a field."""
    east, north = 13 + left * DEGREE, 52 + bottom * DEGREE
    return bytes(shapely.to_wkb(shapely.box(east, north, east + side * DEGREE, north + side * DEGREE)))


def area(wkb: bytes) -> float:
    return float(abs(Geod(ellps="WGS84").geometry_area_perimeter(shapely.from_wkb(wkb))[0]))


def taken(name: str, minutes: float | None, **values: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"camera_make": "DJI", "camera_model": "FC1", "gsd_m": 0.02, "footprint_approximate": True}
    when = None if minutes is None else START + timedelta(minutes=minutes)
    return photo(name, **(said | {"captured_at": when, "captured_at_from": "gps"} | values))


def green(share: float) -> list[dict[str, Any]]:
    return [{"label": "vegetation", "fraction": share, "pixels": 1, "area_m2": None}]


def flights(warehouse: str, rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> list[dict[str, Any]]:
    publish(warehouse, "survey", rows, schema)
    return sql(warehouse, "FROM flights ORDER BY started_at, folder, flight").read_all().to_pylist()


def segments(warehouse: str) -> list[dict[str, Any]]:
    return sql(warehouse, "FROM flight_segments ORDER BY area_m2").read_all().to_pylist()


def test_ground_that_several_photos_show_counts_once(warehouse: str) -> None:
    (flight,) = flights(
        warehouse,
        [
            taken("a/1.jpg", 0, footprint=square(0), gsd_m=0.03),
            taken("a/2.jpg", 1, footprint=square(0.5), gsd_m=0.02, footprint_approximate=False),
            taken("a/3.jpg", 2, footprint=square(5)),
            taken("a/4.jpg", 3),
        ],
    )
    assert flight["area_m2"] == pytest.approx(2.5 * area(square(0)), rel=1e-6)
    assert flight["overlap"] == pytest.approx(3 / 2.5)
    assert (flight["gsd_min_m"], flight["gsd_max_m"]) == (0.02, 0.03)
    assert (flight["photos"], flight["photos_on_ground"], flight["approximate_photos"]) == (4, 3, 3)
    assert (flight["camera"], flight["folder"], flight["rejected_photos"]) == ("DJI FC1", "s3://photos/a", 0)
    assert (flight["started_at"], flight["ended_at"]) == (START, START + timedelta(minutes=3))
    union = shapely.from_wkb(flight["footprint"])
    assert (union.geom_type, len(union.geoms)) == ("MultiPolygon", 2)
    assert union.bounds == pytest.approx((13, 52, 13.006, 52.001))


def test_classes_count_each_square_metre_once_from_the_photo_that_sees_it_best(warehouse: str) -> None:
    one = area(square(0))
    (flight,) = flights(
        warehouse,
        [
            taken("a/1.jpg", 0, footprint=square(0), gsd_m=0.02, segments=green(1.0)),
            taken("a/2.jpg", 1, footprint=square(0), gsd_m=0.01, segments=green(0.25)),
            taken("a/3.jpg", 2, footprint=square(0.5), gsd_m=0.03, segments=green(0.5)),
            taken("a/4.jpg", 3, footprint=square(9)),  # nothing was said of it
        ],
    )
    assert flight["area_m2"] == pytest.approx(2.5 * one, rel=1e-6)
    (found,) = segments(warehouse)
    assert (found["flight"], found["step"], found["label"]) == (flight["flight"], "segments", "vegetation")
    assert found["area_m2"] == pytest.approx(0.25 * one + 0.5 * 0.5 * one, rel=1e-6)
    assert found["measured_m2"] == pytest.approx(1.5 * one, rel=1e-6)
    assert found["photos"] == 3


def test_a_pause_another_camera_folder_or_partition_is_another_flight(warehouse: str) -> None:
    found = flights(
        warehouse,
        [
            taken("a/1.jpg", 0),
            taken("a/2.jpg", 30),
            taken("a/3.jpg", 61),
            taken("a/4.jpg", 0, camera_model="FC2"),
            taken("b/1.jpg", 0),
            taken("b/2.jpg", 1, partition="site=x"),
        ],
    )
    assert sorted(
        (flight["folder"][-1], flight["partition"], flight["camera"], flight["photos"]) for flight in found
    ) == [
        ("a", "all", "DJI FC1", 1),
        ("a", "all", "DJI FC1", 2),
        ("a", "all", "DJI FC2", 1),
        ("b", "all", "DJI FC1", 1),
        ("b", "site=x", "DJI FC1", 1),
    ]
    assert len({flight["flight"] for flight in found}) == 5


def test_numbered_folders_of_one_card_are_one_flight(warehouse: str) -> None:
    (flight,) = flights(warehouse, [taken("a/100MEDIA/DJI_0999.jpg", 0), taken("a/101MEDIA/DJI_0001.jpg", 0.1)])
    assert (flight["folder"], flight["photos"]) == ("s3://photos/a", 2)


def test_photos_without_a_time_belong_to_the_flight_before_them_by_name(warehouse: str) -> None:
    found = flights(
        warehouse,
        [
            taken("a/0.jpg", None, camera_make=None, camera_model=None),
            taken("a/1.jpg", 0),
            taken("a/2.jpg", None, status="rejected", camera_make=None, camera_model=None, reject_reason="empty"),
            taken("a/3.jpg", 100),
            taken("a/4.jpg", None),
            photo("a/5.jpg", status="gone"),
            taken("c/1.jpg", None, camera_make=None, camera_model=None),
        ],
    )
    assert [(flight["photos"], flight["rejected_photos"], flight["started_at"]) for flight in found] == [
        (3, 1, START),
        (2, 0, START + timedelta(minutes=100)),
        (1, 0, None),
    ]


def test_a_clock_that_is_hours_off_makes_no_flight_of_its_own(warehouse: str) -> None:
    (flight,) = flights(
        warehouse, [taken("a/1.jpg", 0), taken("a/2.jpg", 241, captured_at_from="clock"), taken("a/3.jpg", 2)]
    )
    assert (flight["photos"], flight["ended_at"]) == (3, START + timedelta(minutes=2))


def test_a_column_or_a_key_of_the_partition_says_what_a_flight_is(warehouse: str) -> None:
    rows = [
        taken("a/1.jpg", 0, partition="flight=7/dt=x"),
        taken("b/2.jpg", 300, partition="flight=7/dt=x"),
        taken("b/3.jpg", 300),
    ]
    assert {flight["flight"]: flight["photos"] for flight in flights(warehouse, rows)}["7"] == 2


def test_a_flight_of_its_own_column(warehouse: str) -> None:
    schema = schema_of((*MANIFEST, *MADE, Column("flight", pa.string(), "Which"), *VERDICT))
    found = flights(warehouse, [taken(f"{name}/1.jpg", 100 * name, flight="spring") for name in range(3)], schema)
    assert [(flight["flight"], flight["photos"]) for flight in found] == [("spring", 3)]


def test_a_table_without_footprints_has_no_flights_and_says_what_they_would_be(warehouse: str) -> None:
    publish(warehouse)
    assert sql(warehouse, "FROM flights").read_all().num_rows == 0
    assert sql(warehouse, "FROM flight_segments").read_all().num_rows == 0


def test_they_have_the_columns_that_are_described(warehouse: str) -> None:
    flights(warehouse, [taken("a/1.jpg", 0, footprint=square(0), segments=green(0.5))])
    for view, columns in (("flights", FLIGHT_COLUMNS), ("flight_segments", SEGMENT_COLUMNS)):
        found = sql(warehouse, f"FROM {view}").read_all().schema
        assert [(field.name, field.type) for field in found] == [(column.name, column.type) for column in columns]
        assert describe(warehouse, view).columns == columns


def test_a_footprint_that_crosses_itself_or_is_none_stops_nobody(warehouse: str) -> None:
    bow = bytes(shapely.to_wkb(shapely.Polygon([(13, 52), (13.001, 52.001), (13.001, 52), (13, 52.001)])))
    (flight,) = flights(warehouse, [taken("a/1.jpg", 0, footprint=bow), taken("a/2.jpg", 1, footprint=square(0))])
    assert flight["area_m2"] == pytest.approx(area(square(0)), rel=1e-6)


@pytest.mark.slow
def test_a_flight_of_a_thousand_photos_is_summed_in_seconds(warehouse: str) -> None:
    rows = [
        taken(f"a/{n:04}.jpg", n / 20, footprint=square(n % 40 * 0.2, n // 40 * 0.2), segments=green(0.5))
        for n in range(1000)
    ]
    started = time.process_time()
    (flight,) = flights(warehouse, rows)
    (found,) = segments(warehouse)
    assert time.process_time() - started < 20
    assert flight["area_m2"] == pytest.approx(8.8 * 5.8 * area(square(4, 3)), rel=1e-4)
    assert found["area_m2"] == pytest.approx(flight["area_m2"] / 2)
