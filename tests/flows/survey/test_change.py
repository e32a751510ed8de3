"""Changes between two days: the one that was made is significant, those by chance are not."""

import json
from datetime import date

import cv2
import numpy as np
import pytest
from tests.flows.survey.dated import UTM, box, drawn, publish, write

from swath.flows.ask.query import sql
from swath.flows.survey.change import change, show
from swath.flows.survey.significance import Differences, Reference, adjusted, robust_z
from swath.flows.upkeep.forget import find
from swath.operators.core.geometry import cropping
from swath.operators.core.ground import Georef
from swath.schemas.errors import ConfigurationError, QueryError

BEFORE, AFTER = "s3://maps/2025-05-01.tif", "s3://maps/2026-05-01.tif"


def grain(seed, size, sigma=1.5, strength=0.05):
    """Noise of which neighbours say much the same."""
    noise = np.random.default_rng(seed).normal(size=(size, size))
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma) if sigma else noise
    return smooth / smooth.std() * strength


def two_days(tmp_path, shift=0.0, georefs=None):
    """Nine windows, of which that in the middle lost its green on the second day."""
    before, after = 0.5 + grain(1, 192), 0.5 + shift + grain(2, 192)
    after[64:128, 64:128] -= 0.3
    return publish(tmp_path / "house", {BEFORE: drawn(before), AFTER: drawn(after)}, georefs=georefs)


def test_the_changed_window_and_field_are_significant_and_the_others_are_not(tmp_path, capsys):
    house = two_days(tmp_path)
    fields = write(tmp_path / "f.geojson", {"mown": box(70, 70, 120, 120), "same": box(10, 10, 60, 60)})
    for _ in range(2):
        summary, rows = change(house, "fields", "ndvi", fields=fields)
    windows = [row for row in rows if row["kind"] == "window"]
    changed = [(row["window"]["x"], row["window"]["y"]) for row in windows if row["significant"]]
    assert (len(windows), changed) == (9, [(64, 64)])
    first = windows[0]
    assert first["difference"] == pytest.approx(-0.3, abs=0.02)
    assert (first["before_date"], first["after_date"]) == (date(2025, 5, 1), date(2026, 5, 1))
    assert abs(first["robust_z"]) > 3.5
    assert first["pixels"] == 64 * 64
    assert 100 < first["independent"] < 1000  # of neighbours that are alike, over one blur's width
    assert (summary.against, summary.reference, summary.calibrated) == ("zero", 0, True)
    assert [(row["name"], row["significant"]) for row in rows if row["kind"] == "zone"] == [
        ("mown", True),
        ("same", False),
    ]
    kept = sql(house, "SELECT kind, name, significant, area_m2 FROM changes").read_all().to_pylist()
    assert len(kept) == 11
    assert kept[-1]["area_m2"] == pytest.approx(2500 * 4, rel=1e-2)
    show(summary, rows, as_json=True)
    assert len(json.loads(capsys.readouterr().out)["changes"]) == 11
    show(summary, rows, as_json=False)
    assert "9 windows and 2 zones, 2 changed significantly against 0 (reflectance)" in capsys.readouterr().out


def test_against_the_scene_what_changed_everywhere_is_no_change(tmp_path):
    house = two_days(tmp_path, shift=0.1)
    assert change(house, "fields", "ndvi")[0].significant == 9
    summary, rows = change(house, "fields", "ndvi", "2025-05-01", AFTER, against="scene")
    assert (summary.significant, rows[0]["window"]["x"]) == (1, 64)
    assert summary.reference == pytest.approx(0.1, abs=0.02)


def test_what_was_compared_is_forgotten_with_its_object(tmp_path):
    house = two_days(tmp_path)
    change(house, "fields", "ndvi")
    found = find(house, [BEFORE])
    assert found.tables["changes"].rows == 9
    assert (found.uris, len(found.items)) == ([BEFORE], 9)


def test_a_state_on_another_grid_is_brought_to_the_earlier_ones(tmp_path):
    shifted = Georef(UTM.crs, UTM.to_ground @ cropping(-7.3, -5.6))  # 7.3 pixels to the left of the first
    house = two_days(tmp_path, georefs={AFTER: shifted})
    _, rows = change(house, "fields", "ndvi")
    assert {(row["window"]["x"], row["window"]["y"]) for row in rows if row["difference"] < -0.15} == {(64, 64)}
    corner = next(row for row in rows if (row["window"]["x"], row["window"]["y"]) == (128, 128))
    assert corner["pixels"] == pytest.approx((64 - 7.3) * (64 - 5.6), rel=0.03)


def test_states_that_are_none_are_told(tmp_path):
    house = publish(tmp_path / "house", {BEFORE: drawn(0.5 + grain(1, 64))})
    with pytest.raises(QueryError, match="pictures of 1 days"):
        change(house, "fields", "ndvi")
    with pytest.raises(QueryError, match=r"called '2024'.*2025-05-01"):
        change(house, "fields", "ndvi", "2025", "2024")
    with pytest.raises(ConfigurationError, match="the same pictures"):
        change(house, "fields", "ndvi", "2025", "2025-05-01.tif")
    bare = publish(tmp_path / "bare", {BEFORE: drawn(0.5 + grain(1, 64))}, raster=False)
    with pytest.raises(QueryError, match="`raster: true`"):
        change(bare, "fields", "ndvi")


@pytest.mark.parametrize("sigma", [0, 1, 3])
def test_chance_is_significant_as_often_as_the_level_says(sigma):
    ps = []
    for seed in range(150):
        found = Differences()
        drawn_ = grain(seed, 64, sigma).astype(np.float32)
        hole = drawn_.copy()
        hole[10:20, 30:50] = np.nan
        found.add(np.zeros_like(drawn_), hole if seed % 2 else drawn_)
        ps.append(found.p_value(Reference()))
    assert 0 <= np.mean(np.array(ps) < 0.05) <= 0.11  # 0.05 and three standard errors


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg():
    assert adjusted([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.04), pytest.approx(0.04)]
    assert robust_z([0, 1, 2, 3, 100])[4] == pytest.approx(98 / 1.4826)
    assert robust_z([1, 2]) == [None, None]
