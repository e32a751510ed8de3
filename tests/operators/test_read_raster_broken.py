"""Damaged and hostile rasters, and stores that go away, through `read_raster`."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import tifffile
from tests.operators.drawn_rasters import bomb, field, item, place_of_block, read, tiled, write

from swath.infra import storage
from swath.operators.core.base import Reject
from swath.operators.survey.raster import ReadRaster
from swath.schemas.errors import StorageUnavailable
from swath.schemas.items import Reason


@pytest.mark.parametrize("compress", ["deflate", "lzw", "jpeg"])
def test_only_windows_that_touch_a_corrupt_block_are_rejected(tmp_path: Path, compress: str) -> None:
    path = tiled(tmp_path / "a.tif", field(), compress=compress)
    offset, size = place_of_block(path, 2, 1)
    content = bytearray(path.read_bytes())
    content[offset + size // 4 : offset + size - 2] = bytes(0x9D for _ in range(size // 4, size - 2))
    path.write_bytes(content)
    for x, y in [(0, 0), (64, 64), (192, 64), (128, 128)]:
        assert read(path, (x, y, 64, 64))["valid_fraction"] == 1
    for window in [(128, 64, 64, 64), (100, 50, 64, 64)]:
        with pytest.raises(Reject, match=r"block \(2, 1\) at pixel \(128, 64\)") as raised:
            read(path, window)
        assert raised.value.reason == Reason.CORRUPT


def test_of_a_truncated_cog_the_windows_before_its_end_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", field(), driver="COG", compress="deflate", blocksize=64 * 2, overviews="NONE")
    offset, size = place_of_block(path, 1, 1)
    path.write_bytes(path.read_bytes()[: offset + size // 2])
    assert read(path, (0, 0, 320, 100))["valid_fraction"] == 1
    with pytest.raises(Reject, match=rf"a.tif ends at byte {offset + size // 2}, before block \(1, 1\)") as raised:
        read(path, (100, 100, 100, 100))
    assert raised.value.reason == Reason.TRUNCATED


def test_blocks_whose_places_are_cut_off_are_not_taken_for_ones_that_were_never_written(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tif", field(1024, 1024), driver="COG", compress="deflate", blocksize=64 * 2, overviews="NONE"
    )
    with tifffile.TiffFile(path) as file:
        places = file.pages[0].tags["TileByteCounts"].valueoffset
    path.write_bytes(path.read_bytes()[: places + 8])
    with pytest.raises(Reject, match=r"a.tif ends before the place of the block at pixel \(512, 512\)") as raised:
        read(path, (512, 512, 256, 256))
    assert raised.value.reason == Reason.TRUNCATED


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"hello, I am a text", Reason.NOT_AN_IMAGE),
        (b"<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>", Reason.NOT_AN_IMAGE),
        (b"\xff\xd8\xff\xe0" + bytes(100), Reason.UNSUPPORTED),
        (b"II*\0\x08\0\0\0\xff\xff" + b"\x01" * 100, Reason.CORRUPT),
        (b"II*\0\xf0\0\0\0", Reason.CORRUPT),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200), Reason.CORRUPT),
    ],
    ids=["empty", "text", "vrt", "jpeg", "wild tags", "no directory", "jpeg2000"],
)
def test_what_is_no_raster_says_why(tmp_path: Path, content: bytes, reason: Reason) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(Reject) as raised:
        read(path)
    assert raised.value.reason == reason


def test_a_header_that_claims_too_much_is_rejected_unread(tmp_path: Path) -> None:
    with pytest.raises(Reject, match="1000000 x 1000000 pixels") as raised:
        read(bomb(tmp_path / "a.tif"))
    assert raised.value.reason == Reason.TOO_LARGE


def test_a_file_that_has_gone_is_not_found(tmp_path: Path) -> None:
    path = tiled(tmp_path / "a.tif", field())
    row = item(path, (0, 0, 64, 64))
    path.unlink()
    with pytest.raises(Reject) as raised:
        ReadRaster().process(row, None)
    assert raised.value.reason == Reason.NOT_FOUND


class Failing(storage.RangedFile):
    """A file whose store goes away after its header was read."""

    broken = False

    def _fetched(self, asked: list[tuple[int, int]]) -> list[bytes]:
        if not self.broken:
            return super()._fetched(asked)
        raise StorageUnavailable("the store is gone")


def test_a_store_that_goes_away_is_no_fault_of_the_item(tmp_path: Path) -> None:
    path = tiled(tmp_path / "a.tif", field(2000, 2000))
    row = item(path, (512, 512, 64, 64)) | {"open": Failing}
    assert ReadRaster().process(row, None)["valid_fraction"] == 1
    Failing.broken = True
    row["window"]["x"] = 1024
    with pytest.raises(StorageUnavailable, match="the store is gone"):
        ReadRaster().process(row, None)
    Failing.broken = False
    assert ReadRaster().process(row, None)["valid_fraction"] == 1


def test_any_seekable_file_can_be_read(tmp_path: Path) -> None:
    content = tiled(tmp_path / "a.tif", field()).read_bytes()
    row = item(tmp_path / "a.tif", (64, 64, 64, 64)) | {"open": lambda uri: io.BytesIO(content)}
    assert ReadRaster().process(row, None)["valid_fraction"] == 1
