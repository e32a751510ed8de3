"""Polygons on the ground, burnt into the pixels of a georeferenced picture."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.flows.train.coco import BACKGROUND
from swath.flows.train.data import Labelled, Sample, content, pictures_below, require
from swath.flows.train.masks import Shape, Shapes
from swath.infra import storage
from swath.schemas.errors import ConfigurationError, SourceError

_EPSG = re.compile(r"EPSG:{1,2}(?:[\d.]*:)?(\d+)$")
_SCALE, _TIEPOINTS, _MATRIX = 33550, 33922, 34264
"""Tags of a GeoTIFF (OGC 19-008r4): ModelPixelScale, ModelTiepoint, ModelTransformation."""
_DEGREES = 4326


def polygons(images: str, labels: str, attribute: str | None) -> Labelled:
    """A GeoTIFF, or a folder of them, with polygons in a GeoJSON; `attribute` names the property that is the class."""
    document = _document(labels)
    epsg = _epsg(document, labels)
    features = [one for one in document["features"] if isinstance(one, dict) and one.get("geometry")]
    kinds = [_kind(one, attribute, labels) for one in features]
    classes = (BACKGROUND, *sorted(set(kinds)))
    rings = [[np.array(ring, np.float64)[:, :2] for ring in _rings(one["geometry"], labels)] for one in features]
    samples = []
    inside = 0
    for uri in _pictures(images):
        to_pixels, width, height, of_picture = _georeference(uri)
        require(epsg == of_picture or of_picture is None,
                f"{labels} is in EPSG:{epsg} and {uri} in EPSG:{of_picture}; bring the polygons into the picture's "
                f"(ogr2ogr -t_srs EPSG:{of_picture})")  # fmt: skip
        shapes = []
        for kind, outlines in zip(kinds, rings, strict=True):
            moved = [ring @ to_pixels[:, :2].T + to_pixels[:, 2] for ring in outlines]
            corners = np.concatenate(moved)
            if (corners.max(0) > 0).all() and (corners.min(0) < (width, height)).all():
                shapes.append(Shape(classes.index(kind), tuple(moved)))
        inside += len(shapes)
        samples.append(Sample(uri, Shapes(tuple(shapes), labels)))
    require(inside > 0, f"no polygon of {labels} lies in a picture of {images}; are both of the same place?",
            SourceError)  # fmt: skip
    return Labelled("segment", tuple(samples), classes, f"{inside:,} polygons in {labels}")


def _pictures(images: str) -> list[str]:
    root = storage.normalize(images)
    if images.lower().endswith((".tif", ".tiff")):
        require(storage.look_up(root) is not None, f"{images}: there is no such picture", SourceError)
        return [root]
    found = [uri for path, uri in pictures_below(images).items() if path.lower().endswith((".tif", ".tiff"))]
    require(bool(found), f"{images}: holds no GeoTIFF; polygons on the ground need one", SourceError)
    return found


def _document(path: str) -> dict[str, Any]:
    try:
        document = json.loads(content(storage.normalize(path)))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: no JSON ({error})") from None
    collection = isinstance(document, dict) and isinstance(document.get("features"), list)
    require(collection and bool(document["features"]), f"{path}: is no GeoJSON with features")
    return dict(document)


def _epsg(document: Mapping[str, Any], path: str) -> int:
    """The reference system: as older files name it; degrees (RFC 7946) where none is named."""
    crs = document.get("crs")
    if not crs:
        return _DEGREES
    name = str(crs.get("properties", {}).get("name", "")) if isinstance(crs, dict) else ""
    if name.endswith("CRS84"):
        return _DEGREES
    found = _EPSG.search(name)
    require(found is not None, f"{path}: its reference system {name!r} is not known here; name it as EPSG")
    return int(found[1]) if found else _DEGREES


def _kind(feature: Mapping[str, Any], attribute: str | None, path: str) -> str:
    if attribute is None:
        return "object"
    properties = feature.get("properties") or {}
    require(attribute in properties, f"{path}: a feature has no property {attribute!r}; there are "
            f"{', '.join(list(properties)[:8])}")  # fmt: skip
    return str(properties[attribute])


def _rings(geometry: Mapping[str, Any], path: str) -> Iterator[Any]:
    try:
        match geometry["type"]:
            case "Polygon":
                yield from geometry["coordinates"]
            case "MultiPolygon":
                for one in geometry["coordinates"]:
                    yield from one
            case other:
                raise ConfigurationError(f"{path}: holds a {other}; areas are Polygon or MultiPolygon")
    except (KeyError, TypeError):
        raise ConfigurationError(f"{path}: a geometry is broken") from None


def _georeference(uri: str) -> tuple[npt.NDArray[np.float64], int, int, int | None]:
    """The matrix (2, 3) from ground to pixels, width, height, and the EPSG code where the file names one."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(content(uri))) as file:
            page = file.pages.first
            tags, width, height = page.tags, page.imagewidth, page.imagelength
            scale, ties, matrix = (tags.valueof(tag) for tag in (_SCALE, _TIEPOINTS, _MATRIX))
            keys = page.geotiff_tags or {}
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SourceError(f"{uri}: is no TIFF that can be read ({error})") from None
    if matrix is not None and len(matrix) == 16:
        to_ground = np.array(matrix, np.float64).reshape(4, 4)[[0, 1, 3]][:, [0, 1, 3]]
    elif scale is not None and ties is not None and len(ties) >= 6:
        column, row, _, x, y, _ = ties[:6]
        to_ground = np.array([[scale[0], 0, x - column * scale[0]], [0, -scale[1], y + row * scale[1]], [0, 0, 1]])
    else:
        raise SourceError(f"{uri}: says not where on the ground it lies; polygons need a GeoTIFF")
    if abs(np.linalg.det(to_ground)) < 1e-18:
        raise SourceError(f"{uri}: its georeference maps everything to one line")
    code = keys.get("ProjectedCSTypeGeoKey") or keys.get("GeographicTypeGeoKey")
    known = int(code) if code is not None and 0 < int(code) < 32767 else None
    return np.linalg.inv(to_ground)[:2].astype(np.float64), width, height, known
