import csv
import io
import struct
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from swath.operators.survey.exif import Exif, exif_block

SHARED = Path(__file__).parents[2] / "../shared/data"
NOTHING = dict.fromkeys(column.name for column in Exif().outputs())
BERLIN = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (52.0, 31.0, 12.0),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (13.0, 24.0, 18.0),
    GPS.GPSAltitudeRef: b"\0",
    GPS.GPSAltitude: 34.5,
}
SOUTH_WEST = BERLIN | {GPS.GPSLatitudeRef: "S", GPS.GPSLongitudeRef: "W", GPS.GPSAltitudeRef: b"\x01"}


def block(main=None, photo=None, gps=None):
    exif = Image.Exif()
    exif.update(main or {})
    exif.get_ifd(IFD.Exif).update(photo or {})
    exif.get_ifd(IFD.GPSInfo).update(gps or {})
    return exif


def picture(kind="JPEG", **directories):
    file = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(file, kind, exif=block(**directories).tobytes())
    return file.getvalue()


def read(content):
    return Exif().process({"bytes": content}, None)


def values(content):
    """All but the reason why there is no position."""
    return read(content) | {"position_note": None}


def raw_gps(*entries):
    """A TIFF block whose GPS directory holds the raw entries (tag, type, count, four bytes of value)."""
    start = 8 + 2 + 12 + 4
    main = struct.pack("<HHHIII", 1, IFD.GPSInfo, 4, 1, start, 0)
    gps = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI4s", *entry) for entry in entries) + bytes(4)
    return b"II*\0\x08\0\0\0" + main + gps + bytes(64)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_kind_of_file_gives_the_same_values(kind):
    main = {Base.Make: "Maker", Base.Model: "Model X", Base.DateTime: "2024:05:01 10:00:00"}
    found = read(picture(kind, main=main, photo={Base.FocalLength: 8.8}, gps=BERLIN))
    assert (found["camera_make"], found["camera_model"]) == ("Maker", "Model X")
    assert found["captured_at"] == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert found["latitude"] == pytest.approx(52.52, abs=1e-9)
    assert found["longitude"] == pytest.approx(13.405, abs=1e-9)
    assert (found["altitude_m"], found["focal_length_mm"]) == (pytest.approx(34.5), pytest.approx(8.8))


def test_hemisphere_and_altitude_reference_give_the_sign():
    found = read(picture(gps=SOUTH_WEST))
    assert (found["latitude"], found["longitude"]) == (pytest.approx(-52.52), pytest.approx(-13.405))
    assert found["altitude_m"] == pytest.approx(-34.5)


def test_png_block_behind_the_picture_is_found():
    content = picture("PNG", main={Base.Make: "Maker"})
    at = content.index(b"eXIf") - 4
    (length,) = struct.unpack_from(">I", content, at)
    chunk = content[at : at + 12 + length]
    end = content.index(b"IEND") - 4
    moved = content[:at] + content[at + len(chunk) : end] + chunk + content[end:]
    assert read(moved)["camera_make"] == "Maker"


def test_block_that_continues_in_a_second_jpeg_segment_is_joined():
    whole = block(main={Base.Make: "Maker"}).tobytes()
    parts = [whole[:30], b"Exif\0\0" + whole[30:]]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
    assert read(b"\xff\xd8" + segments + b"\xff\xda")["camera_make"] == "Maker"


def test_only_the_header_is_needed():
    content = picture(gps=BERLIN)
    assert read(content[: content.index(b"\xff\xdb")])["latitude"] == pytest.approx(52.52)


ORIGINAL = {Base.DateTimeOriginal: "2024:05:01 23:30:00", Base.SubsecTimeOriginal: "25"}
SATELLITE = {GPS.GPSDateStamp: "2024:05:02", GPS.GPSTimeStamp: (3.0, 30.0, 1.5)}


@pytest.mark.parametrize(
    ("directories", "expected"),
    [
        ({"photo": ORIGINAL | {Base.OffsetTimeOriginal: "-04:00"}, "gps": SATELLITE}, "2024-05-02T03:30:00.250000"),
        ({"photo": ORIGINAL, "gps": SATELLITE}, "2024-05-02T03:30:01.500000"),
        ({"photo": ORIGINAL | {Base.OffsetTimeOriginal: "late"}}, "2024-05-01T23:30:00.250000"),
        ({"main": {Base.DateTime: "2024:06:01 00:00:00"}, "photo": ORIGINAL}, "2024-05-01T23:30:00.250000"),
        ({"photo": {Base.DateTimeDigitized: "2024:05:01 01:00:00"}}, "2024-05-01T01:00:00"),
        (
            {"main": {Base.DateTime: "2024:05:01 01:00:00"}, "photo": {Base.OffsetTime: "+02:00"}},
            "2024-04-30T23:00:00",
        ),
        ({"photo": {Base.DateTimeOriginal: "0000:00:00 00:00:00"}}, None),
        ({"photo": {Base.DateTimeOriginal: "0001:01:01 00:00:00", Base.OffsetTimeOriginal: "+14:00"}}, None),
        ({"photo": {Base.DateTimeOriginal: "    :  :     :  :  "}}, None),
        ({"gps": SATELLITE | {GPS.GPSDateStamp: "1999:99:99"}}, None),
        ({"gps": SATELLITE | {GPS.GPSTimeStamp: (25.0, 0.0, 0.0)}}, None),
    ],
)
def test_time_is_taken_by_the_stated_rule(directories, expected):
    found = read(picture(**directories))["captured_at"]
    assert (found and found.isoformat()) == (expected and expected + "+00:00")


@pytest.mark.parametrize(
    "damage",
    [
        {GPS.GPSLatitude: (91.0, 0.0, 0.0)},
        {GPS.GPSLongitude: (180.0, 0.0, 0.1)},
        {GPS.GPSLatitude: (52.0, 75.0, 0.0)},
        {GPS.GPSLatitude: (IFDRational(52, 0), 0.0, 0.0)},
        {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
        {GPS.GPSLatitudeRef: "X"},
        {GPS.GPSLatitudeRef: ""},
    ],
)
def test_impossible_position_is_null_and_leaves_the_rest(damage):
    found = read(picture(main={Base.Make: "Maker"}, gps=BERLIN | damage))
    assert (found["latitude"], found["longitude"]) == (None, None)
    assert (found["camera_make"], found["altitude_m"]) == ("Maker", pytest.approx(34.5))


def test_why_there_is_no_position():
    def note(content):
        return read(content)["position_note"]

    whole = picture(main={Base.Make: "Maker"}, gps=BERLIN)
    assert note(whole) is None
    assert note(picture(main={Base.Make: "Maker"})) == "no GPS position"
    assert note(picture(gps=BERLIN | {GPS.GPSLatitude: (0.0,), GPS.GPSLongitude: (0.0,)})).startswith("GPS at (0, 0)")
    assert note(picture(gps=BERLIN | {GPS.GPSLatitude: (91.0,)})) == "GPS position is impossible"
    for mark, other in ((b"II*\0", b"MM\0*"), (b"MM\0*", b"II*\0")):
        assert note(whole.replace(mark, other, 1)) == (
            None if mark not in whole else "Exif cannot be read: broken, or in another byte order than it says"
        )
    assert note(b"\xff\xd8\xff\xda") == "no Exif"


@pytest.mark.parametrize("height", [IFDRational(1, 0), 4294967295.0])
def test_impossible_altitude_is_null(height):
    assert read(picture(gps=BERLIN | {GPS.GPSAltitude: height}))["altitude_m"] is None


def test_height_over_the_ellipsoid_is_no_height_above_sea_level():
    assert read(picture(gps=BERLIN | {GPS.GPSAltitudeRef: b"\x02"}))["altitude_m"] is None


@pytest.mark.parametrize(
    "entries",
    [
        (),
        ((GPS.GPSLatitude, 2, 4, b"52N\0"), (GPS.GPSLongitude, 7, 4, b"13E\0")),
        ((GPS.GPSLatitude, 5, 3, b"\xff\xff\xff\x7f"), (GPS.GPSLatitudeRef, 2, 2, b"N\0\0\0")),
        ((GPS.GPSLatitude, 5, 0xFFFFFFFF, bytes(4)),),
        ((GPS.GPSLatitude, 5, 0, bytes(4)), (GPS.GPSAltitude, 5, 0, bytes(4))),
        ((GPS.GPSLatitude, 99, 1, bytes(4)),),
        ((GPS.GPSLatitude, 11, 1, b"\0\0\xc0\x7f"), (GPS.GPSAltitude, 11, 1, b"\0\0\x80\x7f")),
        ((GPS.GPSAltitude, 2, 4, b"high"), (GPS.GPSAltitudeRef, 2, 4, b"deep")),
    ],
)
def test_malformed_gps_directory_is_nulls(entries):
    assert values(raw_gps(*entries)) == NOTHING


def test_not_a_number_as_latitude_is_null():
    angles = [(GPS.GPSLatitudeRef, 2, 2, b"N\0\0\0"), (GPS.GPSLatitude, 11, 1, struct.pack("<f", float("nan")))]
    angles += [(GPS.GPSLongitudeRef, 2, 2, b"E\0\0\0"), (GPS.GPSLongitude, 11, 1, struct.pack("<f", 13.5))]
    assert values(raw_gps(*angles)) == NOTHING
    angles[1] = (GPS.GPSLatitude, 11, 1, struct.pack("<f", 52.5))
    assert (read(raw_gps(*angles))["latitude"], read(raw_gps(*angles))["longitude"]) == (52.5, 13.5)


def test_text_is_cut_at_its_end_and_freed_of_control_characters():
    found = read(picture(main={Base.Make: "Mak\x1ber\0rest", Base.Model: "   "}))
    assert (found["camera_make"], found["camera_model"]) == ("Mak er", None)


def test_huge_block_is_cut_before_it_is_parsed():
    segment = b"\xff\xe1\xff\xff" + b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\xff" * (65533 - 14)
    assert len(exif_block(b"\xff\xd8" + segment * 40)) <= 1 << 20
    assert values(b"\xff\xd8" + segment * 40) == NOTHING


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"II*\0", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"BM" * 50])
def test_file_without_a_block_is_nulls(content):
    assert values(content) == NOTHING


FILES = {kind: picture(kind, photo=ORIGINAL, gps=BERLIN) for kind in ("JPEG", "PNG", "WEBP", "TIFF")}


@given(st.binary(max_size=120), st.integers(0, 400), st.sampled_from(sorted(FILES)))
def test_damaged_file_never_raises(noise, at, kind):
    content = FILES[kind]
    found = read(content[:at] + noise + content[at + len(noise) :])
    assert found.keys() == NOTHING.keys()
    assert found["latitude"] is None or -90 <= found["latitude"] <= 90


@pytest.mark.parametrize("survey", ["drone_seneca", "drone_brighton"])
def test_drone_positions_are_the_known_ones(survey):
    if not (SHARED / survey).exists():
        pytest.skip("the shared drone photos are not on this machine")
    with open(SHARED / survey / "gps_truth.csv") as file:
        for truth in csv.DictReader(file):
            found = read((SHARED / survey / "images" / truth["file"]).read_bytes())
            assert found["latitude"] == pytest.approx(float(truth["lat"]), abs=1e-7)
            assert found["longitude"] == pytest.approx(float(truth["lon"]), abs=1e-7)
            assert found["altitude_m"] == pytest.approx(float(truth["alt_m"]), abs=0.01)
            assert found["captured_at"].strftime("%Y:%m:%d") == truth["datetime"][:10]


def test_pillows_own_torture_files_never_raise():
    if not (SHARED / "torture_pillow").exists():
        pytest.skip("the shared torture files are not on this machine")
    files = [path for path in (SHARED / "torture_pillow").rglob("*") if path.is_file()]
    found = {path.name: read(path.read_bytes()) for path in files}
    assert found["empty_gps_ifd.jpg"]["camera_make"] == "Xiaomi"
    assert all(found[name]["latitude"] is None for name in ("empty_gps_ifd.jpg", "exif_gps_typeerror.jpg"))
