"""What a query may be: one statement that reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from swath.schemas.errors import QueryError

_READING = "SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN"
_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_FUNCTIONS = re.compile(r"range|generate_series|unnest|repeat|json_each|json_tree|duckdb_(columns|functions|views)")
"""Table functions a query may call; the others read files, run SQL from strings, or change settings."""
_KINDS = {"MULTI": "PIVOT outside of FROM (...)", "EXPLAIN": "EXPLAIN of something else", "LOAD": "INSTALL or LOAD"}
"""What DuckDB calls a kind of statement, where a user would not know it by that name."""
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?(\s*\([^)]*\))?\s", re.IGNORECASE)


def check_reads(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raises QueryError unless the query is one statement that only reads, of views and harmless functions.

    By its syntax tree, because DuckDB takes INSERT and COPY inside WITH, and would run them in EXPLAIN ANALYZE.
    Raises duckdb.ParserException where it is no SQL.
    """
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        found = "several statements" if statements else "no statement"
        raise QueryError(f"a query is one statement; this has {found}")
    kind = statements[0].type.name
    read = _EXPLAIN.sub("", query, count=1) if kind == "EXPLAIN" else query
    tree = json.loads(connection.sql("SELECT json_serialize_sql(?)", params=[read]).fetchall()[0][0])
    if kind not in ("SELECT", "EXPLAIN") or tree.get("error"):
        raise QueryError(f"a query may only read ({_READING}); this is {_KINDS.get(kind, kind)}")
    for node in _nodes(tree):
        if str(node.get("type")).endswith("_NODE") and node["type"] not in _NODES:
            raise QueryError(f"a query may only read ({_READING}); this has {node['type'].partition('_')[0]} in it")
        if node.get("type") == "TABLE_FUNCTION" and not _FUNCTIONS.fullmatch(node["function"]["function_name"].lower()):
            name = node["function"]["function_name"]
            raise QueryError(f"a query reads the views of the warehouse and nothing else; {name}() is not for queries")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects of a JSON tree."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
