"""Captures of multispectral cameras: bands laid over each other, and digital numbers as reflectance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from tests.operators import drawn_captures as drawn
from tests.operators.kit import item, step, through

from swath.flows.pipelines.binding import bind, load
from swath.flows.source.grouping import File, check_rule, objects_of
from swath.operators.core.base import Reject
from swath.operators.core.geometry import map_points
from swath.operators.core.ground import Bands
from swath.operators.survey.align import edges, registration, residual
from swath.operators.survey.capture import Panel, ReadCapture
from swath.operators.survey.lens import Lens, lens_of, maps
from swath.operators.survey.tags import Tags
from swath.schemas.errors import ConfigurationError


def opened(uri: str) -> Any:
    return open(uri.removeprefix("file://"), "rb")


def capture_of(rule: str, paths: list[Path]) -> dict[str, Any]:
    """The item that the grouping rule makes of the files."""
    files = [File(path.name, f"file://{path}", "v1", path.stat().st_size) for path in paths]
    [found] = objects_of(files, check_rule(rule))
    assets = [
        {"role": role, "uri": file.uri, "etag": file.etag, "bytes": file.size}
        for role, file in zip(found.roles, found.files, strict=True)
    ]
    return item(0, assets=assets, open=opened) | {"source_uri": found.uri}


def read(rule: str, paths: list[Path], **config: Any) -> dict[str, Any]:
    operator = ReadCapture(**config)
    return operator.process(capture_of(rule, paths), operator.load())


def relative_error(bands: Bands, role: str) -> float:
    """The 95th percentile of |found / true - 1|, away from the frame."""
    found, true = (one[12:-12, 12:-12] for one in (bands.of(role), drawn.expected(role)))
    known = np.isfinite(found)
    assert known.mean() > 0.85
    return float(np.percentile(np.abs(found[known] / true[known] - 1), 95))


def test_a_micasense_capture_is_aligned_by_its_camera_models_and_is_reflectance_by_its_sun_sensor(
    tmp_path: Path,
) -> None:
    found = read("micasense", drawn.micasense(tmp_path))
    assert found["bands"].roles == ("blue", "green", "red", "red_edge", "nir")
    assert (found["calibrated"], found["calibrated_by"], found["calibration_note"]) == (True, "sun sensor", None)
    assert {one["method"] for one in found["capture_bands"]} == {"reference", "camera model"}
    assert found["band_residual_px"] < 0.3
    assert found["capture_note"] is None
    for role in found["bands"].roles:
        assert relative_error(found["bands"], role) < 0.02, role
    assert found["pixels"].shape == (drawn.HEIGHT, drawn.WIDTH, 3)
    plants = drawn.expected("nir") > 0.42
    red, green, _ = (np.median(channel[plants]) for channel in cv2.split(found["pixels"]))
    assert green > red


def test_where_a_point_of_the_reference_is_seen_by_another_camera(tmp_path: Path) -> None:
    paths = drawn.micasense(tmp_path)
    lenses = [lens_of(Tags(path.read_bytes())) for path in paths]
    y, x = np.mgrid[20 : drawn.HEIGHT : 60, 20 : drawn.WIDTH : 60]
    points = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)
    for camera, lens in zip(drawn.RIG, lenses, strict=True):
        assert lens is not None
        assert lenses[1] is not None
        across, down = maps(lens, lenses[1], (drawn.HEIGHT, drawn.WIDTH))
        found = np.column_stack([across[y, x].ravel(), down[y, x].ravel()])
        np.testing.assert_allclose(found, drawn.from_reference(camera, drawn.GREEN, points), atol=0.02)


def test_a_camera_model_that_is_off_is_corrected_by_registration(tmp_path: Path) -> None:
    paths = drawn.micasense(tmp_path, claimed={"nir": "1.2,-0.4,1.5"})
    far = read("micasense", paths, bands=("green", "nir"), align="model", misaligned="flag")
    assert far["band_residual_px"] is None or far["band_residual_px"] > 1.5
    found = read("micasense", paths, bands=("green", "nir"))
    assert found["capture_bands"][1]["method"] == "camera model, registration"
    assert found["band_residual_px"] < 0.5
    assert relative_error(found["bands"], "nir") < 0.02


def test_a_fisheye_without_distortion_is_equidistant() -> None:
    focal = 400.0
    matrix = np.array([[focal, 0, 190], [0, focal, 140], [0, 0, 1.0]])
    affine = (focal * np.pi / 2, 0.0, 0.0, focal * np.pi / 2)
    lens = Lens(matrix, np.eye(3), fisheye=(0.0, 1.0, 0.0, 0.0, *affine))
    rays = np.array([[0.3, -0.2, 1.0], [-0.5, 0.4, 1.0], [0.0, 0.6, 1.0]])
    pixels = (rays @ matrix.T)[:, :2].astype(np.float32)
    angle = np.arctan(np.hypot(rays[:, 0], rays[:, 1]))
    expected = focal * (angle / np.hypot(rays[:, 0], rays[:, 1]))[:, None] * rays[:, :2] + (190, 140)
    np.testing.assert_allclose(np.column_stack(lens.seen(*pixels.T)), expected, atol=1e-3)


def test_without_camera_models_bands_are_registered_and_the_residual_is_stated(tmp_path: Path) -> None:
    found = read("micasense", drawn.micasense(tmp_path, rig=False))
    assert {one["method"] for one in found["capture_bands"]} == {"reference", "registration"}
    for one in found["capture_bands"]:
        assert one["method"] == "reference" or (one["residual_px"] < 0.5 and one["patches"] >= 8), one
    # Without its distortion being known, the reference is what the others are laid over.
    green, nir = found["bands"].of("green"), found["bands"].of("nir")
    known = np.isfinite(nir)
    assert np.corrcoef(green[known], nir[known])[0, 1] < -0.9


@pytest.mark.parametrize(("degrees", "shift"), [(0.8, (12.3, -21.7)), (4.0, (-25.0, 9.0))])
def test_registration_finds_a_known_homography_between_bands_of_opposite_contrast(
    degrees: float, shift: tuple[float, float]
) -> None:
    red, nir = drawn.scene("red"), drawn.scene("nir")
    height, width = red.shape
    turn = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.01), [0, 0, 1]])
    known = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [2e-6, -1e-6, 1]]) @ turn
    moved = cv2.warpPerspective(nir, known, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    noisy = moved + np.random.default_rng(1).normal(0, 0.004, moved.shape).astype(np.float32)
    found = registration(edges(red), edges(noisy))
    assert found is not None
    y, x = np.mgrid[60 : height - 60 : 40, 60 : width - 60 : 40]
    points = np.column_stack([x.ravel(), y.ravel()])
    assert np.hypot(*(map_points(found, points) - map_points(known, points)).T).max() < 0.5
    unknown = residual(edges(red), edges(drawn.scene("nir", seed=9)))
    assert unknown is None or unknown.pixels > 1.5


@pytest.mark.parametrize(("rule", "make"), [("dji", drawn.dji), ("sequoia", drawn.sequoia)])
def test_dji_and_sequoia_are_proportional_to_reflectance_and_a_panel_makes_it_reflectance(
    tmp_path: Path, rule: str, make: Any
) -> None:
    paths = make(tmp_path / "field")
    without = read(rule, paths)
    assert (without["calibrated"], without["calibrated_by"]) == (False, "relative")
    assert "no factor" in without["calibration_note"]
    bands: Bands = without["bands"]
    red, nir = bands.of("red"), bands.of("nir")
    true = (drawn.expected("nir") - drawn.expected("red")) / (drawn.expected("nir") + drawn.expected("red"))
    difference = ((nir - red) / (nir + red) - true)[20:-20, 20:-20]
    assert np.nanpercentile(np.abs(difference), 95) < 0.02, "an index of ratios is right without the factor"

    panels = make(tmp_path / "panel", panel=0.5)
    roles = [one.rpartition("_")[2].partition(".")[0] for one in (path.name for path in panels)]
    names = {"G": "green", "GRE": "green", "R": "red", "RED": "red", "NIR": "nir"}
    uris = {names[letters]: f"file://{path}" for letters, path in zip(roles, panels, strict=True)}
    known = read(rule, paths, panel=Panel(uris=uris, reflectance=0.5, area=(100, 100, 60, 60)))
    assert (known["calibrated"], known["calibrated_by"]) == (True, "panel")
    for role in known["bands"].roles:
        assert relative_error(known["bands"], role) < 0.02, role


def test_of_a_panel_that_a_micasense_found_itself_place_and_reflectance_are_in_its_header(tmp_path: Path) -> None:
    paths = drawn.micasense(tmp_path / "field", sun=False)
    seen = {"Camera:ReflectArea": "100,100,160,100,160,150,100,150"}
    area = np.s_[100:150, 100:160]
    uris = {}
    for camera, path in zip(drawn.RIG[1:3], drawn.micasense(tmp_path / "panel", sun=False)[1:3], strict=True):
        albedo = float(drawn.seen_by(camera, drawn.GREEN)[area].mean())  # what lies there is the panel
        drawn.retag(path, seen | {"Camera:Albedo": str(albedo)})
        uris[camera.role] = f"file://{path}"
    found = read("micasense", paths, bands=("green", "red"), panel=Panel(uris=uris))
    assert (found["calibrated"], found["calibrated_by"]) == (True, "panel")
    for role in ("green", "red"):
        assert relative_error(found["bands"], role) < 0.02, role
    drawn.retag(tmp_path / "panel" / "IMG_0000_2.tif", {"Camera:Albedo": "0"})
    with pytest.raises(ConfigurationError, match="how much the panel reflects"):
        read("micasense", paths, bands=("green", "red"), panel=Panel(uris=uris))


def test_without_a_sun_sensor_samples_stay_digital_numbers_and_it_says_why(tmp_path: Path) -> None:
    found = read("micasense", drawn.micasense(tmp_path, sun=False), align="model")
    assert (found["calibrated"], found["calibrated_by"]) == (False, "none")
    assert "no irradiance of a sun sensor" in found["calibration_note"]
    assert found["bands"].values.dtype == np.uint16
    assert not found["bands"].calibrated


def test_a_band_that_fits_nowhere_is_a_reject_or_is_flagged(tmp_path: Path) -> None:
    paths = drawn.micasense(tmp_path, rig=False)
    noise = np.random.default_rng(0).integers(5000, 30000, (drawn.HEIGHT, drawn.WIDTH))
    drawn.write(paths[3], cv2.blur(noise.astype(np.float32), (5, 5)), {"Camera:BandName": "NIR"}, {})
    with pytest.raises(Reject, match=r"nir: .*; `misaligned: flag` keeps it"):
        read("micasense", paths, bands=("green", "nir"))
    found = read("micasense", paths, bands=("green", "nir"), misaligned="flag")
    assert found["capture_note"].startswith("nir: ")
    assert found["calibration_note"].startswith("nir: "), "one band without tags, and none is reflectance"


def test_a_missing_band_and_a_broken_file_are_told_by_name(tmp_path: Path) -> None:
    paths = drawn.micasense(tmp_path)
    with pytest.raises(Reject, match="lacks the band nir; it has blue, green"):
        read("micasense", paths[:3], bands=("red", "nir"))
    paths[2].write_bytes(paths[2].read_bytes()[:5000])
    [row] = through([capture_of("micasense", paths)], step(ReadCapture()))
    assert (row["status"], row["reject_reason"]) == ("rejected", "truncated")
    assert "IMG_0000_3.tif (red)" in row["reject_message"]
    paths[2].unlink()
    [row] = through([{**capture_of("micasense", paths[:2]), "assets": [{"role": "red", "uri": f"file://{paths[2]}"}]}],
                    step(ReadCapture()))  # fmt: skip
    assert row["reject_reason"] == "not_found"


def test_chosen_bands_come_in_the_order_of_the_configuration(tmp_path: Path) -> None:
    operator = ReadCapture(bands=("nir", "red"))
    assert operator.gives_bands() == ("nir", "red")
    found = operator.process(capture_of("micasense", drawn.micasense(tmp_path)), {})
    assert found["bands"].roles == ("nir", "red")
    with pytest.raises(ConfigurationError, match="reference 'green' is none of the bands nir, red"):
        ReadCapture(bands=("nir", "red"), reference="green").check()


def test_the_pipeline_captures_gives_the_ndvi_of_the_scene(tmp_path: Path) -> None:
    paths = drawn.micasense(tmp_path)
    row = capture_of("micasense", paths) | {"bytes": paths[0].read_bytes()}
    [found] = through([row], *bind(load("captures")).steps)
    assert found["status"] == "ok", found["reject_message"]
    red, nir = drawn.expected("red"), drawn.expected("nir")
    ndvi = next(index for index in found["indices"] if index["name"] == "ndvi")
    assert ndvi["calibrated"]
    assert ndvi["mean"] == pytest.approx(float(((nir - red) / (nir + red)).mean()), abs=0.01)


def test_an_object_of_one_colour_picture_is_read_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(drawn.jpeg())
    found = read("micasense", [tmp_path / "a.jpg"])
    assert found["bands"].roles == ("red", "green", "blue")
    assert not found["calibrated"]
    values: npt.NDArray[Any] = found["bands"].values
    assert np.array_equal(np.moveaxis(values, 0, -1), found["pixels"])
