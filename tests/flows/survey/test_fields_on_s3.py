"""The whole way on S3: rasters of two days in a bucket, a run with `index`, outlines there too, `zones`, `change`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from tests.conftest import Buckets
from tests.flows.survey.dated import UTM, pixels, write

from swath.infra import storage

PIPELINE = """
name: fields
source: {windows: {size: 64, overlap: 8}}
steps:
  - read_raster: {bands: [red, green, blue, nir]}
  - index: {indices: [ndvi], raster: true}
  - vegetation
"""


def swath(*arguments: str) -> str:
    command = [sys.executable, "-m", "swath.flows.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def draw(path: Path, mown: bool) -> None:
    """160 pixels a side: grass on the left, soil on the right; a part of the grass is mown."""
    grain = np.random.default_rng(int(mown)).normal(0, 3, (4, 160, 160))
    grass, soil = (60, 110, 40, 190), (130, 105, 80, 140)
    values = np.empty((4, 160, 160))
    values[:, :, :80], values[:, :, 80:] = np.reshape(grass, (4, 1, 1)), np.reshape(soil, (4, 1, 1))
    if mown:
        values[:, 20:60, 10:50] = np.reshape(soil, (4, 1, 1))
    profile = {"width": 160, "height": 160, "count": 4, "dtype": "uint8", "crs": UTM.crs, "transform": pixels()}
    with rasterio.open(path, "w", driver="GTiff", tiled=True, blockxsize=64, blockysize=64, **profile) as file:
        file.write(np.clip(values + grain, 1, 255).astype(np.uint8))


@pytest.mark.slow
def test_fields_of_rasters_in_a_bucket(tmp_path: Path, s3: Buckets) -> None:
    bucket = s3.bucket("maps")
    for day, mown in (("2026-05-01", False), ("2026-06-01", True)):
        draw(tmp_path / "farm.tif", mown)
        storage.upload(tmp_path / "farm.tif", f"{bucket}/in/day={day}/farm.tif")
    in_crs = {name: shapely.transform(one, UTM.to_crs) for name, one in OUTLINES.items()}
    write(tmp_path / "fields.shp", in_crs, UTM.crs)
    for part in tmp_path.glob("fields.*"):
        storage.upload(part, f"{bucket}/outlines/{part.name}")
    (tmp_path / "fields.yaml").write_text(PIPELINE)
    house = ("--warehouse", f"{bucket}/lake")
    local = ("--ray", "off", "--direct")
    swath("run", str(tmp_path / "fields.yaml"), f"{bucket}/in", "--partition-by", "day={day}", *local, *house)
    found = json.loads(
        swath("zones", f"{bucket}/outlines/fields.shp", "fields", "--cover", "ndvi>0.2", "--json", *house)
    )
    assert found["days"] == ["2026-05-01", "2026-06-01"]
    cover = {(row["name"], row["date"]): row["cover"][0]["fraction"] for row in found["zones_found"]}
    expected = {("meadow", 5): 1, ("meadow", 6): 0, ("border", 5): 0.5, ("border", 6): 0.5}
    assert cover == {
        (name, f"2026-0{month}-01"): pytest.approx(share, abs=0.01) for (name, month), share in expected.items()
    }
    assert found["zones_found"][0]["dated_by"] == "partition"
    changed = json.loads(swath("change", "fields", "--zones", f"{bucket}/outlines/fields.shp", "--json", *house))
    zones = {row["name"]: row["significant"] for row in changed["changes"] if row["kind"] == "zone"}
    assert zones == {"meadow": True, "border": False}
    (count,) = json.loads(
        swath("sql", "SELECT count(*) AS n FROM changes WHERE significant", "--format", "json", *house)
    )
    assert count["n"] == changed["significant"]


OUTLINES = {"meadow": shapely.box(12, 22, 48, 58), "border": shapely.box(60, 90, 100, 130)}
