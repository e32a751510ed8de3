"""`when` means what DuckDB says the same expression means."""

from __future__ import annotations

import math
import pickle
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swath.operators.core.when import When
from swath.schemas.errors import ConfigurationError

TYPES = {
    "width": pa.int64(),
    "page": pa.int64(),
    "score": pa.float64(),
    "share": pa.float64(),
    "usable": pa.bool_(),
    "format": pa.string(),
    "text": pa.string(),
    "reasons": pa.list_(pa.string()),
    "labels": pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())])),
}

words = st.sampled_from(["", "a", "A", "b", "ab", "a%", "a_b", "a\nb", "%", "ä"])
integers = st.integers(-3, 3)
# Quarters are exact in binary, so that DuckDB's decimal literals and our floats agree.
floats = st.sampled_from([-1.5, -0.25, 0.0, 0.25, 2.0, math.inf, -math.inf, math.nan])
values = {
    "width": integers,
    "page": integers,
    "score": floats,
    "share": floats,
    "usable": st.booleans(),
    "format": words,
    "text": words,
    "reasons": st.lists(st.none() | words, max_size=3),
    "labels": st.lists(st.fixed_dictionaries({"label": st.none() | words, "score": st.none() | floats}), max_size=2),
}
rows = st.fixed_dictionaries({name: st.none() | value for name, value in values.items()})


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def joined(template: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda chosen: template.format(*chosen))


literals = st.sampled_from(["0", "1", "2", "3", "0.25", "1.5", "2e0", "NULL"])
numbers = st.recursive(
    st.sampled_from(["width", "page", "score", "share", "labels[1].score", "len(reasons)", "length(text)"]) | literals,
    lambda number: (
        joined("({} {} {})", number, st.sampled_from(["+", "-", "*", "/"]), number)
        | joined("({} % {})", number, st.sampled_from(["2", "1.5"]))
        | joined("(-{})", number)
        | joined("abs({})", number)
        | joined("coalesce({}, {})", number, number)
    ),
    max_leaves=4,
)
strings = (
    st.sampled_from(["format", "text", "reasons[1]", "reasons[2]", "reasons[-1]", "reasons[0]", "labels[1].label"])
    | st.sampled_from(["lower(format)", "upper(text)", "NULL"])
    | words.map(quoted)
)
signs = st.sampled_from(["=", "==", "<>", "!=", "<", "<=", ">", ">="])
nots = st.sampled_from(["", "NOT "])
atoms = (
    joined("{} {} {}", numbers, signs, numbers)
    | joined("{} {} {}", strings, signs, strings)
    | joined("{} {}BETWEEN {} AND {}", numbers, nots, numbers, numbers)
    | joined("{} {}IN ({}, {})", numbers, nots, numbers, numbers)
    | joined("{} {}IN ({}, {})", strings, nots, strings, words.map(quoted))
    | joined("{} {}IN reasons", words.filter(bool).map(quoted), nots)  # DuckDB 2.0 finds '' in every list
    | joined("list_contains(reasons, {})", strings)
    | joined("{} {}LIKE {}", strings, nots, words.map(quoted))
    | joined("{} {}ILIKE {}", strings, nots, words.map(quoted))
    | joined("{} IS {}NULL", numbers | strings, nots)
    | joined("usable IS {}{}", nots, st.sampled_from(["TRUE", "FALSE", "NULL"]))
    | st.sampled_from(["usable", "TRUE", "FALSE", "usable = true", "usable <> false", "usable IN (true, NULL)"])
)
conditions = st.recursive(
    atoms,
    lambda condition: (
        joined("({} {} {})", condition, st.sampled_from(["AND", "OR"]), condition) | joined("(NOT {})", condition)
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def duck() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def of_duckdb(duck: duckdb.DuckDBPyConnection, text: str, items: list[dict[str, Any]]) -> list[bool]:
    duck.register("items", pa.table({name: pa.array([i[name] for i in items], kind) for name, kind in TYPES.items()}))
    return [bool(row[0]) for row in duck.execute(f"SELECT ({text}) IS TRUE FROM items").fetchall()]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=conditions, items=st.lists(rows, min_size=1, max_size=5))
def test_it_applies_where_duckdb_says_the_expression_is_true(
    duck: duckdb.DuckDBPyConnection, text: str, items: list[dict[str, Any]]
) -> None:
    when = When(text)
    when.check()
    assert [when.applies(item) for item in items] == of_duckdb(duck, text, items)
    assert when.columns <= set(TYPES)


@pytest.mark.parametrize(
    ("text", "item", "expected"),
    [
        ("captured_at >= '2024-05-01'", {"captured_at": datetime(2024, 5, 1, tzinfo=UTC)}, True),
        ("captured_at < '2024-05-01T12:00:00+02:00'", {"captured_at": datetime(2024, 5, 1, 10, tzinfo=UTC)}, False),
        ("width = 9007199254740993", {"width": 9007199254740992}, False),
        ("width > 0 AND 10 % width = 1", {"width": 0}, False),
        ("quality.sharpness.value > 0.5", {"quality": {"sharpness": {"value": 0.75}}}, True),
        ("quality.sharpness.value > 0.5", {"quality": None}, False),
    ],
)
def test_times_structs_and_large_numbers(text: str, item: dict[str, Any], expected: bool) -> None:
    assert When(text).applies(item) is expected


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("format = 5", {"format": "jpeg"}),
        ("format > 5", {"format": "jpeg"}),
        ("width AND usable", {"width": 1, "usable": True}),
        ("width", {"width": 1}),
        ("format + 1 > 2", {"format": "jpeg"}),
        ("captured_at > 5", {"captured_at": datetime(2024, 5, 1, tzinfo=UTC)}),
        ("10 % width = 1", {"width": 0}),
        ("labels.score > 1", {"labels": []}),
    ],
)
def test_values_that_do_not_compare_raise_and_are_not_simply_untrue(text: str, item: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ArithmeticError)):
        When(text).applies(item)


@pytest.mark.parametrize(
    "text",
    [
        "soundex(format) = 'J100'",
        "random() < 0.5",
        "width::varchar = '5'",
        "width IN (SELECT 1)",
        "width BETWEEN SYMMETRIC 5 AND 1",
        "reasons[width] = 'a'",
        "reasons[1:2] = ['a']",
        "array_length(reasons, 1) = 2",
        "format LIKE 'a!%' ESCAPE '!'",
        "CASE WHEN usable THEN true END",
        "SELECT 1",
        "width > 5; DROP TABLE items",
        "width > $1",
        "*",
    ],
)
def test_what_is_not_understood_is_refused_and_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"uses ['\"].+['\"], which is not understood here; compare "):
        When(text).check()


@pytest.mark.parametrize("text", ["width >", "= 5", "(width > 5", ""])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no SQL expression"):
        When(text).check()


@pytest.mark.parametrize("text", ["5", "width + 1", "NULL", "length(format)", "'jpeg'"])
def test_what_can_be_neither_true_nor_false_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="neither true nor false"):
        When(text).check()


def test_it_travels_as_its_text() -> None:
    when = When("width > 5")
    when.check()
    copy = pickle.loads(pickle.dumps(when))
    assert copy == when
    assert "tree" not in vars(copy)
    assert copy.applies({"width": 6})
