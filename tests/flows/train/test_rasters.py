"""A model learns from a raster what it is shown of it afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from swath.flows.train.data import decoded, pixels_of
from swath.operators.survey.raster import ReadRaster


@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_a_raster_of_16_bits_is_learnt_from_as_read_raster_shows_it(tmp_path: Path, crs: str | None) -> None:
    path = tmp_path / "a.tif"
    values = np.random.default_rng(0).integers(200, 900, (1, 40, 60)).astype(np.uint16)
    place = {"crs": crs, "transform": from_origin(5e5, 5e6, 0.5, 0.5)} if crs else {}
    with rasterio.open(path, "w", driver="GTiff", width=60, height=40, count=1, dtype="uint16", **place) as raster:
        raster.write(values)
    item = {"source_uri": str(path), "etag": "1", "window": None, "assets": None, "open": lambda uri: open(uri, "rb")}  # noqa: SIM115
    shown = ReadRaster().process(item, None)["pixels"]
    assert shown.max() > 240
    assert (pixels_of(str(path)) == (shown if crs else decoded(path.read_bytes()))).all()
