"""What ground a photo shows, against geometry worked out by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from pyproj import Geod, Transformer
from tests.operators.drone_photos import BERLIN, DJI, exif, packet, photo
from tests.operators.kit import item, through

from swath.operators.image.codec import Decode
from swath.operators.survey.attitude import Attitude, of_gimbal, rotation
from swath.operators.survey.camera import sensor_diagonal
from swath.operators.survey.exif import Exif
from swath.operators.survey.footprint import ABOVE, Footprint
from swath.operators.survey.xmp import Xmp

SHARED = Path(__file__).parents[2] / "../shared/data"
GEOD = Geod(ellps="WGS84")
MM = {"FocalLength": 10.0, "FocalPlaneXResolution": 10.0, "FocalPlaneResolutionUnit": 4}
"""A focal length of 100 pixels: on 200 x 100 pixels, 200 x 100 m of ground from 100 m."""


def gimbal(yaw: float | None = 0, pitch: float | None = -90, roll: float = 0, height: float | None = 100) -> bytes:
    angles = {"GimbalYawDegree": yaw, "GimbalPitchDegree": pitch, "GimbalRollDegree": roll, "RelativeAltitude": height}
    return packet({f"drone-dji:{name}": f"{value:+.2f}" for name, value in angles.items() if value is not None})


def seen(content: bytes, **config: Any) -> dict[str, Any]:
    (row,) = through([item(0, content)], Exif(), Xmp(), Decode(), Footprint(**config))
    assert row["status"] == "ok", row["reject_message"]
    return row


def read(content: bytes, **config: Any) -> dict[str, Any]:
    """The columns that the step makes, `georef` included."""
    found: dict[str, Any] = {}

    class Spy(Footprint):
        def process(self, item: Any, model: Any) -> dict[str, Any]:
            found.update(super().process(item, model))
            return dict(found)

    through([item(0, content)], Exif(), Xmp(), Decode(), Spy(**config))
    return found


def metres(lonlat: npt.ArrayLike, place: tuple[float, float] = BERLIN) -> npt.NDArray[np.float64]:
    """East and north of a place, by geodesics."""
    found = []
    for lon, lat in np.asarray(lonlat).reshape(-1, 2):
        azimuth, _, distance = GEOD.inv(place[1], place[0], lon, lat)
        found.append((distance * math.sin(math.radians(azimuth)), distance * math.cos(math.radians(azimuth))))
    return np.array(found)


def corners(found: dict[str, Any], place: tuple[float, float] = BERLIN) -> npt.NDArray[np.float64]:
    """Metres east and north of the camera: top left, bottom left, bottom right, top right of the picture."""
    return metres(shapely.get_coordinates(shapely.from_wkb(found["footprint"]))[:4], place)


def near(expected: npt.ArrayLike) -> Any:
    return pytest.approx(np.asarray(expected, float), abs=0.02)


NADIR = photo(gimbal(), exif(**MM))


def test_straight_down_to_the_north() -> None:
    found = read(NADIR)
    assert corners(found) == near([(-100, 50), (-100, -50), (100, -50), (100, 50)])
    assert found["gsd_m"] == pytest.approx(1.0, abs=1e-6)
    assert (found["focal_length_px"], found["focal_length_from"]) == (pytest.approx(100), "sensor")
    assert found["height_above_ground_m"] == 100
    assert (found["footprint_approximate"], found["footprint_note"]) == (
        True,
        "terrain unknown: level with the take-off",
    )
    assert shapely.from_wkb(found["footprint"]).exterior.is_ccw


def test_yaw_turns_the_top_of_the_picture_clockwise_from_north() -> None:
    east = corners(read(photo(gimbal(yaw=90), exif(**MM))))
    assert east == near([(50, 100), (-50, 100), (-50, -100), (50, -100)])


def test_looking_ahead_by_45_degrees() -> None:
    """The top of the picture looks 45 - atan(50/100) below the horizon, the bottom 45 + atan(50/100)."""
    found = read(photo(gimbal(pitch=-45), exif(**MM)))
    far, close = 100 / math.tan(math.radians(45) - math.atan(0.5)), 100 / math.tan(math.radians(45) + math.atan(0.5))
    assert (far, close) == (pytest.approx(300), pytest.approx(33.333, abs=1e-3))
    wide, narrow = 400 / math.sqrt(2), 400 / 3 / math.sqrt(2)
    assert corners(found) == near([(-wide, far), (-narrow, close), (narrow, close), (wide, far)])
    slant = 100 * math.sqrt(2)  # of the middle; a pixel is slant/f wide and slant/f/sin(45) long
    assert found["gsd_m"] == pytest.approx(slant / 100 / math.sqrt(math.sin(math.radians(45))), rel=1e-4)


def test_right_side_down_looks_to_the_left() -> None:
    tilted = {"Camera:Yaw": "0", "Camera:Pitch": "0", "Camera:Roll": "10", "drone-dji:RelativeAltitude": "100"}
    left_top, _, _, right_top = corners(read(photo(packet(tilted), exif(**MM))))
    assert left_top[0] == pytest.approx(-100 * math.tan(math.radians(55)), abs=0.02)
    assert right_top[0] == pytest.approx(100 * math.tan(math.radians(35)), abs=0.02)


def test_georef_maps_source_pixels_to_where_the_footprint_says() -> None:
    found = read(photo(gimbal(yaw=30, pitch=-60), exif(**MM)))
    georef = found["georef"]
    assert georef.crs == "EPSG:32633"
    assert georef.approximate == found["footprint_note"]
    ring = [(0, 0), (0, 100), (200, 100), (200, 0)]
    assert metres(georef.to_wgs84(ring)) == near(corners(found))
    area = shapely.Polygon(corners(found)).area
    assert georef.area_m2([ring]) == pytest.approx(area, rel=1e-3)
    axis = metres(georef.to_wgs84([(100, 50)]))[0]
    assert math.degrees(math.atan2(*axis)) == pytest.approx(30, abs=0.01), "true north, not that of the grid"
    assert np.linalg.norm(axis) == pytest.approx(100 / math.tan(math.radians(60)), abs=0.02)


def test_source_pixels_are_the_stored_ones_whatever_the_exif_orientation() -> None:
    header = exif(**MM)
    header[0x0112] = 6
    assert corners(read(photo(gimbal(), header))) == near(corners(read(NADIR)))


@pytest.mark.parametrize(
    "place", [(78.2, 15.6), (-33.9, 151.2), (0.0, -78.4), (85.0, 20.0), (-89.0, 0.0), (52.5, -180.0)]
)
def test_it_is_as_large_and_as_north_everywhere(place: tuple[float, float]) -> None:
    found = read(photo(gimbal(), exif(place, **MM)))
    shape = shapely.from_wkb(found["footprint"])
    area = sum(abs(GEOD.geometry_area_perimeter(part)[0]) for part in getattr(shape, "geoms", [shape]))
    assert area == pytest.approx(20_000, rel=2e-4)
    north = metres(found["georef"].to_wgs84([(100, 0)]), place)
    assert north == near([(0, 50)])


@pytest.mark.parametrize(
    ("xmp", "header", "note"),
    [
        (gimbal(), exif(None, **MM), "no position"),
        (gimbal(), exif((0.0, 0.0), **MM), "no position"),
        (gimbal(height=None), exif(**MM), "no height"),
        (gimbal(height=0), exif(**MM), "not above the ground"),
        (gimbal(height=-3), exif(**MM), "not above the ground"),
        (gimbal(pitch=-20), exif(**MM), ABOVE),
        (gimbal(pitch=10), exif(**MM), ABOVE),
        (gimbal(), exif(FocalLength=10.0), "focal length unknown"),
        (
            gimbal(),
            exif(**MM, ExifImageWidth=400, ExifImageHeight=300),
            "a part of the picture that the camera recorded",
        ),
        (gimbal(), exif(**MM, ExifImageWidth=100, ExifImageHeight=200), "turned since the camera recorded it"),
        (b"", None, "focal length unknown"),
    ],
)
def test_where_it_cannot_be_known_it_is_null_with_the_reason(xmp: bytes, header: Any, note: str) -> None:
    row = read(photo(xmp, header))
    assert (row["footprint"], row["footprint_approximate"], row["georef"]) == (None, None, None)
    assert row["footprint_note"] == note
    assert (row["gsd_m"] is not None) == (note == "no position" or (note == ABOVE and b"-20" in xmp))


def test_a_corner_is_judged_by_the_configured_depression() -> None:
    content = photo(gimbal(pitch=-45), exif(**MM))  # its corners look 17.2 degrees below the horizon
    assert read(content, least_depression_degrees=13)["footprint"] is not None
    assert read(content, least_depression_degrees=14)["footprint"] is None


def test_without_yaw_or_tilt_it_is_drawn_and_says_so() -> None:
    bare = packet({"drone-dji:RelativeAltitude": "100"})
    found = read(photo(bare, exif(**MM)))
    assert found["footprint_note"] == (
        "terrain unknown: level with the take-off; yaw unknown: drawn with its top to the north; "
        "tilt unknown: taken as straight down"
    )
    assert corners(found) == near(corners(read(NADIR)))


def test_yaw_of_the_picture_or_of_the_aircraft_stands_in() -> None:
    header = exif(**MM)
    header.get_ifd(0x8825).update({16: "T", 17: 90.0})
    east = corners(read(photo(gimbal(yaw=90), exif(**MM))))
    assert corners(read(photo(gimbal(yaw=None), header))) == near(east)
    flying = {
        "drone-dji:GimbalPitchDegree": "-90",
        "drone-dji:FlightYawDegree": "90",
        "drone-dji:RelativeAltitude": "100",
    }
    assert corners(read(photo(packet(flying), exif(**MM)))) == near(east)


def test_a_picture_that_a_program_changed_may_have_been_turned() -> None:
    header = exif(**MM, DateTimeOriginal="2024:05:01 10:00:00")
    header[0x0132], header[0x0131] = "2024:05:01 12:30:00", "Some Viewer 1.0"
    found = read(photo(gimbal(), header))
    assert found["footprint_note"].endswith("; edited with Some Viewer 1.0: it may have been turned")
    header[0x0132] = "2024:05:01 10:00:30"
    assert "edited" not in read(photo(gimbal(), header))["footprint_note"]


def test_configured_heights_are_no_assumption() -> None:
    content = photo(gimbal(height=40), exif(altitude=130.0, **MM))
    found = read(content, ground_altitude_m=30)
    assert (found["height_above_ground_m"], found["footprint_approximate"], found["footprint_note"]) == (
        100,
        False,
        None,
    )
    assert found["georef"].approximate is None
    assert read(content, altitude_above_ground_m=80)["height_above_ground_m"] == 40, "for those that say nothing"
    assert read(photo(gimbal(height=None), exif(**MM)), altitude_above_ground_m=80)["gsd_m"] == pytest.approx(0.8)


def test_it_can_do_without_the_step_xmp() -> None:
    (row,) = through([item(0, photo(b"", exif(**MM)))], Exif(), Decode(), Footprint(altitude_above_ground_m=100))
    assert corners(row) == near(corners(read(NADIR)))


# Focal lengths


def test_calibration_follows_a_picture_that_was_resized() -> None:
    calibrated = {"CalibratedFocalLength": "400", "CalibratedOpticalCenterX": "410", "CalibratedOpticalCenterY": "196"}
    xmp = packet(DJI | {f"drone-dji:{name}": value for name, value in calibrated.items()})
    whole, half, part, wide = (
        read(photo(xmp, exif(), size=size)) for size in ((800, 400), (400, 200), (400, 350), (711, 400))
    )
    assert (whole["focal_length_px"], whole["focal_length_from"]) == (400, "calibration")
    assert half["focal_length_px"] == pytest.approx(200, rel=0.03)
    assert (part["focal_length_px"], part["footprint_note"]) == (None, "a part of the picture that the camera recorded")
    assert wide["focal_length_px"] == 400, "the camera was set to 16:9"


def test_sensor_follows_a_picture_that_was_resized() -> None:
    found = read(photo(gimbal(), exif(**MM, ExifImageWidth=400, ExifImageHeight=200)))
    assert found["focal_length_px"] == pytest.approx(50)


@pytest.mark.parametrize("unit", [(2, 254.0), (3, 100.0), (4, 10.0), (5, 0.01)])
def test_focal_plane_resolution_has_units(unit: tuple[int, float]) -> None:
    header = exif(FocalLength=10.0, FocalPlaneResolutionUnit=unit[0], FocalPlaneXResolution=unit[1])
    assert read(photo(gimbal(), header))["focal_length_px"] == pytest.approx(100, rel=1e-3)


def test_equivalent_focal_length_is_by_the_diagonal_of_the_whole_sensor() -> None:
    film = math.hypot(36, 24)
    assert sensor_diagonal(4000, 3000, 5.6) == pytest.approx(5000)
    assert sensor_diagonal(4000, 2250, 5.6) == pytest.approx(5000), "16:9 is the full width of a 4:3 sensor"
    assert sensor_diagonal(5472, 3078, 2.7) == pytest.approx(math.hypot(5472, 3648)), "an inch is 3:2"
    assert sensor_diagonal(4864, 3648, 2.7) == pytest.approx(math.hypot(5472, 3648)), "4:3 is its full height"
    assert sensor_diagonal(3000, 4000, 5.6) == pytest.approx(5000)
    assert sensor_diagonal(1058, 997, 2.7) is None
    found = read(photo(gimbal(), exif(FocalLength=3.6, FocalLengthIn35mmFilm=20), size=(160, 90)))
    assert found["focal_length_px"] == pytest.approx(20 / film * 200)
    assert found["focal_length_from"] == "35 mm equivalent"


# Angles


def test_a_gimbals_angles_are_the_same_camera_in_our_convention() -> None:
    forward = rotation(0, 90, 0)
    for yaw, pitch, roll in (
        (10, -90, 0),
        (10, -45, 0),
        (200, -80, 5),
        (-140, -90, 180),
        (33, -89.9, -179),
        (5, -30, 12),
    ):
        found = of_gimbal(yaw, pitch, roll)
        expected = rotation(yaw, pitch, roll) @ forward @ Attitude(0, -90, 0).rays()
        assert found.rays() == pytest.approx(expected, abs=1e-9)


# Real photos


def test_positions_of_real_photos_are_in_their_footprints_and_neighbours_overlap() -> None:
    if not (SHARED / "drone_seneca").exists():
        pytest.skip("the shared drone photos are not on this machine")
    shapes = []
    for path in sorted((SHARED / "drone_seneca" / "images").glob("*.jpg"))[:3]:
        content = path.read_bytes()
        row = seen(content)
        shape = shapely.from_wkb(row["footprint"])
        assert shape.contains(shapely.Point(row["longitude"], row["latitude"]))
        assert 0.02 < row["gsd_m"] < 0.04
        shapes.append(shape)
    assert all(one.intersects(two) for one, two in itertools.pairwise(shapes))
    to_utm = Transformer.from_crs("OGC:CRS84", "EPSG:32617", always_xy=True)
    for shape in shapes:
        assert 5_000 < shapely.transform(shape, lambda xy: np.column_stack(to_utm.transform(*xy.T))).area < 12_000


def test_a_real_photo_that_was_cropped_has_no_footprint() -> None:
    paths = list((SHARED / "tree_boxes").glob("*DJI*.JPG"))
    if not paths:
        pytest.skip("the shared drone photo is not on this machine")
    row = seen(paths[0].read_bytes())
    assert (row["relative_altitude_m"], row["camera_pitch_degrees"]) == (61.1, -88.0)
    assert (row["footprint"], row["gsd_m"]) == (None, None)
    assert row["footprint_note"] == "a part of the picture that the camera recorded"
