"""YAML files of users as pydantic models, with errors that name file, line and remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from swath.schemas.errors import ConfigurationError

BOOL = "tag:yaml.org,2002:bool"
MAX_BYTES = 1 << 20
"""Size of a file that is still read."""

Place = tuple[str | int, ...]
Kind = TypeVar("Kind", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Takes `on`, `off`, `yes` and `no` for the texts they are, as YAML 1.2 does."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def value_of(text: str) -> Any:
    """A single YAML value; raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Place, int]]:
    """The mapping in a file and the line of every value and key in it; raises ConfigurationError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"{path}: larger than {MAX_BYTES} bytes; that is no file of settings")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not valid YAML: it is no UTF-8 text") from None
    return parse_yaml(text, str(path))


def parse_yaml(
    text: str, origin: str, wanted: str = "must be a mapping of names to values"
) -> tuple[dict[str, Any], dict[Place, int]]:
    """The mapping in a text and the line of every value and key in it; raises ConfigurationError."""
    try:
        _refuse_aliases(text, origin)
        node = yaml.compose(text, Loader=_Loader)
        values = value_of(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{origin}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(values, dict) or node is None:
        raise ConfigurationError(f"{origin}: {wanted}; found {str(values)[:60]!r}")
    return values, dict(_lines(node, origin))


def model_of(kind: type[Kind], values: Mapping[str, Any], origin: Path | str, lines: Mapping[Place, int]) -> Kind:
    """The model of the values; a ConfigurationError names the line of what is wrong and the fields there are."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = [part for part in first["loc"] if _known(part, lines) or isinstance(part, int)]
        message = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "unknown field; take it out, or mend its name"
        if first["type"] == "string_type":
            message = f"must be a text; YAML takes this for {first['input']!r}: put it in quotes"
        name = ".".join(str(part) for part in where)
        raise ConfigurationError(
            f"{place(origin, lines, tuple(where))}: {f'{name}: ' if name else ''}{message}"
        ) from None


def place(origin: Path | str, lines: Mapping[Place, int], where: Sequence[str | int]) -> str:
    """`file:line` of a place, or of the nearest one around it."""
    where = tuple(where)
    for end in range(len(where), -1, -1):
        if where[:end] in lines:
            return f"{origin}:{lines[where[:end]]}"
    return str(origin)


def _known(part: str | int, lines: Mapping[Place, int]) -> bool:
    """Whether a part of an error's place stands in the file (pydantic adds the names of union members)."""
    return any(part in known for known in lines)


def _refuse_aliases(text: str, origin: str) -> None:
    """Aliases of aliases make gigabytes of a few lines, and no settings need them."""
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ConfigurationError(f"{origin}:{line}: aliases are not taken; write the value out")


def _lines(node: yaml.Node, origin: str, at: Place = ()) -> Iterator[tuple[Place, int]]:
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in first:
                raise ConfigurationError(f"{origin}:{line}: {key.value!r} stands in line {first[key.value]} already")
            first[key.value] = line
            yield from _lines(value, origin, (*at, key.value))
            yield (*at, key.value), line
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, origin, (*at, index))
