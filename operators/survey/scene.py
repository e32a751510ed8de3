"""The rasters of one object on one grid: a single file, or the bands of a scene that are a file each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels, Reject
from swath.operators.core.ground import Bands, Georef
from swath.operators.survey.band_roles import ALPHA, PALETTE, distinct, lacking, role_of_name
from swath.operators.survey.gdal import environment
from swath.operators.survey.raster_file import EXTENSIONS, RasterFile, Window
from swath.operators.survey.rendering import Rendering, shown_bands, span_of, span_of_statistics
from swath.operators.survey.roles import METADATA, is_spectral
from swath.operators.survey.satellite import Mtl, Scale, read_mtl, scale_of
from swath.schemas.items import Reason

Open = Callable[[str], Any]
PAN = "pan"
MOST_METADATA = 1 << 20
"""Bytes of a text beside the bands that are read."""


class Asset(NamedTuple):
    """A file of an object."""

    role: str
    uri: str


@dataclass(frozen=True)
class Recipe:
    """What says how the files of an object become bands and pixels; picklable."""

    assets: tuple[Asset, ...]
    version: str
    bands: tuple[str, ...] | None = None
    """Of one file: the roles of its bands, in their order. Of several: which of them are read. None: what they say."""
    render: tuple[float, float] | None = None


class Band(NamedTuple):
    role: str
    file: RasterFile
    number: int
    """From 1."""


@dataclass
class Scene:
    """An open object."""

    recipe: Recipe
    files: dict[str, RasterFile]
    """By the role of the asset."""
    mtl: Mtl = field(default_factory=dict)
    """Landsat's metadata, where the object has some."""
    _warped: dict[str, Any] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def grid(self) -> RasterFile:
        """The file on whose pixels the others are brought."""
        return self.files[finest({role: (file.width, file.height) for role, file in self.files.items()})]

    @property
    def width(self) -> int:
        return self.grid.width

    @property
    def height(self) -> int:
        return self.grid.height

    @property
    def georef(self) -> Georef | None:
        return self.grid.georef

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        wanted = self.recipe.bands
        if len(self.recipe.assets) == 1:
            return _of_one_file(self.grid, wanted)
        holding = {name: self.files[name] for name in _holding_bands(self.files)}
        found = [Band(role, file, number) for name, file in holding.items() for role, number in _of(name, file)]
        found = [Band(role, *band[1:]) for role, band in zip(distinct(b.role for b in found), found, strict=True)]
        if wanted is None:
            return tuple(found)
        if missing := lacking(wanted, [band.role for band in found]):
            raise Reject(
                Reason.UNSUPPORTED,
                f"there is no band {', '.join(missing)} among the files of this object, which are "
                f"{', '.join(self.files)}",
            )
        return tuple(next(band for band in found if band.role == role) for role in wanted)

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(band.role for band in self.bands)

    @cached_property
    def _by_file(self) -> list[tuple[RasterFile, list[int], list[int]]]:
        """Each file with the numbers of its bands, and their places among all."""
        grouped: dict[int, tuple[RasterFile, list[int], list[int]]] = {}
        for place, band in enumerate(self.bands):
            _, numbers, places = grouped.setdefault(id(band.file), (band.file, [], []))
            numbers.append(band.number)
            places.append(place)
        return list(grouped.values())

    def is_empty(self, window: Window) -> bool:
        """Whether the files say that a window holds nothing; see `RasterFile.is_empty`."""
        return all(file is self.grid and file.is_empty(window) for file, _, _ in self._by_file)

    def read(self, window: Window) -> Bands:
        """The bands of a window. Raises Reject."""
        if not self._within(window):
            raise Reject(
                Reason.NOT_FOUND,
                f"window {tuple(window)} is not within the raster, which has {self.width} x {self.height} pixels now",
            )
        parts = [self._read(file, numbers, window) for file, numbers, _ in self._by_file]
        valid = np.logical_and.reduce([valid for _, valid in parts]) if len(parts) > 1 else parts[0][1]
        places = [place for _, _, those in self._by_file for place in those]
        values = np.concatenate([values for values, _ in parts]) if len(parts) > 1 else parts[0][0]
        if places != sorted(places):
            values = values[np.argsort(places)]
        scales, offsets = self._scaling
        return Bands(values, valid, self.roles, scales, offsets, self._calibrated)

    def pixels(self, bands: Bands) -> Pixels:
        """The bands of a window as RGB."""
        return self.rendering.pixels(bands.values, bands.valid)

    @cached_property
    def rendering(self) -> Rendering:
        """The same for all windows of the object."""
        shown = shown_bands(self.roles)
        first = self.bands[shown[0]]
        if first.role == PALETTE and self.recipe.render is None:
            with suppress(ValueError):
                table = first.file.dataset.colormap(first.number)
                colours = np.zeros((max(table) + 1, 3), np.uint8)
                for index, colour in table.items():
                    colours[index] = colour[:3]
                return Rendering((shown[0],), colours=colours)
        if self.recipe.render is not None:
            return Rendering(shown, self.recipe.render)
        chosen = [self.bands[place] for place in shown]
        if all(band.file.dataset.dtypes[band.number - 1] == "uint8" for band in chosen):
            return Rendering(shown)
        return Rendering(shown, self._span(chosen) or (0.0, 1.0))

    def _span(self, chosen: Sequence[Band]) -> tuple[float, float] | None:
        if span := span_of_statistics([band.file.dataset.tags(band.number) for band in chosen]):
            return span
        spans = []
        for file in dict.fromkeys(id(band.file) for band in chosen):
            those = [band for band in chosen if id(band.file) == file]
            spans.append(span_of(*those[0].file.sample([band.number for band in those])))
        ends = [span for span in spans if span]
        return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None

    @cached_property
    def _scaling(self) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        """Scale and offset of each band: what its file says, else what is known of its product."""
        scales, offsets = [], []
        for band in self.bands:
            known, dataset = self._products.get(band.file.uri), band.file.dataset
            own = dataset.scales[band.number - 1], dataset.offsets[band.number - 1]
            scale, offset = (known.scale, known.offset) if known and own == (1.0, 0.0) else own
            scales.append(float(scale))
            offsets.append(float(offset))
        return (tuple(scales) if set(scales) != {1.0} else None), (tuple(offsets) if set(offsets) != {0.0} else None)

    @cached_property
    def _products(self) -> dict[str, Scale]:
        """Of the files that belong to a known product of a satellite, by URI."""
        found = {file.uri: scale_of(file.uri, self.mtl) for file in self.files.values()}
        return {uri: scale for uri, scale in found.items() if scale}

    @cached_property
    def _calibrated(self) -> bool:
        """Whether all bands are reflectance, by their units or their products; thermal ones do not count."""
        light = [band for band in self.bands if not band.role.startswith("thermal")]
        units = [(band.file.dataset.units[band.number - 1] or "").lower() for band in light]
        known = [self._products.get(band.file.uri) for band in light]
        return bool(light) and all("reflectance" in unit or scale for unit, scale in zip(units, known, strict=True))

    def _within(self, window: Window) -> bool:
        return (
            min(window.x, window.y) >= 0
            and min(window.width, window.height) >= 1
            and window.x + window.width <= self.width
            and window.y + window.height <= self.height
        )

    def _read(
        self, file: RasterFile, numbers: list[int], window: Window
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        if file is self.grid or self._same_grid(file):
            return file.read(numbers, window)
        return file.read_through(self._on_grid(file), numbers, window)

    def _same_grid(self, file: RasterFile) -> bool:
        if (file.width, file.height) != (self.width, self.height):
            return False
        ours, theirs = self.georef, file.georef
        if ours is None or theirs is None:
            return True
        corners = [(0, 0), (self.width, 0), (0, self.height)]
        apart = np.abs(ours.to_crs(corners) - theirs.to_crs(corners)).max()
        return ours.crs == theirs.crs and bool(apart < 0.01 * abs(np.linalg.det(ours.to_ground[:2, :2])) ** 0.5)

    def _on_grid(self, file: RasterFile) -> Any:
        from rasterio import Affine
        from rasterio.vrt import WarpedVRT
        from rasterio.warp import Resampling

        if file.name in self._warped:
            return self._warped[file.name]
        ours, theirs = self.georef, file.georef
        if ours is None or theirs is None or ours.crs is None or theirs.crs is None:
            raise Reject(
                Reason.UNSUPPORTED,
                f"{file.name} has {file.width} x {file.height} pixels, {self.grid.name} has {self.width} x "
                f"{self.height}, and without a CRS nobody can tell how they lie to each other",
            )
        nodata = file.dataset.nodata if file.dataset.nodata is not None else file.nodata_of_product
        with environment():
            warped = WarpedVRT(
                file.dataset,
                crs=ours.crs,
                transform=Affine(*ours.to_ground[:2].ravel()),
                width=self.width,
                height=self.height,
                resampling=Resampling.nearest if PALETTE in file.roles else Resampling.bilinear,
                src_nodata=nodata,
                nodata=nodata,
                add_alpha=nodata is None and ALPHA not in file.roles,
                warp_mem_limit=64,
            )
        self._warped[file.name] = self._stack.enter_context(warped)
        return warped

    def close(self) -> None:
        self._stack.close()
        for file in self.files.values():
            file.close()


def finest(sizes: dict[str, tuple[int, int]]) -> str:
    """The role of the file with the most pixels, of several the first; a panchromatic band, or one that measures no
    light, only where there are no others."""
    bands = [role for role in _holding_bands(sizes) if role != PAN] or list(sizes)
    return max(bands, key=lambda role: sizes[role][0] * sizes[role][1])


def rasters(assets: Iterable[Asset]) -> list[Asset]:
    """Those of an object's files that are rasters, by their names; the only file whatever its name."""
    assets = list(assets)
    found = [asset for asset in assets if asset.uri.rpartition(".")[2].lower() in EXTENSIONS]
    return found if len(assets) > 1 else assets


def open_scene(recipe: Recipe, opener: Open) -> Scene:
    """Opens the headers of all files. Raises Reject, and what the store raises."""
    files: dict[str, RasterFile] = {}
    try:
        for number, asset in enumerate(rasters(recipe.assets)):
            role = role_of_name(asset.role)
            files[role if role and role not in files else f"file_{number + 1}"] = _open_file(asset.uri, opener)
        if not files:
            raise Reject(Reason.UNSUPPORTED, f"none of the object's {len(recipe.assets)} files is a raster")
        mtl = next(
            (asset.uri for asset in recipe.assets if asset.role == METADATA and asset.uri.endswith(".txt")), None
        )
        return Scene(recipe, files, read_mtl(_text(mtl, opener)) if mtl else {})
    except BaseException:
        for file in files.values():
            file.close()
        raise


def _opened(uri: str, opener: Open) -> Any:
    try:
        return opener(uri)
    except (FileNotFoundError, PermissionError) as error:
        raise Reject(Reason.NOT_FOUND, f"{type(error).__name__}: {error}") from error


def _text(uri: str, opener: Open) -> str:
    with _opened(uri, opener) as file:
        content: bytes = file.read(MOST_METADATA)
    return content.decode("utf-8", "replace")


def _open_file(uri: str, opener: Open) -> RasterFile:
    file = _opened(uri, opener)
    try:
        return RasterFile(file, uri)
    except BaseException:
        file.close()
        raise


def _of_one_file(file: RasterFile, wanted: tuple[str, ...] | None) -> tuple[Band, ...]:
    numbers = file.bands
    if wanted is None:
        return tuple(Band(file.roles[number - 1], file, number) for number in numbers)
    if len(wanted) > len(file.roles):
        raise Reject(
            Reason.UNSUPPORTED,
            f"{file.name} has {len(file.roles)} bands ({', '.join(file.roles)}), `bands` of the step names "
            f"{len(wanted)}: {', '.join(wanted)}",
        )
    named = zip(wanted, range(1, len(file.roles) + 1), strict=False)
    return tuple(Band(role, file, number) for role, number in named if role != ALPHA)


def _holding_bands(roles: Iterable[str]) -> list[str]:
    """The roles of the files that hold bands: those that name a part of the spectrum, so that masks and previews are
    left out; all where none does."""
    roles = list(roles)
    return [role for role in roles if is_spectral(role)] or roles


def _of(name: str, file: RasterFile) -> list[tuple[str, int]]:
    """Roles and numbers of the bands of one file of several; the role of a single band is that of its file."""
    return [(file.roles[number - 1], number) for number in file.bands] if len(file.bands) > 1 else [(name, 1)]
