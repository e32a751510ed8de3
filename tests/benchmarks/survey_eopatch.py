"""An EOPatch of eo-learn (arrays in .npy, a bounding box, timestamps) as GeoTIFFs, a date each, through read_raster,
index and zones: NDVI of the table against the patch's own, over its own mask; NDVI by land use against numpy.

    python -m tests.benchmarks.survey_eopatch [PATCH]

Where a patch lacks its bands (that of ../shared/data does: only NDVI is there), red and nir are drawn so that they
have the patch's NDVI: (1 - NDVI) / 4 and (1 + NDVI) / 4. Reading, masks, dates, statistics and zones are put to the
test then, not the sensor.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.benchmarks.machine import REPOSITORY
from tests.benchmarks.report import say

PATCH = REPOSITORY.parent / "shared" / "data" / "eopatch_slovenia"
PIPELINE = """
name: patch
source: {windows: {size: 64}}
steps:
  - read_raster
  - index: {indices: [ndvi], raster: true}
"""


class Patch:
    """The arrays of an EOPatch: time, rows, columns, values; read without pickle."""

    def __init__(self, folder: Path) -> None:
        box = json.loads((folder / "bbox.geojson").read_text())
        ring = np.array(box["coordinates"][0])
        self.crs = "EPSG:" + box["crs"]["properties"]["name"].rpartition(":")[2]
        self.west, self.south, self.east, self.north = *ring.min(axis=0), *ring.max(axis=0)
        self.times = [datetime.fromisoformat(one) for one in json.loads((folder / "timestamps.json").read_text())]
        self.ndvi = np.load(folder / "data" / "NDVI.npy", allow_pickle=False)[..., 0]
        self.valid = np.load(folder / "mask" / "IS_VALID.npy", allow_pickle=False)[..., 0].astype(bool)
        self.land_use = np.load(folder / "mask_timeless" / "LULC.npy", allow_pickle=False)[..., 0]
        self.height, self.width = self.land_use.shape

    @property
    def place(self) -> dict[str, Any]:
        from rasterio.transform import from_bounds

        across = from_bounds(self.west, self.south, self.east, self.north, self.width, self.height)
        return {"crs": self.crs, "transform": across, "height": self.height, "width": self.width}

    def write(self, folder: Path) -> list[str]:
        """A GeoTIFF a date, of reflectance, NaN where the patch says that nothing is valid."""
        import rasterio

        names = []
        for index, moment in enumerate(self.times):
            ndvi = np.where(self.valid[index], self.ndvi[index], np.nan).astype(np.float64)
            name = f"{moment:%Y%m%dT%H%M%S}.tif"
            with rasterio.open(
                folder / name, "w", driver="GTiff", count=2, dtype="float32", nodata=np.nan, tiled=True, **self.place
            ) as file:
                file.write(np.stack([(1 - ndvi) / 4, (1 + ndvi) / 4]).astype(np.float32))
                file.descriptions = ("red", "nir")
                file.units = ("reflectance", "reflectance")
            names.append(name)
        return names

    def write_land_use(self, path: Path) -> None:
        """Its classes as polygons along the sides of pixels."""
        from rasterio.features import shapes

        found = shapes(self.land_use.astype(np.int32), transform=self.place["transform"])
        features = [
            {"type": "Feature", "geometry": shape, "properties": {"class": str(int(value))}} for shape, value in found
        ]
        crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{self.crs.rpartition(':')[2]}"}}
        path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))


def compared(patch: Patch, house: Path, source: Path, zones: Path) -> dict[str, Any]:
    """Runs the pipeline and compares its figures."""
    from swath.flows.ask.query import sql

    text = source.parent / "patch.yaml"
    text.write_text(PIPELINE)
    _swath("run", str(text), str(source), "--warehouse", str(house), "--ray", "off", "--direct")
    rows = sql(
        str(house),
        "SELECT source_uri, one.x AS x, one.y AS y, one.width AS w, one.height AS h, index.mean AS mean, "
        "index.valid_fraction AS share, status, skipped FROM (SELECT *, \"window\" AS one, indices[1] AS index "
        "FROM patch.stored)",
    ).read_all().to_pylist()  # fmt: skip
    names = {f"{moment:%Y%m%dT%H%M%S}.tif": index for index, moment in enumerate(patch.times)}
    off, skipped, share = [], 0, []
    for row in rows:
        part = np.s_[row["y"] : row["y"] + row["h"], row["x"] : row["x"] + row["w"]]
        at = names[row["source_uri"].rpartition("/")[2]]
        valid = patch.valid[at][part]
        if row["skipped"]:
            skipped += not valid.any()
            continue
        off.append(abs(row["mean"] - float(patch.ndvi[at][part][valid].mean())))
        share.append(abs(row["share"] - valid.mean()))
    _swath("zones", str(zones), "patch", "--name", "class", "--warehouse", str(house))
    found = sql(
        str(house),
        "SELECT name, date, sum(pixels * mean) / sum(pixels) AS mean, sum(pixels) AS pixels FROM zone_indices "
        "GROUP BY ALL",
    )
    by_class = _by_land_use(patch)
    zonal = [
        (abs(row["mean"] - mean), abs(row["pixels"] - count) / count)
        for row in found.read_all().to_pylist()
        if (said := by_class.get((row["name"], row["date"].isoformat()))) is not None
        for mean, count in [said]
    ]
    return {
        "dates": len(patch.times),
        "windows": len(rows),
        "windows_ok": sum(row["status"] == "ok" for row in rows),
        "windows_skipped_as_empty": sum(row["skipped"] is not None for row in rows),
        "of_those_empty_in_the_mask": skipped,
        "largest_difference_of_mean_ndvi": max(off),
        "largest_difference_of_valid_fraction": max(share),
        "land_use_means_compared": len(zonal),
        "largest_difference_of_land_use_mean": max(one for one, _ in zonal),
        "largest_share_of_land_use_pixels_off": max(one for _, one in zonal),
    }


def _by_land_use(patch: Patch) -> dict[tuple[str, str], tuple[float, int]]:
    """(class, day) to mean NDVI and pixels, of days with one picture."""
    days = [f"{moment:%Y-%m-%d}" for moment in patch.times]
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for index, day in enumerate(days):
        for value in np.unique(patch.land_use):
            inside: npt.NDArray[np.bool_] = (patch.land_use == value) & patch.valid[index]
            if days.count(day) == 1 and inside.any():
                found[str(value), day] = float(patch.ndvi[index][inside].mean()), int(inside.sum())
    return found


def _swath(*arguments: str) -> None:
    from typer.testing import CliRunner

    from swath.flows.cli import app

    result = CliRunner().invoke(app, list(arguments))
    if result.exit_code:
        raise RuntimeError(f"swath {arguments[0]}: {result.output}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.survey_eopatch", description=__doc__)
    parser.add_argument("patch", nargs="?", type=Path, default=PATCH)
    arguments = parser.parse_args()
    if not (arguments.patch / "bbox.geojson").exists():
        print(f"{arguments.patch} is no EOPatch: it has no bbox.geojson", file=sys.stderr)
        return 2
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "dates"
        folder.mkdir()
        patch = Patch(arguments.patch)
        say(f"{len(patch.write(folder))} dates of {patch.width} x {patch.height} pixels")
        patch.write_land_use(Path(scratch) / "land_use.geojson")
        figures = compared(patch, Path(scratch) / "house", folder, Path(scratch) / "land_use.geojson")
    print(json.dumps(figures | {"seconds": round(time.monotonic() - started, 1)}, indent=1, default=float))
    return 0


if __name__ == "__main__":
    sys.exit(main())
