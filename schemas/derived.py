"""The tables that are made from published ones: statistics of zones, and changes between two dates."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from swath.schemas.columns import Column, doc_and_unit, list_of
from swath.schemas.items import TIMESTAMP, WINDOW
from swath.schemas.sql import quoted

ZONE_INDICES = list_of(
    Column("name", pa.string(), "Which index: ndvi, ndwi, exg ..."),
    Column("mean", pa.float64(), "Mean over the zone, each pixel by the ground it covers", "index"),
    Column("std", pa.float64(), "Standard deviation; null where `exact` is false", "index"),
    *(
        Column(
            f"p{percent:02d}",
            pa.float64(),
            f"{percent}th percentile, to a thousandth of the index's range; null where `exact` is false",
            "index",
        )
        for percent in (5, 25, 50, 75, 95)
    ),
    Column("pixels", pa.int64(), "Pixels that were counted; null where `exact` is false", "pixels"),
    Column("area_m2", pa.float64(), "Ground that has a value", "square metres"),
    Column("calibrated", pa.bool_(), "Whether all of it is made of reflectance; else of digital numbers"),
    Column("exact", pa.bool_(), "Whether it was counted pixel by pixel; else the means of items were averaged"),
)
ZONE_COVER = list_of(
    Column("step", pa.string(), "What says so: a step of the pipeline, or a rule such as ndvi > 0.3"),
    Column("label", pa.string(), "Class name"),
    Column("fraction", pa.float64(), "Share of the ground that was seen, 0 to 1"),
    Column("area_m2", pa.float64(), "Ground that the class covers", "square metres"),
    Column("exact", pa.bool_(), "Whether it was counted pixel by pixel; else the fractions of items were averaged"),
)
ZONE_COUNTS = list_of(
    Column("step", pa.string(), "Step of the pipeline that found them"),
    Column("label", pa.string(), "Class name"),
    Column("count", pa.int64(), "Things whose middle lies in the zone, each once", "things"),
)
_CELL = (
    Column("partition", pa.string(), "What the rows are about: they are replaced together"),
    Column("bucket", pa.int32(), "Always 0: every table of the lake has the column", "position"),
)
_OBJECT = Column("object_id", pa.string(), "Object it is about; null where it is about several")
_FIELDS = Column("fields", pa.string(), "File with the outlines of the zones")
_ZONE = Column("zone", pa.int64(), "Position of the zone in its file, from 1", "position")
_NAME = Column("name", pa.string(), "Name of the zone, as the file has it; null where it has none")
_PIPELINE = Column("pipeline", pa.string(), "Table whose rows were looked at")
_GEOMETRY = Column("geometry", pa.binary(), "Outline of the zone; WKB, CRS84")
_MADE = Column("made_at", TIMESTAMP, "When the row was made")
DATED_BY = "What the date was taken from: captured_at, partition, name (of the file), pattern; null where there is none"

ZONES = (
    _FIELDS,
    _ZONE,
    _NAME,
    _PIPELINE,
    Column("run_id", pa.string(), "Run whose files were looked at; null where it is the whole table"),
    Column("date", pa.date32(), "Day of the pictures; null where it is not known"),
    Column("dated_by", pa.string(), DATED_BY),
    Column("area_m2", pa.float64(), "Area of the zone", "square metres"),
    Column("seen_m2", pa.float64(), "Ground in it that pictures show with data, each part once", "square metres"),
    Column("seen_fraction", pa.float64(), "Share of the zone that pictures show with data, 0 to 1"),
    Column("items", pa.int64(), "Items that show a part of it", "items"),
    Column("indices", ZONE_INDICES, "Spectral indices over the zone"),
    Column("cover", ZONE_COVER, "How much of it which class covers"),
    Column("counts", ZONE_COUNTS, "What was detected in it"),
    _GEOMETRY,
    _MADE,
    _OBJECT,
    *_CELL,
)
"""The columns of the table `zones`: one row a zone and date."""

_OF_INDEX = Column("index_name", pa.string(), "Which index: ndvi, ndwi, exg ...")
CHANGES = (
    _PIPELINE,
    Column("kind", pa.string(), "window: part of a raster as it was cut; zone: outline of the file"),
    _FIELDS,
    _ZONE,
    _NAME,
    _OF_INDEX,
    Column("before", pa.string(), "What was asked for as the earlier state: a date, partition, run or file"),
    Column("after", pa.string(), "What was asked for as the later state"),
    Column("before_date", pa.date32(), "Its day; null where it is not known"),
    Column("after_date", pa.date32(), "Its day; null where it is not known"),
    Column("source_uri", pa.string(), "Of a window: its raster in the earlier state"),
    Column("item_id", pa.string(), "Of a window: the item in the earlier state"),
    Column("window", WINDOW, "Of a window: part of that raster"),
    Column("before_mean", pa.float64(), "Mean of the index before, where both states have a value", "index"),
    Column("after_mean", pa.float64(), "Mean of the index after, where both states have a value", "index"),
    Column("difference", pa.float64(), "Mean of after less before, pixel by pixel", "index"),
    Column("std", pa.float64(), "Standard deviation of the pixels' differences", "index"),
    Column("reference", pa.float64(), "Difference that counts as no change: 0, or the scene's median", "index"),
    Column("pixels", pa.int64(), "Pixels with a value in both states", "pixels"),
    Column("independent", pa.float64(), "As how many independent pixels these count", "pixels"),
    Column("t", pa.float64(), "Student's t: standard errors between difference and reference", "standard errors"),
    Column("p_value", pa.float64(), "Probability of such a t without a change, two-sided, 0 to 1"),
    Column("q_value", pa.float64(), "p_value adjusted for all windows, or all zones, of the comparison, 0 to 1"),
    Column("significant", pa.bool_(), "Whether q_value is below the level that was asked for"),
    Column("robust_z", pa.float64(), "Deviations (1.4826 MAD) from the median of all; above 3.5 stands out", "MAD"),
    Column("area_m2", pa.float64(), "Ground with a value in both states", "square metres"),
    Column("geometry", pa.binary(), "Outline of the window or zone; WKB, CRS84"),
    _MADE,
    _OBJECT,
    *_CELL,
)
"""The columns of the table `changes`: one row a window or zone of a comparison."""


@dataclass(frozen=True)
class Flat:
    """A view with a row for every element of a nested column."""

    name: str
    doc: str
    column: str


@dataclass(frozen=True)
class Derived:
    """A table that commands make from published ones."""

    doc: str
    made_by: str
    """The command."""
    columns: tuple[Column, ...]
    flats: tuple[Flat, ...] = ()

    @property
    def shown(self) -> tuple[Column, ...]:
        """Without those that are the lake's own."""
        return tuple(column for column in self.columns if column not in (_OBJECT, *_CELL))

    def unnested(self, flat: Flat) -> tuple[tuple[Column, ...], str]:
        """Columns of a flat view, and its SQL over `{table}`."""
        nested = [one.column for one in self.flats]
        head = [c for c in self.shown if c.name not in (*nested, "geometry", "made_at", "area_m2")]
        element = next(column for column in self.columns if column.name == flat.column).type.value_type
        own = [
            Column(f.name, f.type, *doc_and_unit(f)).renamed("index_name" if f.name == "name" else f.name)
            for f in element
        ]
        kept = ", ".join(quoted(column.name) for column in head)
        fields = ", ".join(
            f"element.{quoted(field.name)} AS {quoted(column.name)}" for field, column in zip(element, own, strict=True)
        )
        source = f"SELECT {kept}, unnest({quoted(flat.column)}) AS element FROM {{table}}"
        return (*head, *own), f"SELECT {kept}, {fields} FROM ({source})"


DERIVED = {
    "zones": Derived(
        "One row a zone and date: what pictures show of a field",
        "swath zones",
        ZONES,
        (
            Flat("zone_indices", "One row a spectral index of a zone and date", "indices"),
            Flat("zone_cover", "One row a class that covers a part of a zone, and date", "cover"),
            Flat("zone_counts", "One row a class of things in a zone, and date", "counts"),
        ),
    ),
    "changes": Derived("One row a window or zone of a comparison: how an index changed", "swath change", CHANGES),
}
"""By the name of the table."""
