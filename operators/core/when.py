"""`when:` expressions: which items a step applies to. SQL (DuckDB's dialect) over earlier columns, three-valued."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import sqlglot
from sqlglot import exp

from swath.operators.core.base import Item
from swath.schemas.errors import ConfigurationError

Number = (int, float, np.number)


def _divided(left: float, right: float) -> float:
    if right:
        return left / right
    return math.nan if not left or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1, right)


def _remainder(left: float, right: float) -> float:
    """With the sign of the dividend, as in SQL; whole numbers stay whole."""
    if isinstance(left, int) and isinstance(right, int):
        return int(math.copysign(abs(left) % abs(right), left))
    return math.fmod(left, right) if right and not math.isinf(left) else math.nan


COMPARISONS: dict[type[exp.Expr], Callable[[Any, Any], bool]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
}
ARITHMETIC: dict[type[exp.Expr], Callable[[Any, Any], Any]] = {
    exp.Add: operator.add,
    exp.Sub: operator.sub,
    exp.Mul: operator.mul,
    exp.Div: _divided,
    exp.Mod: _remainder,
}
FUNCTIONS: dict[type[exp.Expr], Callable[[Any], Any]] = {
    exp.Length: len,
    exp.ArraySize: len,
    exp.Lower: str.lower,
    exp.Upper: str.upper,
    exp.Abs: abs,
    exp.Neg: operator.neg,
}


@dataclass(frozen=True)
class When:
    """A parsed expression; `applies(item)` is true only where it is true, not where it is null."""

    text: str

    def __reduce__(self) -> tuple[Any, ...]:
        return When, (self.text,)  # without its parsed tree

    @cached_property
    def tree(self) -> exp.Expr:
        try:
            return sqlglot.parse_one(self.text, read="duckdb")
        except sqlglot.errors.SqlglotError as error:
            first = str(error).partition("\n")[0]
            raise ConfigurationError(f"when: {self.text!r} is no SQL expression: {first}") from None

    @property
    def columns(self) -> frozenset[str]:
        """The columns it reads."""
        return frozenset(column.parts[0].name for column in self.tree.find_all(exp.Column))

    def check(self) -> None:
        """Raises ConfigurationError where the expression uses what is not understood here."""
        for node in self.tree.walk():
            if not _understood(node):
                raise ConfigurationError(
                    f"when: {self.text!r} uses {node.sql('duckdb')!r}, which is not understood here; compare columns "
                    "with =, <, >, IN, BETWEEN, LIKE, IS NULL, join with AND, OR, NOT, and of functions use "
                    "length, lower, upper, abs, coalesce, list_contains"
                )
        if isinstance(self.tree, (exp.Literal, exp.Null, *ARITHMETIC, *FUNCTIONS)):
            raise ConfigurationError(f"when: {self.text!r} is neither true nor false; compare it with something")

    def applies(self, item: Item) -> bool:
        """Raises TypeError where the values of the item cannot be compared as the expression does."""
        return _truth(_value(self.tree, item)) is True


def _value(node: exp.Expr, item: Item) -> Any:
    """The SQL value of the node for the item; None is NULL."""
    match node:
        case exp.Paren():
            return _value(node.this, item)
        case exp.Column():
            value: Any = item.get(node.parts[0].name)
            for part in node.parts[1:]:
                value = None if value is None else value[part.name]
            return value
        case exp.Literal():
            return node.this if node.is_string else int(node.this) if node.this.isdigit() else float(node.this)
        case exp.Boolean():
            return node.this
        case exp.Null():
            return None
        case exp.And() | exp.Or():
            return _joined(isinstance(node, exp.Or), lambda side: _value(node.args[side], item))
        case exp.Not():
            truth = _truth(_value(node.this, item))
            return None if truth is None else not truth
        case exp.Is():
            value = _value(node.this, item)
            return value is None if isinstance(node.expression, exp.Null) else _truth(value) is node.expression.this
        case exp.In() if node.args.get("field"):
            return _contains(_value(node.args["field"], item), _value(node.this, item))
        case exp.In():
            value = _value(node.this, item)
            equal = [_compared(operator.eq, value, _value(option, item)) for option in node.expressions]
            return True if True in equal else None if None in equal else False
        case exp.Between():
            value = _value(node.this, item)
            bounds = {"this": (operator.ge, "low"), "expression": (operator.le, "high")}
            return _joined(
                False, lambda side: _compared(bounds[side][0], value, _value(node.args[bounds[side][1]], item))
            )
        case exp.Like() | exp.ILike():
            value, pattern = _value(node.this, item), _value(node.expression, item)
            if value is None or pattern is None:
                return None
            return _like(value, pattern, isinstance(node, exp.ILike)) is not bool(node.args.get("negate"))
        case exp.ArrayContains() | exp.Contains():
            return _contains(_value(node.this, item), _value(node.expression, item))
        case exp.Coalesce():
            values = (_value(choice, item) for choice in (node.this, *node.expressions))
            return next((value for value in values if value is not None), None)
        case exp.Bracket():
            values = _value(node.this, item)
            return None if values is None else _element(values, node.expressions[0])
        case exp.Dot():
            value = _value(node.this, item)
            return None if value is None else value[node.expression.name]
        case _ if type(node) in COMPARISONS:
            return _compared(COMPARISONS[type(node)], _value(node.this, item), _value(node.expression, item))
        case _ if type(node) in ARITHMETIC:
            left, right = _value(node.this, item), _value(node.expression, item)
            if left is None or right is None:
                return None
            if not isinstance(left, Number) or not isinstance(right, Number):
                raise TypeError(f"{left!r} and {right!r} are not both numbers")
            return ARITHMETIC[type(node)](left, right)
        case _:
            value = _value(node.this, item)
            return None if value is None else FUNCTIONS[type(node)](value)


def _truth(value: Any) -> bool | None:
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    raise TypeError(f"{value!r} is neither true nor false")


def _joined(decisive: bool, side: Callable[[str], Any]) -> bool | None:
    """OR where true is decisive, AND where false is; what is decisive on the left leaves the right unasked."""
    left = _truth(side("this"))
    if left is decisive:
        return decisive
    right = _truth(side("expression"))
    return decisive if right is decisive else None if left is None or right is None else not decisive


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    if isinstance(left, datetime) or isinstance(right, datetime):
        return compare(_moment(left), _moment(right))
    if isinstance(left, Number) and isinstance(right, Number):
        # SQL orders NaN after every number, and holds it equal to itself.
        return compare((True, 0) if left != left else (False, left), (True, 0) if right != right else (False, right))
    if isinstance(left, str) != isinstance(right, str) or isinstance(left, Number) != isinstance(right, Number):
        raise TypeError(f"{left!r} cannot be compared with {right!r}")
    return compare(left, right)


def _moment(value: Any) -> datetime:
    """A time, also from ISO 8601 text; UTC where it names no zone."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} is no time")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _contains(values: Any, value: Any) -> bool | None:
    """Whether a list has an element, or a text a part."""
    if values is None or value is None:
        return None
    if isinstance(values, str):
        return str(value) in values
    return any(_compared(operator.eq, one, value) for one in values)


def _like(value: str, pattern: str, any_case: bool) -> bool:
    if any_case:
        value, pattern = value.lower(), pattern.lower()
    wild = "".join({"%": ".*", "_": "."}.get(sign, re.escape(sign)) for sign in pattern)
    return re.fullmatch(wild, value, re.DOTALL) is not None


def _element(values: Any, index: exp.Expr) -> Any:
    """SQL's element, from 1, or from -1 backwards; sqlglot has taken 1 from the index already."""
    position = -int(index.this.this) if isinstance(index, exp.Neg) else int(index.this)
    if position == -1:  # was 0
        return None
    position += position < 0
    return values[position] if -len(values) <= position < len(values) else None


def _understood(node: exp.Expr) -> bool:
    # An argument that `_value` does not look at would change the meaning unseen, as SYMMETRIC does.
    if not isinstance(node, KNOWN) or {name for name, value in node.args.items() if value} - ARGUMENTS:
        return False
    match node:
        case exp.ArraySize():
            return not node.expression
        case exp.In():
            return bool(node.expressions or node.args.get("field"))
        case exp.Is():
            return isinstance(node.expression, exp.Null | exp.Boolean)
        case exp.Bracket():
            index = node.expressions[0] if len(node.expressions) == 1 else None
            return isinstance(index.this if isinstance(index, exp.Neg) else index, exp.Literal)
        case _:
            return True


# fmt: off
KNOWN: tuple[type[exp.Expr], ...] = (
    exp.Paren, exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.And, exp.Or, exp.Not, exp.Is,
    exp.In, exp.Between, exp.Bracket, exp.Like, exp.ILike, exp.Dot, exp.ArrayContains, exp.Contains, exp.Coalesce,
    *COMPARISONS, *ARITHMETIC, *FUNCTIONS,
)
ARGUMENTS = {
    "this", "expression", "expressions", "low", "high", "field", "negate", "is_string", "quoted",
    "table", "db", "catalog",
}
# fmt: on
