"""Rasters as items: cut by their headers alone, read by ranges, their windows spread over workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rasterio import Affine
from tests.conftest import Buckets
from tests.faults.proxy import Proxy
from tests.flows.living import House
from tests.operators.drawn_rasters import bomb, field, place_of_block, read, tiled, write

from swath.flows.pipelines.bands import check_found
from swath.flows.pipelines.binding import READABLE, bind
from swath.flows.run.blocks import BLOCK_WINDOWS, blocks
from swath.flows.source.manifest import ManifestSummary, build_manifest
from swath.flows.source.windows import MAX_WINDOWS, Cut
from swath.flows.work.stages import fuse
from swath.infra import storage
from swath.schemas.errors import ConfigurationError
from swath.schemas.items import item_id
from swath.schemas.pipeline import Pipeline


def rasters(*steps: Any, size: float = 128, **options: Any) -> Pipeline:
    windows = {"size": size, **options.pop("windows", {})}
    steps = steps or ("read_raster",)
    return Pipeline.model_validate({"name": "toy", "source": {"windows": windows}, "steps": steps, **options})


def manifest(source: Path, folder: Path, work: Pipeline, **options: Any) -> tuple[ManifestSummary, list[Any]]:
    summary = build_manifest(str(source), work, f"file://{folder}/manifest", readable=READABLE, **options)
    return summary, [row for uri in summary.files for row in pq.read_table(storage.local_path(uri)).to_pylist()]


def places(rows: list[dict[str, Any]], name: str) -> list[tuple[int, ...] | None]:
    found = [row for row in rows if row["source_uri"].endswith(name)]
    return [tuple(row["window"].values()) if row["window"] else None for row in found]


@given(st.integers(1, 700), st.integers(1, 700), st.integers(16, 300), st.integers(0, 149))
def test_windows_cover_the_raster_and_none_lies_within_another(
    width: int, height: int, size: int, overlap: int
) -> None:
    overlap = min(overlap, (size - 1) // 2)
    cut = Cut(width, height, size, overlap)
    found = list(cut.windows())
    covered = np.zeros((height, width), int)
    for x, y, w, h in found:
        assert w == min(size, width - x)
        assert h == min(size, height - y)
        assert x % (size - overlap) == y % (size - overlap) == 0
        covered[y : y + h, x : x + w] += 1
    assert covered.min() == 1
    assert len(found) == len({(x + w, y + h) for x, y, w, h in found}) == cut.count
    assert overlap or covered.max() == 1


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"size": 0}, "greater than 0"),
        ({"size": 8}, "16 to 16384 pixels"),
        ({"size": 100.5}, "whole sizes"),
        ({"size": 256, "overlap": 128}, "give less than half"),
        ({"size": 256, "unit": "feet"}, "'pixels' or 'metres'"),
    ],
)
def test_windows_that_make_no_sense_are_refused(windows: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rasters(windows=windows)


def test_rasters_are_cut_by_their_headers_whatever_their_size(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    tiled(source / "a.tif", field(300, 200))
    write(source / "b.jp2", field(128, 128), driver="JP2OpenJPEG")
    tiled(source / "c.tif", field(64, 64))
    bomb(source / "d.tif")
    (source / "e.tif").write_bytes(b"no raster")
    (source / "f.jpg").write_bytes(b"a photo")
    summary, rows = manifest(source, tmp_path, rasters(limits={"max_bytes": 10}))
    expected = [(0, 0, 128, 128), (128, 0, 128, 128), (256, 0, 44, 128)]
    expected += [(0, 128, 128, 72), (128, 128, 128, 72), (256, 128, 44, 72)]
    assert places(rows, "a.tif") == expected
    assert places(rows, "b.jp2") == [(0, 0, 128, 128)]
    assert places(rows, "c.tif") == [(0, 0, 64, 64)]
    assert places(rows, "d.tif") == places(rows, "e.tif") == [None]
    assert (summary.objects, summary.items, summary.unopened, summary.left_aside) == (5, 10, 2, {"jpg": 1})
    uri = f"file://{source}/a.tif"
    assert [row["item_id"] for row in rows[:6]] == [item_id(uri, None, place) for place in expected]
    assert {row["object_id"] for row in rows[:6]} == {rows[0]["object_id"]}
    assert summary.bands[0] == (uri, ("red", "green", "blue"))


def test_windows_in_metres_follow_each_rasters_resolution(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    tiled(source / "fine.tif", field(300, 200))
    tiled(source / "coarse.tif", field(300, 200), transform=Affine(1, 0, 380_000, 0, -1, 5_820_000))
    tiled(source / "nowhere.tif", field(300, 200), crs=None)
    summary, rows = manifest(source, tmp_path, rasters(size=100, windows={"unit": "metres", "overlap": 20}))
    assert places(rows, "fine.tif")[:2] == [(0, 0, 200, 200), (160, 0, 140, 200)]
    assert places(rows, "coarse.tif")[:2] == [(0, 0, 100, 100), (80, 0, 100, 100)]
    assert places(rows, "nowhere.tif") == [None]
    assert summary.unopened == 1


def test_a_scene_is_cut_on_the_grid_of_its_finest_band(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    tiled(source / "scene_nir.tif", field(200, 200)[:1])
    tiled(source / "scene_swir.tif", field(100, 100)[:1], transform=Affine(1, 0, 380_000, 0, -1, 5_820_000))
    (source / "scene_metadata.txt").write_text("GROUP = X")
    work = rasters().model_copy(
        update={"source": rasters().source.model_copy(update={"group": r"(?P<key>.+)_(?P<role>\w+)[.]\w+$"})}
    )
    summary, rows = manifest(source, tmp_path, work)
    assert (summary.objects, len(rows)) == (1, 4)
    assert [asset["role"] for asset in rows[0]["assets"]] == ["nir", "swir", "metadata"]
    assert places(rows, "nir.tif")[-1] == (128, 128, 72, 72)


def test_no_more_windows_than_a_raster_can_have() -> None:
    from swath.flows.source.windows import cut_of

    side = int(MAX_WINDOWS**0.5) * 16
    assert cut_of([side, side, 16, 0, ["red"]]) is not None
    assert cut_of([side * 2, side, 16, 0, ["red"]]) is None


def test_windows_of_one_raster_go_to_several_workers_unless_a_step_wants_them_together(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    tiled(source, field(1600, 1600))
    _, rows = manifest(source, tmp_path, rasters(size=64))
    table = pa.Table.from_pylist(rows, schema=pq.read_schema(tmp_path / "manifest/part-00000.parquet"))
    pq.write_table(table.append_column("part", pa.array([0] * len(table), pa.int32())), tmp_path / "pending.parquet")

    def cut(whole: bool) -> list[int]:
        into = f"file://{tmp_path}/{whole}"
        found = blocks(f"file://{tmp_path}/pending.parquet", 0, into, 1, whole=whole)
        return [pq.read_metadata(storage.local_path(uri)).num_rows for uri in found]

    assert cut(whole=True) == [625]
    assert sum(cut(whole=False)) == 625
    assert max(cut(whole=False)) == BLOCK_WINDOWS


def test_objects_whose_bytes_nobody_reads_are_not_fetched() -> None:
    by_ranges = fuse(bind(rasters()).steps)[0]
    assert (by_ranges.fetches, by_ranges.opens) == (False, True)
    whole = fuse(bind(Pipeline.model_validate({"name": "toy", "steps": ["decode"]})).steps)[0]
    assert (whole.fetches, whole.opens) == (True, False)


def test_a_band_that_is_not_there_is_told_of_before_the_run(tmp_path: Path) -> None:
    ndvi = {"index": {"indices": ["ndvi"]}}
    with pytest.raises(ConfigurationError, match=r"'index' needs the band nir, which `bands` of 'read_raster'"):
        bind(rasters({"read_raster": {"bands": ["red", "green", "blue"]}}, ndvi))
    steps = bind(rasters("read_raster", ndvi)).steps
    colours = ("s3://a/a.tif", ("red", "green", "blue"))
    with pytest.raises(ConfigurationError, match=r"no raster says that it has it: s3://a/a.tif has red, green, blue"):
        check_found(steps, [colours])
    check_found(steps, [colours, ("s3://a/b.tif", ("red", "nir"))])
    check_found(bind(rasters({"read_raster": {"bands": ["red", "nir"]}}, ndvi)).steps, [colours])
    source = tmp_path / "a.tif"
    tiled(source, field(), photometric="RGB")
    house = House(f"file://{tmp_path}/lake", f"file://{source}", None)
    with pytest.raises(ConfigurationError, match="needs the band nir"):
        house.run(rasters("read_raster", ndvi))
    assert not house.rows()


def test_a_run_reads_of_a_raster_on_s3_what_its_windows_hold(
    tmp_path: Path, s3: Buckets, monkeypatch: pytest.MonkeyPatch, audit_socket: Path
) -> None:
    values = np.concatenate([field(), field()[:1]])
    values[:, :128, :128] = 0
    noise = np.random.default_rng(1).integers(1, 250, (4, 1500, 1500), np.uint8)
    source = tmp_path / "in"
    source.mkdir()
    layout = {"blockxsize": 256, "blockysize": 256}
    tiled(source / "large.tif", noise, photometric="MINISBLACK", **layout)
    holed = tiled(source / "holed.tif", values, photometric="MINISBLACK", nodata=0)
    offset, size = place_of_block(holed, 4, 3)
    content = bytearray(holed.read_bytes())
    content[offset + 10 : offset + size] = bytes(size - 10)
    holed.write_bytes(content)
    bucket = s3.bucket()
    for path in source.iterdir():
        storage.write(f"{bucket}/{path.name}", path.read_bytes())
    bands = {"bands": ["red", "green", "blue", "nir"]}
    work = rasters({"read_raster": bands}, {"index": {"indices": ["ndvi"]}}, size=256, max_rejects=1)
    with Counted(s3.server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        record = House(f"file://{tmp_path}/remote", bucket, audit_socket).run(work)
    assert (record.ok, record.rejected, record.reasons) == (36 + 1, 1, {"corrupt": 1})
    assert proxy.received < 1.2 * sum(path.stat().st_size for path in source.iterdir())
    there = House(f"file://{tmp_path}/remote", bucket, audit_socket)
    for row in there.rows('"window", status, skipped, valid_fraction, indices, reject_message'):
        window = tuple(row["window"].values())
        if row["status"] == "rejected":
            assert (row["file"], window) == ("holed.tif", (256, 0, 64, 240))
            assert "block (4, 3)" in row["reject_message"]
            continue
        expected = read(source / row["file"], window, **bands)["bands"]
        assert row["valid_fraction"] == pytest.approx(expected.valid.mean())
        red, nir = expected.of("red"), expected.of("nir")
        assert row["indices"][0]["mean"] == pytest.approx(np.nanmean((nir - red) / (nir + red)), abs=1e-4)


class Counted(Proxy):
    """Counts the bytes that the server answers."""

    received = 0

    def _pump(self, source: Any, sink: Any, budget: list[int]) -> None:
        here = source.getpeername() == self._target
        before = budget[0]
        super()._pump(source, sink, budget)
        if here:
            self.received += before - budget[0]


def test_an_empty_window_stays_skipped_when_a_step_is_added(tmp_path: Path, audit_socket: Path) -> None:
    values = field(256, 128).copy()
    values[:, :, :128] = 0
    tiled(tmp_path / "a.tif", values, nodata=0, photometric="RGB")
    house = House(f"file://{tmp_path}/lake", f"file://{tmp_path}/a.tif", audit_socket)
    house.run(rasters("read_raster"))
    house.run(rasters("read_raster", "vegetation"))
    empty, full = house.rows("status, skipped, valid_fraction, vegetation_fraction", "true")
    assert (empty["status"], empty["skipped"], empty["valid_fraction"]) == ("ok", "empty", 0)
    assert empty["vegetation_fraction"] is None
    assert (full["skipped"], full["valid_fraction"]) == (None, 1)
    assert full["vegetation_fraction"] is not None


def test_the_shipped_pipeline_passes_its_own_expectations(tmp_path: Path, audit_socket: Path) -> None:
    from swath.flows.pipelines.binding import load

    tiled(tmp_path / "a.tif", field(), photometric="RGB", nodata=0)
    (tmp_path / "b.tif").write_bytes(bytes(100))
    house = House(f"file://{tmp_path}/lake", f"file://{tmp_path}", audit_socket)
    record = house.run(load("rasters").pipeline)
    assert (record.status, record.ok, record.reasons) == ("published", 1, {"not_an_image": 1})
