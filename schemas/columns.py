"""What one column of a table, or one value beside an item, is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A named, typed, documented column.

    `stored` columns land in the table. The others (bytes, pixels) are working columns: they live only
    inside a worker, as any Python object, and their `type` is ignored.
    """

    name: str
    type: pa.DataType
    doc: str
    unit: str | None = None
    """Metres, degrees, seconds, bytes, pixels ...; None where the value has no unit."""
    stored: bool = True

    def field(self) -> pa.Field:
        """The Arrow field, with `doc` (unit included, Iceberg keeps nothing else) as its metadata."""
        text = f"{self.doc} [{self.unit}]" if self.unit else self.doc
        return pa.field(self.name, self.type, metadata={"doc": text})

    def renamed(self, name: str) -> Column:
        return replace(self, name=name)


def working(name: str, doc: str) -> Column:
    """A column that never leaves the worker."""
    return Column(name, pa.null(), doc, stored=False)


def struct(*columns: Column) -> pa.StructType:
    """A struct type whose fields keep their docs and units."""
    return pa.struct([column.field() for column in columns])


def list_of(*columns: Column) -> pa.ListType:
    """A list of structs whose fields keep their docs and units."""
    return pa.list_(pa.field("element", struct(*columns)))


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of the stored ones among the columns."""
    return pa.schema([column.field() for column in columns if column.stored])


def doc_and_unit(field: pa.Field) -> tuple[str, str | None]:
    """Doc and unit of a field that `Column.field` made, also after a round trip through Iceberg."""
    text = (field.metadata or {}).get(b"doc", b"").decode()
    doc, bracket, unit = text.rpartition(" [")
    return (doc, unit[:-1]) if bracket and unit.endswith("]") else (text, None)
