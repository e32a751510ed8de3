"""A map shows the imagery where it lies, what became of the items, and a value; a stranger can measure in it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from pyproj import Geod
from tests.flows.survey import cut

from swath.flows.survey.imagery import Grid, grid_around, photo_on
from swath.flows.survey.legend import round_length
from swath.flows.survey.mapping import draw_map
from swath.flows.survey.sheet import COLOURS
from swath.schemas.errors import ConfigurationError, QueryError

BLUE, RED = (20, 60, 200), (200, 40, 30)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A raster, blue in the west and red in the east, in 2 x 2 windows of which the last is a reject."""
    folder = tmp_path_factory.mktemp("map")
    place = rasterio.Affine(*cut.UTM.to_ground[:2].ravel())
    pixels = np.zeros((3, 200, 300), np.uint8)
    pixels[:, :, :150], pixels[:, :, 150:] = (np.array(colour)[:, None, None] for colour in (BLUE, RED))
    profile = {"driver": "GTiff", "width": 300, "height": 200, "count": 3, "dtype": "uint8"}
    with rasterio.open(folder / "a.tif", "w", **profile, crs=cut.UTM.crs, transform=place) as file:
        file.write(pixels)
    cut.publish(folder / "w", cut.classes(300, 200), 150, rejected=3, uri=(folder / "a.tif").as_uri())
    return str(folder / "w")


def has(pixels: np.ndarray, colour: tuple[int, ...], least: int = 20) -> bool:
    return int((np.abs(pixels.astype(int) - colour[::-1]).max(axis=2) <= 3).sum()) >= least


def test_a_map_shows_imagery_outcomes_and_values_and_counts_them(warehouse: str, tmp_path: Path) -> None:
    plain = draw_map(warehouse, "fields", str(tmp_path / "a.png"), longest=400)
    assert plain.outcomes == {"ok": 3, "rejected": 1, "skipped": 0}
    assert (plain.pictures, plain.without_place) == (1, 0)
    shown = cv2.imread(str(tmp_path / "a.png"))
    assert shown.shape[:2] == (plain.height, plain.width)
    assert has(shown, BLUE, 5000)
    assert has(shown, RED, 5000)
    assert has(shown, COLOURS["ok"])
    assert has(shown, COLOURS["rejected"])
    west, east = (np.argwhere((shown == colour[::-1]).all(axis=2))[:, 1].mean() for colour in (BLUE, RED))
    assert west < east
    draw_map(warehouse, "fields", str(tmp_path / "b.png"), "ndvi_mean", longest=400)
    valued = cv2.imread(str(tmp_path / "b.png"))
    assert not has(valued, BLUE, 5000)
    draw_map(warehouse, "fields", str(tmp_path / "c.png"), longest=400, imagery=False)
    assert not has(cv2.imread(str(tmp_path / "c.png")), RED)


def test_the_grid_measures_what_is_on_the_ground() -> None:
    places = np.array([(15.0, 46.0), (15.02, 46.01)])
    grid = grid_around(places, 500)
    apart = float(np.linalg.norm(np.diff(grid.pixels(places), axis=0))) * grid.metres
    assert apart == pytest.approx(Geod(ellps="WGS84").inv(*places[0], *places[1])[2], rel=1e-3)
    assert grid.crs == "EPSG:32633"
    assert grid_around(np.array([(-70.0, -10.0), (-40.0, 5.0)]), 500).crs.startswith("+proj=laea")
    around = grid_around(np.array([(179.9, -16.0), (-179.9, -15.9)]), 500)
    assert around.metres * around.width < 30_000
    assert [round_length(metres) for metres in (1, 19, 49.9, 730)] == [1, 10, 20, 500]


def test_a_photo_lies_with_its_corners_where_its_footprint_has_them(tmp_path: Path) -> None:
    photo = np.zeros((240, 320, 3), np.uint8)
    photo[:80, :80] = 255  # its upper left, as stored
    cv2.imwrite(str(tmp_path / "p.png"), photo)
    grid = Grid("EPSG:32633", 0, 0, 1, 100, 100)
    turned = np.array([(90.0, 10.0), (10.0, 10.0), (10.0, 90.0), (90.0, 90.0)])
    found = photo_on(grid, (tmp_path / "p.png").as_uri(), turned)
    assert found is not None
    pixels, there, place = found
    assert (place, there.mean()) == ((10, 10), pytest.approx(1, abs=0.05))
    assert pixels[5, 70].tolist() == [255, 255, 255]
    assert pixels[5, 5].max() == pixels[70, 70].max() == 0


def test_what_cannot_be_drawn_is_said(warehouse: str, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"no number 'ndvi'; it has .*ndvi_mean"):
        draw_map(warehouse, "fields", str(tmp_path / "a.png"), "ndvi")
    with pytest.raises(ConfigurationError, match="a map is a PNG"):
        draw_map(warehouse, "fields", str(tmp_path / "a.jpg"))
