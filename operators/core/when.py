"""`when:` expressions: which items a step applies to. SQL (DuckDB's dialect) over earlier columns, three-valued."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlglot
from sqlglot import exp

from swath.operators.core.base import Item
from swath.schemas.errors import ConfigurationError

BINARY: dict[type[exp.Expr], Callable[[Any, Any], Any]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.Add: operator.add,
    exp.Sub: operator.sub,
    exp.Mul: operator.mul,
    exp.Div: lambda a, b: a / b if b else None,
    exp.Mod: lambda a, b: a % b if b else None,
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

    @cached_property
    def tree(self) -> exp.Expr:
        try:
            return sqlglot.parse_one(self.text, read="duckdb")
        except sqlglot.errors.SqlglotError as error:
            raise ConfigurationError(f"when: {self.text!r} is no SQL expression: {error}") from None

    @property
    def columns(self) -> frozenset[str]:
        """The columns it reads."""
        return frozenset(column.parts[0].name for column in self.tree.find_all(exp.Column))

    def check(self) -> None:
        """Raises ConfigurationError where the expression uses what is not understood here."""
        for node in self.tree.walk():
            if not isinstance(node, KNOWN):
                raise ConfigurationError(
                    f"when: {self.text!r} uses {node.sql()!r}, which is not understood here; compare columns with "
                    "=, <, >, IN, BETWEEN, LIKE, IS NULL, and join with AND, OR, NOT"
                )

    def applies(self, item: Item) -> bool:
        return _value(self.tree, item) is True


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
            return node.this if node.is_string else float(node.this)
        case exp.Boolean():
            return node.this
        case exp.Null():
            return None
        case exp.And() | exp.Or():
            decisive = isinstance(node, exp.Or)
            sides = (_value(node.this, item), _value(node.expression, item))
            return decisive if decisive in sides else None if None in sides else not decisive
        case exp.Not():
            value = _value(node.this, item)
            return None if value is None else not value
        case exp.Is():
            return _value(node.this, item) is _value(node.expression, item)
        case exp.In():
            options = [_value(option, item) for option in node.expressions]
            value = _value(node.this, item)
            return None if value is None else True if value in options else None if None in options else False
        case exp.Between():
            value, low, high = (_value(node.args[name], item) for name in ("this", "low", "high"))
            return None if None in (value, low, high) else low <= value <= high
        case exp.Like() | exp.ILike():
            value, pattern = _value(node.this, item), _value(node.expression, item)
            if value is None or pattern is None:
                return None
            wild = "".join({"%": ".*", "_": "."}.get(sign, re.escape(sign)) for sign in pattern)
            flags = re.DOTALL | (re.IGNORECASE if isinstance(node, exp.ILike) else 0)
            return re.fullmatch(wild, value, flags) is not None
        case exp.Bracket():
            values, index = _value(node.this, item), _value(node.expressions[0], item)
            if values is None or index is None:
                return None
            position = int(index)  # sqlglot has turned SQL's 1-based index into a 0-based one
            return values[position] if 0 <= position < len(values) else None
        case exp.Dot():
            value = _value(node.this, item)
            return None if value is None else value[node.expression.name]
        case _ if type(node) in BINARY:
            left, right = _value(node.this, item), _value(node.expression, item)
            return None if left is None or right is None else BINARY[type(node)](left, right)
        case _:
            value = _value(node.this, item)
            return None if value is None else FUNCTIONS[type(node)](value)


KNOWN: tuple[type[exp.Expr], ...] = (
    exp.Paren, exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.And, exp.Or, exp.Not, exp.Is,
    exp.In, exp.Between, exp.Like, exp.ILike, exp.Bracket, exp.Dot, *BINARY, *FUNCTIONS,
)  # fmt: skip
