"""The demo's input is deterministic, left alone when right, and is what its truth says."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
import rasterio
import simplejpeg
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from swath.flows.demo.draw import draw, draw_photos
from swath.flows.demo.files import broken, encode
from swath.flows.demo.photos import SCENES, draw_photo
from swath.operators.core.base import Reject
from swath.operators.image.codec import Decode
from swath.schemas.items import Reason


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, draw(folder)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _items(path: Path) -> int:
    match path.suffix:
        case ".pdf":
            return len(pypdfium2.PdfDocument(path))
        case ".tif":
            with rasterio.open(path) as raster:
                return math.ceil(raster.width / 1024) * math.ceil(raster.height / 1024)
    return 1


def test_truth_counts_every_file_and_its_pages(drawn: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = drawn
    assert json.loads((folder / "truth.json").read_text()) == truth
    for name in ("survey", "documents", "photos", "rasters"):
        files = _files(folder / name)
        assert truth[name]["files"] == len(files)
        assert sum(truth[name]["reasons"].values()) == len(truth[name]["rejects"])
        rejects = {folder / name / path for path in truth[name]["rejects"]}
        pages = [_items(path) for path in set(files) - rejects]
        assert truth[name]["items"] == sum(pages) + len(rejects)


def test_no_partition_has_so_many_broken_files_that_the_error_budget_is_judged(
    drawn: tuple[Path, dict[str, Any]],
) -> None:
    _, truth = drawn
    for name in ("survey", "documents", "photos"):
        per_partition = Counter(str(Path(path).parent) for path in truth[name]["rejects"])
        assert 1 <= max(per_partition.values()) <= 4


def test_what_must_be_rejected_cannot_be_read_and_everything_else_can(drawn: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = drawn
    for name in ("survey", "documents", "photos"):
        for path in _files(folder / name):
            good = path.relative_to(folder / name).as_posix() not in truth[name]["rejects"]
            assert _readable(path) is good, path


def _readable(path: Path) -> bool:
    """By a strict reader of the kind of file."""
    try:
        if path.suffix == ".pdf":
            return len(pypdfium2.PdfDocument(path)) > 0
        content = path.read_bytes()
        if content.startswith(b"\xff\xd8"):
            with Image.open(path) as image:
                colorspace = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}[image.mode]
            simplejpeg.decode_jpeg(content, colorspace, strict=True)
        else:
            with Image.open(path) as image:
                image.load()
        return True
    except (OSError, ValueError, pypdfium2.PdfiumError, Image.DecompressionBombError):
        return False


def test_decoding_gives_each_broken_file_the_reason_of_the_truth(drawn: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = drawn
    decode = Decode()
    model = decode.load()
    for name in ("survey", "documents", "photos"):
        for path, reason in truth[name]["rejects"].items():
            item = {"bytes": (folder / name / path).read_bytes(), "page": None}
            with pytest.raises(Reject) as caught:
                decode.process(item, model)
            assert caught.value.reason == reason, path


def test_positions_times_and_altitudes_in_exif_are_those_of_the_truth(drawn: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = drawn
    assert len(truth["survey"]["photos"]) == 32
    for path, said in truth["survey"]["photos"].items():
        exif = Image.open(folder / "survey" / path).getexif()
        gps, camera = exif.get_ifd(IFD.GPSInfo), exif.get_ifd(IFD.Exif)
        assert _degrees(gps[GPS.GPSLatitude]) == pytest.approx(said["latitude"], abs=1e-9)
        assert _degrees(gps[GPS.GPSLongitude]) == pytest.approx(said["longitude"], abs=1e-9)
        assert float(gps[GPS.GPSAltitude]) == pytest.approx(said["altitude_m"])
        written = f"{camera[Base.DateTimeOriginal]}{camera[Base.OffsetTimeOriginal]}"
        assert datetime.strptime(written, "%Y:%m:%d %H:%M:%S%z") == datetime.fromisoformat(said["captured_at"])


def _degrees(dms: tuple[float, float, float]) -> float:
    return float(dms[0]) + float(dms[1]) / 60 + float(dms[2]) / 3600


def test_neighbouring_photos_of_a_flight_overlap_as_their_positions_say(drawn: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = drawn
    flight = "site=south/dt=2025-06-17"
    first, second = (f"{flight}/IMG_000{number}.jpg" for number in (1, 2))
    north = truth["survey"]["photos"][second]["latitude"] - truth["survey"]["photos"][first]["latitude"]
    shift = round(north * 111_195 / truth["survey"]["photos"][first]["gsd_m"])
    before, after = (np.asarray(Image.open(folder / "survey" / path).convert("L"), float) for path in (first, second))
    assert shift == 360
    middle = np.s_[300:600, 400:1200]
    same_ground = np.corrcoef(before[:-shift][middle].ravel(), after[shift:][middle].ravel())[0, 1]
    other_ground = np.corrcoef(before[:-shift][middle].ravel(), after[:-shift][middle].ravel())[0, 1]
    assert same_ground > 0.95 > 0.5 > other_ground


def test_plants_are_green_where_the_truth_says_cover(drawn: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = drawn
    for path, said in list(truth["survey"]["photos"].items())[::5]:
        red, green, blue = np.moveaxis(np.asarray(Image.open(folder / "survey" / path), float), -1, 0)
        assert np.mean(2 * green - red - blue > 45) == pytest.approx(said["cover"], abs=0.05)


def test_totals_of_documents_add_up_and_stand_in_the_text_layer(drawn: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = drawn
    for said in truth["documents"]["documents"].values():
        assert sum(Decimal(line["amount"]) for line in said["lines"]) == Decimal(said["net"])
        assert Decimal(said["net"]) + Decimal(said["tax"]) == Decimal(said["total"])
    pages = pypdfium2.PdfDocument(folder / "documents" / "invoice_text.pdf")
    text = "".join(page.get_textpage().get_text_range() for page in pages)
    said = truth["documents"]["documents"]["invoice_text.pdf"]
    assert len(pages) == 2
    assert all(part in text for part in (said["vendor"], said["number"], said["total"]))


def test_photos_come_in_every_kind_that_decoding_must_turn_to_rgb(drawn: tuple[Path, dict[str, Any]]) -> None:
    folder = drawn[0] / "photos"
    kinds = {}
    for path in _files(folder):
        if not path.name.startswith("broken"):
            with Image.open(path) as image:
                kinds[path.name] = (image.format, image.mode, image.getexif().get(Base.Orientation))
    assert {kind[0] for kind in kinds.values()} == {"JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"}
    assert {kind[1] for kind in kinds.values()} >= {"RGB", "L", "CMYK", "P", "RGBA"}
    assert kinds["orientation_6.jpg"][2] == 6


def test_drawing_again_touches_nothing_and_repairs_only_what_was_changed(drawn: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = drawn
    stamps = {path: path.stat().st_mtime_ns for path in _files(folder)}
    assert draw(folder) == truth
    assert {path: path.stat().st_mtime_ns for path in _files(folder)} == stamps

    victim = folder / "photos" / "town_1.jpg"
    content = victim.read_bytes()
    victim.write_bytes(content[:-1])
    assert draw(folder) == truth
    assert victim.read_bytes() == content
    assert {path for path in _files(folder) if path.stat().st_mtime_ns != stamps[path]} == {victim}


def test_bench_photos_are_distinct_weigh_as_photos_do_and_begin_alike(tmp_path: Path) -> None:
    few, many = draw_photos(tmp_path / "few", 20), draw_photos(tmp_path / "many", 40)
    contents = [path.read_bytes() for path in many]
    assert [path.read_bytes() for path in few] == contents[:20]
    assert len(set(contents)) == 40
    assert 15_000 < np.median([len(content) for content in contents]) < 60_000
    assert Image.open(io.BytesIO(contents[0])).size == (500, 375)


@pytest.mark.parametrize("kind", SCENES)
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (64, 48)])
def test_every_scene_can_be_drawn_at_any_size(kind: str, size: tuple[int, int]) -> None:
    pixels = draw_photo(np.random.default_rng(1), size, kind)
    assert pixels.shape == (size[1], size[0], 3)
    assert pixels.dtype == np.uint8


def test_a_reason_that_no_content_can_cause_is_refused() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(KeyError):
        broken(Reason.TIMED_OUT, rng, encode(draw_photo(rng, (64, 48))))
