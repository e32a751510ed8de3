"""What XMP says of a drone: every maker's names, every kind of file, and hostile packets."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operators.drone_photos import (
    DJI,
    HEAD,
    TAIL,
    exif,
    jpeg_with_extended_packet,
    packet,
    photo,
    png_with_compressed_text,
)

from swath.operators.survey.exif import Exif
from swath.operators.survey.xmp import Xmp
from swath.operators.survey.xmp_packet import properties

NOTHING = dict.fromkeys(column.name for column in Xmp().outputs())


def read(content: bytes) -> dict[str, Any]:
    return Xmp().process({"bytes": content}, None)


def angles(found: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(found[f"camera_{axis}_degrees"] for axis in ("yaw", "pitch", "roll"))


@pytest.mark.parametrize("elements", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_every_kind_of_file_says_the_same_as_attributes_and_as_elements(kind: str, elements: bool) -> None:
    found = read(photo(packet(DJI, elements), kind=kind))
    assert (found["relative_altitude_m"], found["absolute_altitude_m"]) == (40.0, 198.51)
    assert angles(found) == (-140.0, -89.9, 0.0)
    assert found["attitude_from"] == "gimbal"
    assert tuple(found[f"flight_{axis}_degrees"] for axis in ("yaw", "pitch", "roll")) == (-138.7, -0.1, -4.0)


def test_packet_in_extended_segments_or_deflated_is_read() -> None:
    assert read(jpeg_with_extended_packet(packet(DJI)))["relative_altitude_m"] == 40.0
    assert read(png_with_compressed_text(packet(DJI)))["relative_altitude_m"] == 40.0


def test_calibration_and_rtk_of_dji() -> None:
    more = {
        "CalibratedFocalLength": "3666.666504",
        "CalibratedOpticalCenterX": "2736.000000",
        "CalibratedOpticalCenterY": "1824.000000",
        "RtkFlag": "50",
        "RtkStdLon": "0.01183",
        "RtkStdLat": "0.01299",
        "RtkStdHgt": "0.02614",
    }
    found = read(photo(packet(DJI | {f"drone-dji:{name}": value for name, value in more.items()})))
    assert found["calibrated_focal_length_px"] == 3666.666504
    assert (found["calibrated_center_x_px"], found["calibrated_center_y_px"]) == (2736.0, 1824.0)
    assert (found["rtk_fix"], found["position_accuracy_m"], found["altitude_accuracy_m"]) == ("fixed", 0.01299, 0.02614)


@pytest.mark.parametrize(("flag", "fix"), [("0", "none"), ("16", "single"), ("34", "float"), ("50", "fixed")])
def test_rtk_flag(flag: str, fix: str) -> None:
    assert read(photo(packet({"drone-dji:RtkFlag": flag})))["rtk_fix"] == fix


def test_a_gimbal_that_calls_half_a_turn_of_yaw_one_of_roll_looks_where_it_looks() -> None:
    flipped = DJI | {"drone-dji:GimbalYawDegree": "40", "drone-dji:GimbalRollDegree": "180"}
    yaw, pitch, roll = angles(read(photo(packet(flipped | {"drone-dji:GimbalPitchDegree": "-90"}))))
    assert (yaw % 360, pitch, roll) == (pytest.approx(220), pytest.approx(-90), pytest.approx(0, abs=1e-9))


def test_pix4ds_camera_tags_have_nadir_at_zero() -> None:
    sequoia = {"Camera:Yaw": "90.5", "Camera:Pitch": "4.25", "Camera:Roll": "-2.5"}
    sequoia["Camera:PerspectiveFocalLength"] = "3.98"
    found = read(photo(packet(sequoia), kind="TIFF"))
    assert (angles(found), found["attitude_from"]) == ((90.5, -85.75, -2.5), "camera")
    assert found["perspective_focal_length_mm"] == 3.98


def test_roll_of_a_camera_by_sensefly_has_the_other_sign() -> None:
    soda = exif()
    soda[0x010F] = "senseFly"
    tags = packet({"Camera:Yaw": "10", "Camera:Pitch": "1", "Camera:Roll": "-2.5"})
    assert angles(read(photo(tags, soda))) == (10, -89, 2.5)
    assert angles(read(photo(tags, exif()))) == (10, -89, -2.5)


def test_camera_pitch_of_an_autel_that_writes_a_gimbals_is_taken_as_one() -> None:
    autel = {"Camera:Yaw": "10", "Camera:Pitch": "-90", "Camera:Roll": "0", "drone:RelativeAltitude": "55.5"}
    found = read(photo(packet(autel)))
    assert (angles(found), found["attitude_from"], found["relative_altitude_m"]) == ((10, -90, 0), "gimbal", 55.5)


def test_anafi_of_parrot_writes_a_gimbals_angles_and_fractions() -> None:
    anafi = {f"drone-parrot:Camera{axis}Degree": value for axis, value in
             (("Yaw", "146.848038"), ("Pitch", "-51.988888"), ("Roll", "0"))}  # fmt: skip
    anafi |= {"Camera:Yaw": "146.781036", "Camera:Pitch": "38.01", "Camera:AboveGroundAltitude": "11485529/262144"}
    found = read(photo(packet(anafi, elements=True)))
    assert (angles(found), found["attitude_from"]) == ((146.848038, -51.988888, 0), "gimbal")
    assert found["above_ground_m"] == pytest.approx(43.8138, abs=1e-4)


def test_sensefly_looks_down_from_the_aircraft_and_knows_utc() -> None:
    swinglet = {"Heading": "70.0", "PitchAngle": "2.5", "RollAngle": "-3.0", "Height": "66.1", "AltitudeAMSL": "314.0"}
    swinglet |= {"Latitude": "41.03", "Longitude": "-83.3", "UTCTime": "2013-06-04T17:38:03"}
    content = photo(packet({f"sensefly:{name}": value for name, value in swinglet.items()}, elements=True))
    found = read(content)
    assert (angles(found), found["attitude_from"]) == ((70.0, -87.5, -3.0), "aircraft")
    assert (found["relative_altitude_m"], found["absolute_altitude_m"]) == (66.1, 314.0)
    assert found["flight_yaw_degrees"] == 70.0
    said = Exif().process({"bytes": content}, None)
    assert (said["captured_at"], said["captured_at_from"]) == (datetime(2013, 6, 4, 17, 38, 3, tzinfo=UTC), "xmp")
    assert (said["latitude"], said["longitude"]) == (41.03, -83.3), "Exif has no position"


def test_micasense_has_the_yaw_of_its_sun_sensor_in_radians() -> None:
    rededge = {"Camera:PerspectiveFocalLength": "5.43", "Camera:PerspectiveFocalLengthUnits": "mm"}
    rededge |= {"DLS:Yaw": "0.73310724098153246", "DLS:Pitch": "0.04", "Camera:GPSXYAccuracy": "1.5"}
    rededge |= {"MicaSense:CaptureId": "x"}
    found = read(photo(packet(rededge, elements=True), kind="TIFF"))
    assert angles(found) == (pytest.approx(math.degrees(0.73310724)), None, None)
    assert (found["attitude_from"], found["position_accuracy_m"]) == ("sun sensor", 1.5)
    assert found["perspective_focal_length_mm"] == 5.43


def test_elements_of_an_array_are_one_value() -> None:
    array = "<Camera:PrincipalPoint><rdf:Seq><rdf:li>2.4</rdf:li><rdf:li>1.8</rdf:li></rdf:Seq></Camera:PrincipalPoint>"
    content = photo(
        f'{HEAD}<rdf:Description xmlns:Camera="http://x/camera/1.0">{array}</rdf:Description>{TAIL}'.encode()
    )
    assert properties(content)["camera:PrincipalPoint"] == "2.4 1.8"


def test_time_with_a_zone_stands_before_a_camera_clock_without() -> None:
    for name, text in (
        ("drone-dji:UTCAtExposure", "2021-05-26T15:21:49.073960"),
        ("xmp:CreateDate", "2021-05-26T17:21:49.07396+02:00"),
    ):
        content = photo(packet({name: text}), exif(DateTimeOriginal="2021:05:26 17:21:49"))
        found = Exif().process({"bytes": content}, None)
        assert (found["captured_at"].isoformat(), found["captured_at_from"]) == (
            "2021-05-26T15:21:49.073960+00:00",
            "xmp",
        )
    content = photo(packet({"xmp:CreateDate": "2021-05-26T17:21:49"}), exif(DateTimeOriginal="2021:05:26 17:21:49"))
    found = Exif().process({"bytes": content}, None)
    assert (found["captured_at"].hour, found["captured_at_from"]) == (17, "clock"), "no zone, no better than the clock"


@pytest.mark.parametrize("text", ["", "high", "nan", "inf", "1e400", "1e9", "-", "4 0", "1/0", "&#x661;", "0x10"])
def test_what_is_no_possible_number_is_null_and_leaves_the_rest(text: str) -> None:
    found = read(photo(packet(DJI | {"drone-dji:RelativeAltitude": text})))
    assert (found["relative_altitude_m"], found["absolute_altitude_m"]) == (None, 198.51)


def test_a_packet_that_breaks_off_keeps_what_was_read_before() -> None:
    whole = packet(DJI, elements=True)
    cut = whole[: whole.index(b"<drone-dji:GimbalYawDegree>") + 30]
    found = read(photo(cut))
    assert (found["relative_altitude_m"], found["camera_yaw_degrees"]) == (40.0, None)


@pytest.mark.parametrize(
    "damage",
    [
        (b"drone-dji:FlightYawDegree", b'drone-dji:RelativeAltitude="9" drone-dji:FlightYawDegree'),  # twice
        (b"</x:xmpmeta>", b""),
        (b"</rdf:RDF>", b"</rdf:RDF>\xff\xfe"),
        (b'xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/"', b""),  # never declared
        (b"<x:xmpmeta", b"\0\0 <x:xmpmeta"),
    ],
)
def test_broken_xml_still_says_what_its_attributes_say(damage: tuple[bytes, bytes]) -> None:
    assert read(photo(packet(DJI).replace(*damage)))["relative_altitude_m"] == 40.0


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "1">'
    + "".join(f'<!ENTITY {c} "{f"&{p};" * 50}">' for p, c in zip("abcde", "bcdef", strict=True))
    + "]>"
)


@pytest.mark.parametrize(
    "hostile",
    [
        BOMB.encode() + packet(DJI | {"drone-dji:RelativeAltitude": "&f;"}),
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + packet(DJI | {"xmp:CreatorTool": "&a;"}),
        b"<!DOCTYPE x>" + packet(DJI),
        b"<a>" * 50_000,
        (HEAD + "<rdf:li>" * 100_000).encode(),
        b"\xff\xfe" + b"\0" * 1000,
        b"<?xml version='1.0' encoding='no-such'?><a/>",
    ],
)
def test_a_hostile_packet_is_not_followed(hostile: bytes) -> None:
    assert read(photo(hostile[:60_000])) == NOTHING
    assert read(photo(hostile, kind="TIFF")) == NOTHING


def test_a_packet_is_read_up_to_its_limit() -> None:
    wide = "".join(f"<Camera:N{number}>1</Camera:N{number}>" for number in range(60_000))
    found = properties(photo(f"{HEAD}<rdf:Description>{wide}</rdf:Description>{TAIL}".encode(), kind="TIFF"))
    assert 1000 < len(found) < 5000
    deflated = png_with_compressed_text(packet(DJI, elements=True) + b" " * 50_000_000)
    assert len(deflated) < 100_000
    assert read(deflated)["relative_altitude_m"] == 40.0


FILES = {kind: photo(packet(DJI), exif(), kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF")}


@given(st.binary(max_size=100), st.integers(0, 900), st.sampled_from(sorted(FILES)))
def test_damaged_file_never_raises(noise: bytes, at: int, kind: str) -> None:
    content = FILES[kind]
    assert read(content[:at] + noise + content[at + len(noise) :]).keys() == NOTHING.keys()
