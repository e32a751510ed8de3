"""From the name of an operator to its class; there is no registry to edit."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

import swath.operators
from swath.operators.core.base import Operator
from swath.schemas.errors import ConfigurationError

ENTRY_POINTS = "swath.operators"
"""The entry-point group by which a user's package brings operators."""
NETWORKS = "swath.operators.models.nets."
"""Holds no operator, and imports torch, which every command would have to wait for."""


@cache
def built_in() -> dict[str, type[Operator]]:
    """Every operator of this package, by name."""
    found: dict[str, type[Operator]] = {}
    for module in pkgutil.walk_packages(swath.operators.__path__, swath.operators.__name__ + "."):
        if module.name.startswith(NETWORKS):
            continue
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(value, Operator) and not inspect.isabstract(value) and value.__module__ == module.name:
                found[value.op_name()] = value
    return dict(sorted(found.items()))


def resolve(op: str) -> type[Operator]:
    """The operator class for a built-in name, a dotted path `package.module:Class`, or an entry point.

    Raises ConfigurationError where there is none.
    """
    if ":" in op:
        return _from_path(op)
    if op in built_in():
        return built_in()[op]
    for entry in entry_points(group=ENTRY_POINTS, name=op):
        return _imported(op, entry.load)
    close = difflib.get_close_matches(op, built_in(), 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(built_in())}."
    raise ConfigurationError(f"there is no operator {op!r}; {hint} An operator of your own is `package.module:Class`.")


def _from_path(op: str) -> type[Operator]:
    module, _, name = op.partition(":")
    return _imported(op, lambda: getattr(importlib.import_module(module), name))


def _imported(op: str, find: Callable[[], object]) -> type[Operator]:
    try:
        value = find()
    except Exception as error:  # importing runs the module: whatever its author's mistake raises
        raise ConfigurationError(
            f"operator {op!r} cannot be imported ({type(error).__name__}: {error}); "
            "install its package, set PYTHONPATH to its folder, or mend the module"
        ) from None
    if not (isinstance(value, type) and issubclass(value, Operator)):
        raise ConfigurationError(f"{op!r} is no swath Operator but {value!r}; it must be a subclass of Operator")
    lacking = sorted(value.__abstractmethods__)
    if not isinstance(getattr(value, "version", None), int):
        lacking.append("version: ClassVar[int]")
    if lacking:
        raise ConfigurationError(f"operator {op!r} is not complete; give its class {', '.join(lacking)}")
    return value
