"""DuckDB's SQL: names, texts and types of columns as it writes them, and which types are the same."""

from __future__ import annotations

import pyarrow as pa


def shape(kind: pa.DataType) -> object:
    """The structure of a type alone: no docs, no nullability, no names of list elements, no large variants."""
    if pa.types.is_map(kind):
        return ("map", shape(kind.key_type), shape(kind.item_type))
    if isinstance(kind, _LISTS):
        return ("list", shape(kind.value_type))
    if pa.types.is_struct(kind):
        return tuple((field.name, shape(field.type)) for field in kind)
    return str(kind).removeprefix("large_").removesuffix("_view")


_LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType, pa.ListViewType, pa.LargeListViewType)
_SQL = {
    "string": "VARCHAR",
    "binary": "BLOB",
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "halffloat": "FLOAT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "date32[day]": "DATE",
    "time64[us]": "TIME",
    "null": "VARCHAR",
}


def sql_type(kind: pa.DataType) -> str:
    """The name of an Arrow type in DuckDB's SQL. Raises TypeError for a type that no table of ours holds."""
    if pa.types.is_map(kind):
        return f"MAP({sql_type(kind.key_type)}, {sql_type(kind.item_type)})"
    if isinstance(kind, _LISTS):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{quoted(field.name)} {sql_type(field.type)}' for field in kind)})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE" if kind.tz else "TIMESTAMP"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_fixed_size_binary(kind):
        return "BLOB"
    try:
        return _SQL[str(shape(kind))]
    except KeyError:
        raise TypeError(f"no SQL type for {kind}") from None


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
