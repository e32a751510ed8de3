"""Grouping rules by name: the files of one capture, as cameras and satellites name them."""

from __future__ import annotations

import pytest

from swath.flows.source.grouping import File, check_rule, objects_of


def grouped(rule: str, *paths: str) -> dict[str, dict[str, str]]:
    """Objects by the path of their first file: role to name of the file."""
    found = objects_of([File(path, f"file:///{path}", "v1", 1) for path in paths], check_rule(rule))
    return {
        one.path: dict(zip(one.roles, (file.path.rpartition("/")[2] for file in one.files), strict=True))
        for one in found
    }


def roles(rule: str, *paths: str) -> list[list[str]]:
    return [list(one) for one in grouped(rule, *paths).values()]


@pytest.mark.parametrize(
    ("rule", "names", "expected"),
    [
        ("micasense", [f"IMG_0000_{band}.tif" for band in range(1, 6)], ["blue", "green", "nir", "red", "red_edge"]),
        ("micasense", ["IMG_12345_4.TIF", "IMG_12345_10.TIF", "IMG_12345_6.TIF"], ["band_10", "band_6", "nir"]),
        (
            "sequoia",
            [f"IMG_180413_080658_0000_{band}" for band in ("GRE.TIF", "RED.TIF", "REG.TIF", "NIR.TIF", "RGB.JPG")],
            ["green", "nir", "red", "red_edge", "rgb"],
        ),
        (
            "dji",
            ["DJI_0010.JPG", *(f"DJI_001{band}.TIF" for band in range(1, 6))],
            ["blue", "green", "nir", "red", "red_edge", "rgb"],
        ),
        (
            "dji",
            [f"DJI_20230309024757_0001_{end}" for end in ("D.JPG", "MS_G.TIF", "MS_R.TIF", "MS_RE.TIF", "MS_NIR.TIF")],
            ["green", "nir", "red", "red_edge", "rgb"],
        ),
        (
            "landsat",
            [
                f"LC08_L2SP_140041_20130503_20190828_02_T1_{end}"
                for end in ("SR_B2.TIF", "SR_B4.TIF", "SR_B5.TIF", "SR_B6.TIF", "ST_B10.TIF", "QA_PIXEL.TIF", "MTL.txt")
            ],
            ["blue", "nir", "qa", "red", "swir", "thermal", "metadata"],
        ),
        (
            "landsat",
            [f"LT05_L1TP_140041_19900503_20190828_02_T1_B{band}.TIF" for band in range(1, 8)],
            ["blue", "green", "nir", "red", "swir", "swir2", "thermal"],
        ),
        ("landsat", ["LC81400412013123LGN01_B4.TIF", "LC81400412013123LGN01_B5.TIF"], ["nir", "red"]),
        ("landsat", ["LM02_L1GS_140041_19780503_20190828_02_T2_B5.TIF"], ["red"]),
        ("sentinel2", [f"T32TQM_20210101T101010_{end}.jp2" for end in ("B04_10m", "B8A_20m")], ["nir_narrow", "red"]),
        ("sentinel2", ["B02.tif", "B08.tif", "SCL.tif"], ["blue", "nir", "scl"]),
    ],
)  # fmt: skip
def test_files_of_one_capture_are_one_object_with_a_role_each(rule: str, names: list[str], expected: list[str]) -> None:
    assert roles(rule, *(f"000/{name}" for name in names)) == [expected]


def test_captures_of_other_numbers_folders_and_flights_stay_apart() -> None:
    assert len(roles("micasense", "0/IMG_0000_1.tif", "0/IMG_0001_1.tif", "1/IMG_0000_2.tif", "1/IMG_0000_1.tif")) == 3
    assert roles("dji", "a/DJI_0011.TIF", "a/DJI_0021.TIF") == [["blue"], ["blue"]]
    tiles = [f"T3{tile}TQM_20210101T101010_B04.jp2" for tile in (2, 3)]
    assert roles("sentinel2", *tiles) == [["red"], ["red"]]


def test_a_photo_of_another_camera_is_an_object_of_its_own() -> None:
    assert roles("dji", "DJI_0011.JPG", "DJI_0012.JPG", "DJI_20230309024757_0001_T.JPG") == [["image"]] * 3
    assert roles("micasense", "IMG_0000.tif", "IMG_0000_1.jpg") == [["image"]] * 2


def test_of_copies_of_a_band_the_finest_is_taken_and_folders_by_resolution_are_one_granule() -> None:
    below = "S2A_MSIL2A_20210101T101010_N0214_R022_T32TQM_20210101T120000.SAFE/GRANULE/L2A_X/IMG_DATA"
    names = [("R10m", "B04_10m"), ("R20m", "B04_20m"), ("R20m", "B05_20m"), ("R60m", "B05_60m"), ("R60m", "B01_60m")]
    found = grouped("sentinel2", *(f"{below}/{folder}/T32TQM_20210101T101010_{name}.jp2" for folder, name in names))
    assert [{role: name[-11:-4] for role, name in one.items()} for one in found.values()] == [
        {"coastal": "B01_60m", "red": "B04_10m", "red_edge": "B05_20m"}
    ]
