"""torch.export archives from strangers: looked through before torch reads them, because reading one can run code.

torch.export.load unpickles what an archive calls a constant, evaluates its shape expressions as Python, and looks
operators up by any dotted name below `torch` (torch 2.14, torch/export/pt2_archive/_package.py and
torch/_export/serde/serialize.py). What is let through: plain tensors, operators of aten, prims and torchvision,
arithmetic on shapes.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swath.schemas.errors import ModelError

if TYPE_CHECKING:
    from torch.nn import Module

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.\w+\.\w+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge)"
    r"|torch\.sym_(float|int|max|min|not)"
)
_TENSOR = re.compile(r"(weight|tensor)_\d+")
_SYMBOL = re.compile(r"Symbol\('([su]\d+)'((?:, \w+=(?:True|False))*)\)")
_SHAPE = re.compile(r"(?:[su]\d+|Max|Min|Mod|FloorDiv|Integer|Add|Mul|\d+|[\s+*/(),<>=-])*")
_SPEC = {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", None}
_MOST_JSON = 64 << 20


def load_pt2(path: Path) -> Module:
    """The module of a .pt2 archive. Raises ModelError where reading it could run code that is no network."""
    import torch

    try:
        _look_through(path)
        with _weights_only():
            program = torch.export.load(path)
        for node in program.graph.nodes:
            if node.op == "call_function" and not _known(node.target):
                raise ModelError(f"it calls {node.target}, which is no operator of a network")
        return program.module()
    except ModelError as error:
        raise ModelError(f"model {str(path)!r} is refused: {error}") from error
    except Exception as error:  # zip, json, pickle and torch each have their own
        raise ModelError(f"model {str(path)!r} cannot be read as a torch.export archive: {str(error)[:200]}") from error


def _look_through(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".json"):
                if entry.file_size > _MOST_JSON:
                    raise ModelError(f"{entry.filename} in it is larger than any graph")
                _check(json.loads(archive.read(entry)))


def _check(value: Any) -> None:
    """Of every object in a graph or an index of tensors, however deep: what it calls, what is evaluated, unpickled or
    imported for it."""
    if isinstance(value, list):
        for below in value:
            _check(below)
    if not isinstance(value, dict):
        return
    target = value.get("target")
    if "inputs" in value and isinstance(target, str) and not _OPERATOR.fullmatch(target):
        raise ModelError(f"it calls {target[:80]!r}, which is no operator of a network")
    shape = value.get("expr_str")
    if shape is not None and not (isinstance(shape, str) and _SHAPE.fullmatch(_SYMBOL.sub(r"\1", shape))):
        raise ModelError(f"it has a shape that is computed by {str(shape)[:80]!r}")
    if "path_name" in value and not _TENSOR.fullmatch(str(value["path_name"])):
        raise ModelError(f"it holds {str(value['path_name'])[:80]!r}, which is no tensor")
    for name, below in value.items():
        if name in ("in_spec", "out_spec") and isinstance(below, str):
            _check_spec(json.loads(below) if below else None)
        _check(below)


def _check_spec(spec: Any) -> None:
    """The nesting of arguments: tuples, lists and dicts, whose keys are plain."""
    if isinstance(spec, list):
        for below in spec:
            _check_spec(below)
    if isinstance(spec, dict):
        if spec.get("type") not in _SPEC or "__" in str(spec.get("context")):
            raise ModelError(f"its arguments are {str(spec.get('type'))[:80]!r}, which is no plain nesting")
        _check_spec(spec.get("children_spec"))


def _known(target: Any) -> bool:
    import torch

    if isinstance(target, torch._ops.OpOverload):
        return target.namespace in ("aten", "prims", "torchvision")
    name = f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', '')}"
    return bool(_OPERATOR.fullmatch(name))


@contextmanager
def _weights_only() -> Iterator[None]:
    """torch.export asks for whole pickles where tensors alone do not satisfy it; here it gets tensors or an error."""
    import torch

    load = torch.load

    def tensors(*arguments: Any, **options: Any) -> Any:
        return load(*arguments, **{**options, "weights_only": True})

    torch.load = tensors
    try:
        yield
    finally:
        torch.load = load
