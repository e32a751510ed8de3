"""One raster file read by ranges through GDAL: its header, and windows of its bands, nothing of it trusted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Reject
from swath.operators.core.ground import Georef
from swath.operators.image.formats import HEAD_BYTES, sniff
from swath.operators.survey.band_roles import ALPHA
from swath.operators.survey.gdal import complaints, environment, errors, opened, size_of, tells_of_damage
from swath.operators.survey.raster_georef import georef_of
from swath.operators.survey.raster_roles import roles_of
from swath.operators.survey.satellite import scale_of
from swath.schemas.items import Reason

DRIVERS = {"tiff": "GTiff", "jp2": "JP2OpenJPEG"}
"""Formats that are rasters, and what reads them. No other driver of GDAL ever sees a file: some of them (VRT) read
other files that theirs names."""
EXTENSIONS = frozenset({"tif", "tiff", "jp2", "j2k", "jpx"})


class Window(NamedTuple):
    """Part of a raster, in pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass
class RasterFile:
    """An open raster; keep few of them."""

    file: Any
    """Seekable and binary; closed with it."""
    uri: str

    def __post_init__(self) -> None:
        head = self.file.read(HEAD_BYTES)
        if not head:
            raise Reject(Reason.EMPTY, f"{self.name} has no bytes")
        kind = sniff(head)
        if kind not in DRIVERS:
            reason = Reason.UNSUPPORTED if kind else Reason.NOT_AN_IMAGE
            raise Reject(reason, f"{self.name} is no GeoTIFF or JPEG 2000 file" + (f", it is a {kind}" if kind else ""))
        self._driver = DRIVERS[kind]
        self._failures: list[Exception] = []
        self._looked_up: tuple[Window | None, dict[tuple[int, int], int]] = None, {}
        self._stack = ExitStack()
        try:
            with self._reading("the header"):
                self.dataset: Any = self._stack.enter_context(opened(self.file, self._driver, self._failures))
                self._check()
        except BaseException:
            self._stack.close()
            raise

    @property
    def name(self) -> str:
        """Of the file, for messages."""
        return self.uri.rpartition("/")[2]

    def close(self) -> None:
        self._stack.close()
        self.file.close()

    def _check(self) -> None:
        if any(name.startswith("complex") for name in self.dataset.dtypes):
            raise Reject(Reason.UNSUPPORTED, f"{self.name} has complex samples ({self.dataset.dtypes[0]})")
        height, width = self.dataset.block_shapes[0]
        size = height * width * self.dataset.count * np.dtype(self.dataset.dtypes[0]).itemsize
        if size > MAX_BLOCK_BYTES:
            raise Reject(
                Reason.TOO_LARGE,
                f"{self.name} has {self.width} x {self.height} pixels in blocks of {width} x {height}, {size:,} bytes "
                f"each, at most {MAX_BLOCK_BYTES:,} are allowed; write it with tiles (gdal_translate -of COG)",
            )

    @property
    def width(self) -> int:
        return int(self.dataset.width)

    @property
    def height(self) -> int:
        return int(self.dataset.height)

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """Of all bands, alpha included."""
        with self._reading("its bands' names"):
            return roles_of(self.dataset)

    @cached_property
    def bands(self) -> tuple[int, ...]:
        """Numbers from 1 of the bands with samples, alpha left out."""
        return tuple(number for number, role in enumerate(self.roles, 1) if role != ALPHA)

    @cached_property
    def georef(self) -> Georef | None:
        """None where the file has no coordinates; see `georef_note`."""
        return self._georef[0]

    @cached_property
    def georef_note(self) -> str | None:
        """What is not as it should be about the georeference."""
        return self._georef[1]

    @cached_property
    def _georef(self) -> tuple[Georef | None, str | None]:
        with self._reading("the georeference"):
            return georef_of(self.dataset)

    def is_empty(self, window: Window) -> bool:
        """Whether the file says that it holds nothing of a window; without reading any of it. Raises Reject
        (truncated) where blocks of it lie beyond the end of the file."""
        blocks = self._blocks(window)
        return bool(blocks) and not any(blocks.values())

    def read(self, bands: Sequence[int], window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """(C, H, W) samples and (H, W) validity; what lies in blocks that were never written is not valid. Raises
        Reject naming the block that cannot be read."""
        blocks = self._blocks(window)
        with self._reading(f"window {tuple(window)}", window):
            values, valid = self._masked(bands, window=_rio(window))
        height, width = self.dataset.block_shapes[0]
        for column, row in [place for place, size in blocks.items() if not size]:
            left, top = column * width - window.x, row * height - window.y
            valid[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = False
        return values, valid

    def _masked(self, bands: Sequence[int], **part: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Samples, and False where a mask or alpha says so, and where every band is nodata or NaN."""
        from rasterio.enums import MaskFlags

        flags = self.dataset.mask_flag_enums[bands[0] - 1]
        alpha = [self.roles.index(ALPHA) + 1] if MaskFlags.alpha in flags and ALPHA in self.roles else []
        # Alpha lies in the same blocks as the colours: asked for by itself they would be fetched once more.
        values = self.dataset.read([*bands, *alpha], **_shaped(part, len(bands) + len(alpha)))
        values, above = values[: len(bands)], values[len(bands) :]
        if alpha:
            valid = above[0] > 0
        elif MaskFlags.per_dataset in flags:
            valid = self.dataset.read_masks(bands[0], **part) > 0
        elif (numbers := self._nodata(bands, values.dtype)) is not None:
            valid = np.zeros(values.shape[1:], bool)
            for plane, number in zip(values, numbers, strict=True):
                valid |= plane != number
        else:
            valid = np.ones(values.shape[1:], bool)
        if values.dtype.kind == "f":
            valid &= ~np.isnan(values).all(axis=0)
        return values, np.asarray(valid)

    def _nodata(self, bands: Sequence[int], dtype: np.dtype[Any]) -> list[Any] | None:
        """The sample of each band that stands for no data; None where not all have one."""
        known = [self.dataset.nodatavals[number - 1] for number in bands]
        if all(nodata is None for nodata in known):
            known = [self.nodata_of_product] * len(bands)
        return None if None in known else [_as(dtype, nodata) for nodata in known]

    @cached_property
    def nodata_of_product(self) -> int | None:
        """What stands for no data in files of a known satellite product that do not say so themselves."""
        known = scale_of(self.uri)
        return known.nodata if known else None

    def read_through(
        self, warped: Any, bands: Sequence[int], window: Window
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """The same on another grid, that of a WarpedVRT over this file."""
        with self._reading(f"the part below window {tuple(window)}"):
            values = warped.read(list(bands), window=_rio(window))
            valid = warped.dataset_mask(window=_rio(window)) > 0
            if values.dtype.kind == "f":
                valid &= ~np.isnan(values).all(axis=0)
        return values, valid

    def sample(self, bands: Sequence[int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Samples (C, N) from all over the raster, the same whichever window is read, and (N,) their validity: of the
        coarsest overview, of a raster that is small, or of nine blocks of one that is large and has no overviews."""
        factors = self.dataset.overviews(1)
        size = (self.height // factors[-1], self.width // factors[-1]) if factors else (self.height, self.width)
        if math.prod(size) <= SAMPLED_WHOLE:
            shape = (max(1, min(size[0], SAMPLE_SIDE)), max(1, min(size[1], SAMPLE_SIDE)))
            with self._reading("an overview"):
                values, valid = self._masked(bands, out_shape=shape)
            return values.reshape(len(bands), -1), valid.ravel()
        side = min(256, self.width, self.height)
        places = [
            Window((self.width - side) * i // 2, (self.height - side) * j // 2, side, side)
            for j in range(3)
            for i in range(3)
        ]
        read = [self.read(bands, place) for place in places]
        return (
            np.concatenate([values.reshape(len(bands), -1) for values, _ in read], axis=1),
            np.concatenate([valid.ravel() for _, valid in read]),
        )

    def _blocks(self, window: Window) -> dict[tuple[int, int], int]:
        """Column and row of each block that a window touches, and how many bytes it has in the file; none where the
        format does not tell. Raises Reject (truncated) where one lies beyond the end of the file."""
        if self.dataset.driver != "GTiff":
            return {}
        if self._looked_up[0] == window:
            return self._looked_up[1]
        height, width = self.dataset.block_shapes[0]
        separate = self.dataset.interleaving is not None and self.dataset.interleaving.name == "band"
        found: dict[tuple[int, int], int] = {}
        for band in self.bands if separate else (1,):
            for row in range(window.y // height, (window.y + window.height - 1) // height + 1):
                for column in range(window.x // width, (window.x + window.width - 1) // width + 1):
                    place = f"{column}_{row}"
                    size = int(self.dataset.get_tag_item(f"BLOCK_SIZE_{place}", "TIFF", bidx=band) or 0)
                    offset = int(self.dataset.get_tag_item(f"BLOCK_OFFSET_{place}", "TIFF", bidx=band) or 0)
                    found[column, row] = found.get((column, row), 0) + size
                    if not size:
                        self._check_unwritten(band, column * width, row * height)
                    if size and offset + size > self.size:
                        raise Reject(
                            Reason.TRUNCATED,
                            f"{self.name} ends at byte {self.size}, before block ({column}, {row}) of band {band} does",
                        )
        self._looked_up = window, found
        return found

    def _check_unwritten(self, band: int, left: int, top: int) -> None:
        """Raises Reject (corrupt) where nobody knows whether a block was written, because the list of them is cut off;
        of one that was not, a pixel costs nothing."""
        with self._reading(f"the place of the block at pixel ({left}, {top})"):
            self.dataset.read(band, window=_rio(Window(left, top, 1, 1)))

    @cached_property
    def size(self) -> int:
        """Bytes of the file."""
        return size_of(self.file)

    @contextmanager
    def _reading(self, what: str, window: Window | None = None) -> Iterator[None]:
        """GDAL's errors as a Reject; what the file raised, which GDAL would swallow, as it is."""
        problem = None
        try:
            with complaints() as texts, environment():
                yield
            problem = next(filter(tells_of_damage, texts), None)
        except errors() as error:
            problem = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        if self._failures:
            failure = self._failures[0]
            self._failures.clear()
            if isinstance(failure, FileNotFoundError | PermissionError):
                raise Reject(Reason.NOT_FOUND, f"{type(failure).__name__}: {failure}") from failure
            if isinstance(failure, EOFError):
                raise Reject(Reason.TRUNCATED, f"{self.name} ends before {what} does")
            raise failure
        if problem:
            where = self._broken(window) if window else ""
            raise Reject(Reason.CORRUPT, f"{what} of {self.name} cannot be read{where}: {problem[:300]}")

    def _broken(self, window: Window) -> str:
        """Which block of a window it is that cannot be read; by a dataset of its own, which has no block in memory."""
        height, width = self.dataset.block_shapes[0]
        with suppress(*errors()), opened(self.file, self._driver, self._failures) as dataset:
            for row in range(window.y // height, (window.y + window.height - 1) // height + 1):
                for column in range(window.x // width, (window.x + window.width - 1) // width + 1):
                    left, top = column * width, row * height
                    block = Window(left, top, min(width, self.width - left), min(height, self.height - top))
                    if _is_broken(dataset, block):
                        return f" (block ({column}, {row}) at pixel ({left}, {top}))"
        return ""


SAMPLED_WHOLE = 2048 * 2048
"""Pixels of what is read as a whole for a sample."""
SAMPLE_SIDE = 512
MAX_BLOCK_BYTES = 512 << 20
"""Of a block of all bands, decoded: a small file may claim any."""


def _is_broken(dataset: Any, block: Window) -> bool:
    try:
        with complaints() as texts, environment():
            dataset.read(window=_rio(block))
    except errors():
        return True
    return any(map(tells_of_damage, texts))


def _rio(window: Window) -> Any:
    from rasterio.windows import Window as RioWindow

    return RioWindow(*window)


def _shaped(part: dict[str, Any], bands: int) -> dict[str, Any]:
    """A part to read, with the number of bands in its shape."""
    return part | {"out_shape": (bands, *part["out_shape"])} if "out_shape" in part else part


def _as(dtype: np.dtype[Any], nodata: float | None) -> Any:
    """A nodata value as samples have it; NaN where it is none, or cannot be one of them."""
    if nodata is None or (dtype.kind in "iu" and not (np.isfinite(nodata) and float(nodata).is_integer())):
        return np.nan
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max:
        return np.nan
    return dtype.type(nodata)
