"""Digital numbers of satellites as reflectance."""

from __future__ import annotations

import math

import pytest

from swath.operators.survey.satellite import KELVIN, SURFACE, TOP, read_mtl, scale_of

LEVEL_2 = "s3://usgs/LC08_L2SP_140041_20130503_20190828_02_T1/LC08_L2SP_140041_20130503_20190828_02_T1_"
LEVEL_1 = "file:///in/LC08_L1TP_140041_20130503_20190828_02_T1_"
SAFE = "file:///in/S2A_MSI{}_20220301T101010_N{}_R022_T32TQM_20220301T120000.SAFE/GRANULE/X/IMG_DATA/R10m/"
MTL = """GROUP = LANDSAT_METADATA_FILE
  GROUP = IMAGE_ATTRIBUTES
    SUN_ELEVATION = 30.0
    SPACECRAFT_ID = "LANDSAT_8"
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = LEVEL1_RADIOMETRIC_RESCALING
    REFLECTANCE_MULT_BAND_4 = 2.0000E-05
    REFLECTANCE_ADD_BAND_4 = -0.100000
  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING
END_GROUP = LANDSAT_METADATA_FILE
END
"""


def test_the_product_in_the_name_says_how_numbers_become_reflectance() -> None:
    assert scale_of(f"{LEVEL_2}SR_B4.TIF") == (2.75e-5, -0.2, SURFACE, 0)
    assert scale_of(f"{LEVEL_2}ST_B10.TIF") == (0.00341802, 149.0, KELVIN, 0)
    band = "T32TQM_20220301T101010_B04_10m.jp2"
    assert scale_of(SAFE.format("L2A", "0400") + band) == (1e-4, -0.1, SURFACE, 0)
    assert scale_of(SAFE.format("L2A", "0301") + band) == (1e-4, 0.0, SURFACE, 0)
    assert scale_of(SAFE.format("L1C", "0510") + band) == (1e-4, -0.1, TOP, 0)


def test_landsat_level_1_needs_its_metadata() -> None:
    found = scale_of(f"{LEVEL_1}B4.TIF", read_mtl(MTL))
    assert found is not None
    assert (found.scale, found.offset) == pytest.approx((2e-5 / math.sin(math.pi / 6), -0.1 / math.sin(math.pi / 6)))
    assert scale_of(f"{LEVEL_1}B4.TIF") is None
    assert scale_of(f"{LEVEL_1}B5.TIF", read_mtl(MTL)) is None


def test_what_no_product_names_stays_digital_numbers() -> None:
    for uri in (f"{LEVEL_2}QA_PIXEL.TIF", "file:///in/B04.tif", SAFE.format("L2A", "0400") + "T32TQM_X_SCL_20m.jp2"):
        assert scale_of(uri) is None
