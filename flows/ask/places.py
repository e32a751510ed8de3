"""Where rows are: their geometry, else their position."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swath.flows.ask.geoparquet import geometries

POSITION = ("longitude", "latitude")


def have_places(schema: pa.Schema) -> bool:
    """Whether rows of these columns can be drawn on a map."""
    return bool(geometries(schema)) or set(POSITION) <= set(schema.names)


def places(rows: pa.Table) -> pa.Array:
    """WKB in longitude and latitude, null where nothing is known: of the first column of geometries, else a point."""
    import shapely

    wkb = pa.nulls(len(rows), pa.binary())
    if set(POSITION) <= set(rows.schema.names):
        x, y = (pc.fill_null(rows[name].cast(pa.float64()), np.nan).to_numpy() for name in POSITION)
        on_map = (np.abs(x) <= 180) & (np.abs(y) <= 90)
        points = shapely.to_wkb(shapely.points(np.where(on_map, x, 0), np.where(on_map, y, 0)))
        wkb = pa.array(np.where(on_map, points, None), pa.binary())
    for name in geometries(rows.schema)[:1]:
        wkb = pc.coalesce(rows[name].combine_chunks(), wkb)
    return wkb
