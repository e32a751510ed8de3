"""Every operator of the package, and one of a user's own, is held to the same questions, by being there.

`results.json` keeps what each operator answers for drawn pictures, under its version. Where results change on
purpose: raise the operator's `version`, then `SWATH_UPDATE_RESULTS=1 pytest tests/operators/test_contract.py`.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import pickle
import re
import tomllib
from dataclasses import is_dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from tests.operators.kit import before, field_picture, item, jpeg, minimal, page_picture, png, step, taken
from tests.operators.own_operators import MeanRed

from swath.operators.core.base import GROUND, Artifact, ModelOperator, Operator, Transform, rows
from swath.operators.core.chain import Chain, Row, links_of
from swath.operators.core.ground import Bands, Georef
from swath.operators.core.resolve import built_in
from swath.operators.survey.open_scenes import Around
from swath.schemas.columns import doc_and_unit
from swath.schemas.items import Reason

OWN = "tests.operators.own_operators:MeanRed"
ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results.json")
RANGE = re.compile(r"-?\d.* to -?\d|[Ss]hare of")
"""In the doc of a number without a unit: that it is a plain ratio, and its range."""

every_operator = pytest.mark.parametrize("op", [*built_in(), OWN])


class Bench:
    """An operator with its model, and with the steps before it that it needs; loaded once."""

    def __init__(self, op: str) -> None:
        self.operator = MeanRed() if op == OWN else minimal(op)
        self.operator.check()
        self.model = self.operator.load()
        steps = [step(one) for one in (*before(self.operator), self.operator)]
        self.links = links_of(steps)
        own = next(index for index, link in enumerate(self.links) if link.step is steps[-1])
        self.before, self.whole = Chain(self.links[:own], store=kept), Chain(self.links, store=kept)
        self.before.load()
        self.whole.load()

    def given(self, *contents: bytes) -> list[Row]:
        """The items as they reach the operator, with the columns it reads."""
        reached = self.before.run(item(index, content) for index, content in enumerate(contents))
        names = [column.name for column in self.operator.inputs()]
        return [{name: row.get(name) for name in names} for row in reached]

    def answers(self, items: list[Row], operator: Operator | None = None) -> list[Row]:
        """What `run` says of the items, through `prepare` where the operator has one."""
        operator = operator or self.operator
        batch = {name: [one[name] for one in items] for name in items[0]}
        if isinstance(operator, ModelOperator):
            batch = {"prepared": [operator.prepare(one) for one in items]}
        produced = operator.run(batch, self.model)
        assert list(produced) == operator.produced()
        assert {len(values) for values in produced.values()} <= {len(items)}
        return rows(produced)

    def whole_chain(self, *contents: bytes) -> list[Row]:
        return list(self.whole.run(item(index, content) for index, content in enumerate(contents)))


def kept(row: Row, name: str, artifact: Artifact) -> str:
    """A URI that tells one content from another."""
    return f"kept://{name}/{blake2b(artifact.content, digest_size=8).hexdigest()}{artifact.suffix}"


@cache
def bench(op: str) -> Bench:
    return Bench(op)


@cache
def drawn() -> tuple[bytes, ...]:
    return (
        jpeg(field_picture(1), exif=taken()),
        png(page_picture()),
        png(field_picture(2, 97, 131)),
        jpeg(page_picture("Total", 400)),
    )


def assert_same(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Equal in kind and number; floats within a share of themselves (sums in batches differ in their last bits)."""
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    elif is_dataclass(expected) and not isinstance(expected, type):
        assert type(found) is type(expected)
        assert_same(vars(found), vars(expected), tolerance)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(found[name], value, tolerance)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, tolerance)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance, nan_ok=True)
    else:
        assert found == expected


@every_operator
def test_it_adds_its_declared_columns_with_their_types_for_every_item_in_order(op: str) -> None:
    given = bench(op).given(*drawn())
    answers = bench(op).answers(given)
    for column in bench(op).operator.outputs():
        if column.stored:
            found = [answer[column.name] for answer in answers]
            stored = [kept(given[0], op, value) if isinstance(value, Artifact) else value for value in found]
            assert len(pa.array(stored, column.type)) == len(given)
    assert_same(bench(op).answers(given[::-1]), answers[::-1])
    for one, answer in zip(given, answers, strict=True):
        assert_same(bench(op).answers([one]), [answer])


@every_operator
def test_it_answers_the_same_again_also_after_other_pictures(op: str) -> None:
    given = bench(op).given(*drawn())
    first = bench(op).answers(given[:1])
    bench(op).answers(given[1:])
    assert_same(bench(op).answers(given[:1]), first, tolerance=0)


@every_operator
def test_it_survives_pickling(op: str) -> None:
    operator = bench(op).operator
    copy: Operator = pickle.loads(pickle.dumps(operator))
    assert copy == operator
    given = bench(op).given(*drawn()[:2])
    answers = bench(op).answers(given)
    assert_same(bench(op).answers(given, copy), answers)
    assert_same(pickle.loads(pickle.dumps(answers)), answers, tolerance=0)


@every_operator
def test_it_leaves_what_it_is_given_as_it_is(op: str) -> None:
    given = bench(op).given(*drawn())
    kept = pickle.loads(pickle.dumps(given))
    bench(op).answers(given)
    assert_same(given, kept, tolerance=0)


@every_operator
@pytest.mark.parametrize("at", [0, 2])
def test_one_bad_file_is_one_reject_and_its_neighbours_come_through(op: str, at: int) -> None:
    contents = list(drawn()[:3])
    alone = bench(op).whole_chain(*contents)
    contents.insert(at, drawn()[0][:2000])
    done = bench(op).whole_chain(*contents)
    assert [row["source_uri"] for row in done] == [f"file:///drawn/{index}" for index in range(4)]
    bad = done.pop(at)
    decodes = any(isinstance(link.step.operator, Transform) for link in bench(op).links)
    assert (bad["status"], bad["reject_reason"]) == (("rejected", Reason.TRUNCATED) if decodes else ("ok", None))
    for row, expected in zip(done, alone, strict=True):
        assert row["status"] == "ok", row["reject_message"]
        for column in bench(op).operator.outputs():
            if column.stored:
                assert_same(placeless(row[column.name], row), placeless(expected[column.name], expected))


def placeless(value: Any, row: Row) -> Any:
    """A value without the id of its item: where a file was put before it, it is another."""
    if isinstance(value, dict):
        return {name: placeless(one, row) for name, one in value.items()}
    if isinstance(value, list):
        return [placeless(one, row) for one in value]
    return "its own" if isinstance(value, str) and value == row["item_id"] else value


@every_operator
def test_a_picture_of_any_shape_is_no_error(op: str) -> None:
    shapes = [(1, 1), (1, 200), (200, 1), (7, 5), (33, 400)]
    flat = [png(np.full((*shape, 3), 128, np.uint8)) for shape in shapes]
    for row, shape in zip(bench(op).whole_chain(*flat), shapes, strict=True):
        assert row["reject_reason"] != Reason.OPERATOR_ERROR, f"{shape}: {row['reject_message']}"
    for column in bench(op).operator.outputs():
        if column.stored:
            pa.array([row.get(column.name) for row in bench(op).whole_chain(*flat)], column.type)


@every_operator
def test_its_configuration_is_frozen_and_refuses_unknown_fields(op: str) -> None:
    operator = bench(op).operator
    with pytest.raises(ValidationError, match="frozen"):
        operator.resources = operator.resources
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(operator).model_validate({**operator.model_dump(), "no_such_field": 1})
    assert type(operator).model_validate(operator.model_dump(mode="json")) == operator


@every_operator
def test_every_column_says_what_it_is_and_in_what_unit(op: str) -> None:
    operator = bench(op).operator
    names = [column.name for column in operator.outputs()]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
    for column in operator.outputs():
        if column.stored:
            for field in leaves(column.field()):
                doc, unit = doc_and_unit(field)
                assert doc, f"{column.name}: {field.name} has no doc"
                number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
                assert unit or not number or RANGE.search(doc), f"{field.name}: {doc!r} has neither unit nor range"


def leaves(field: pa.Field) -> list[pa.Field]:
    """The fields of a nested type that hold plain values; lists of them stand for their elements."""
    kind = field.type
    if pa.types.is_list(kind):
        element = kind.value_field
        return leaves(element) if pa.types.is_nested(element.type) else [field.with_type(element.type)]
    if pa.types.is_struct(kind):
        return [leaf for index in range(kind.num_fields) for leaf in leaves(kind.field(index))]
    return [field]


@every_operator
def test_it_has_a_version_and_a_docstring(op: str) -> None:
    kind = type(bench(op).operator)
    assert type(kind.version) is int
    assert kind.version >= 1
    assert kind.__doc__
    assert kind.__doc__ != Operator.__doc__


def test_no_operator_module_imports_a_heavy_library_at_its_top() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["flake8-tidy-imports"]
    heavy = set(settings["banned-module-level-imports"])
    assert "torch" in heavy
    modules = {kind.__module__ for kind in built_in().values()}
    for name in modules:
        path = importlib.import_module(name).__file__
        assert path is not None
        for node in ast.parse(Path(path).read_text()).body:
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not heavy & {one.partition(".")[0] for one in found}, f"{name}: {found}"


def test_no_two_operators_of_the_package_share_a_name_or_a_column() -> None:
    import pkgutil

    import swath.operators

    kinds = [
        value
        for module in pkgutil.walk_packages(swath.operators.__path__, "swath.operators.")
        for value in vars(importlib.import_module(module.name)).values()
        if isinstance(value, type) and issubclass(value, Operator) and not value.__abstractmethods__
    ]
    assert set(kinds) == set(built_in().values())
    shared = {*(column.name for column in GROUND), "gsd_m", "footprint"}  # of a raster, or of a photo
    names = [column.name for op in built_in() for column in minimal(op).outputs()]
    assert {name for name in names if names.count(name) > 1} <= shared


# Results against versions


def summary(value: Any) -> Any:
    """A value as a few JSON values: arrays by shape, mean and spread, long lists by length and ends."""
    match value:
        case Artifact():
            return f"an artifact {value.suffix}"  # its bytes are the encoder's, which may change
        case np.ndarray() if value.shape == (3, 3):
            return [round(float(one), 4) for one in value.ravel()]
        case np.ndarray():
            return {
                "shape": list(value.shape),
                "mean": round(float(value.mean()), 2),
                "std": round(float(value.std()), 2),
            }
        case Georef() | Bands() | Around():
            return {name: summary(one) for name, one in vars(value).items() if name != "opener"}
        case dict():
            return {name: summary(one) for name, one in value.items()}
        case list() | tuple():
            return {"count": len(value), "ends": [summary(one) for one in (*value[:1], *value[-1:])]}
        case float():
            return float(f"{value:.4g}")
        case bytes():
            return f"{len(value)} bytes"  # of coordinates, whose last bits are the library's
        case None | str() | bool() | int():
            return value
        case _:
            return str(value)


@every_operator
def test_results_change_only_with_the_version(op: str) -> None:
    operator = bench(op).operator
    name = operator.op_name()
    found: dict[str, Any] = {
        "version": operator.version,
        "model": operator.model_digest(),
        "results": [summary(answer) for answer in bench(op).answers(bench(op).given(*drawn()[:2]))],
    }
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known = kept.get(name)
    if known and known["version"] == found["version"]:
        if known["model"] != found["model"]:
            pytest.skip(f"results of {name} were kept with another model or engine than is installed here")
        try:
            assert_same(found["results"], known["results"], tolerance=2e-3)
        except AssertionError as error:
            pytest.fail(f"results of {name} changed but not its version ({operator.version}); raise it: {error}")
    elif os.environ.get("SWATH_UPDATE_RESULTS"):
        RESULTS.write_text(json.dumps({**kept, name: found}, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    else:
        pytest.fail(f"there are no results of {name} version {operator.version}; {(__doc__ or '').splitlines()[-1]}")
