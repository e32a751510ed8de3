"""From YAML to a pipeline whose operators are real: every column, name and model checked before anything starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pydantic import BaseModel, ValidationError

from swath.flows.pipelines.bands import check_configured
from swath.infra.models import fetch
from swath.operators.core.base import (
    BYTES,
    GEOREF,
    GIVEN,
    GROUND,
    OPEN,
    PIXELS,
    SURROUNDINGS,
    TO_SOURCE,
    Operator,
    configuration,
)
from swath.operators.core.chain import BoundStep
from swath.operators.core.resolve import built_in, resolve
from swath.operators.core.when import When
from swath.operators.image.codec import Decode
from swath.operators.image.formats import EXTENSIONS
from swath.operators.models.reference import use_fetch
from swath.schemas.columns import Column, schema_of
from swath.schemas.errors import ConfigurationError
from swath.schemas.items import MANIFEST, VERDICT
from swath.schemas.located import parse_yaml, place, value_of
from swath.schemas.pipeline import Limits, Pipeline, Source, Step, Table

SHIPPED = Path(__file__).parent
READABLE = frozenset(extension for extensions in EXTENSIONS.values() for extension in extensions)
"""The extensions that pipelines take by default: what `decode` can read."""


@dataclass(frozen=True)
class Loaded:
    """A pipeline and the text it came from, so that an error can name its line."""

    pipeline: Pipeline
    origin: str = "pipeline"
    lines: dict[tuple[str | int, ...], int] | None = None

    def at(self, *path: str | int) -> str:
        """`file:line` of a place in the YAML."""
        return place(self.origin, self.lines or {}, path)


@dataclass(frozen=True)
class Bound:
    """A pipeline with its operators built, its columns known and its fingerprints taken."""

    pipeline: Pipeline
    steps: tuple[BoundStep, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The stored columns of the table, in order."""
        left_out = self.pipeline.table.leave_out
        outputs = [column for step in self.steps for column in step.outputs if column.stored]
        return (*MANIFEST, *(column for column in outputs if column.name not in left_out), *VERDICT)

    @cached_property
    def schema(self) -> pa.Schema:
        return schema_of(self.columns)

    @property
    def step_of(self) -> dict[str, str]:
        """The step that makes a column, for all columns of the table that a step makes."""
        kept = {column.name for column in self.columns}
        return {column.name: step.name for step in self.steps for column in step.outputs if column.name in kept}

    @property
    def fingerprints(self) -> dict[str, str]:
        return {step.name: step.fingerprint for step in self.steps}

    @cached_property
    def models(self) -> dict[str, str]:
        """`name@sha256` of the model of each step that has one."""
        operators = {step.name: step.operator for step in self.steps if step.operator.model_name()}
        return {name: f"{operator.model_name()}@{operator.model_digest()}" for name, operator in operators.items()}

    @property
    def fingerprint(self) -> str:
        """Of the whole: what the steps are, in which order, and which of their columns are left out."""
        return self._whole(self.fingerprints)

    def stale(self, fingerprints: Mapping[str, str], fingerprint: str | None) -> list[str]:
        """The steps, in order, whose results are out of date in rows with these fingerprints; all of them where rows
        may lack a column that was left out and is kept now."""
        if fingerprint not in (digest(list(fingerprints.items())), self._whole(fingerprints)):
            return list(self.fingerprints)
        return [name for name, current in self.fingerprints.items() if fingerprints.get(name) != current]

    def reopens(self, fingerprints: Mapping[str, str], stale: Collection[str]) -> str | None:
        """The first step from which on rejects of rows with these fingerprints begin anew: it is stale itself, or one
        that came after it comes before it now, and has never seen what it rejected."""
        before, now = list(fingerprints), list(self.fingerprints)
        for index, name in enumerate(now):
            if name in stale or not {*now[:index]} <= {*before[: before.index(name)]}:
                return name
        return None

    def needed(self, stale: Collection[str]) -> tuple[BoundStep, ...]:
        """The stale steps, and those that make what these read and the table does not keep, such as pixels."""
        kept = {column.name for column in self.columns}
        steps: list[BoundStep] = []
        wanted: set[str] = set()
        for step in reversed(self.steps):
            if step.name not in stale and not wanted & step.makes:
                continue
            steps.append(step)
            if step.when is None and PIXELS.name not in step.reads:
                wanted -= step.makes  # what came before it is replaced
            wanted |= step.reads - kept
        return tuple(reversed(steps))

    def _whole(self, fingerprints: Mapping[str, str]) -> str:
        left_out = sorted(self.pipeline.table.leave_out)
        steps = list(fingerprints.items())
        return digest([steps, left_out] if left_out else steps)


def shipped() -> list[str]:
    """Names of the pipelines that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load(reference: str) -> Loaded:
    """A shipped pipeline by name, or one from a YAML file; ConfigurationError names file, line and remedy."""
    path = SHIPPED / f"{reference}.yaml" if reference in shipped() else Path(reference)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"there is no pipeline {reference!r}: not one of {', '.join(shipped())}, "
            f"and no YAML file can be read there ({error.strerror})"
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not valid YAML: it is no UTF-8 text") from None
    return parse(text, str(path))


def parse(text: str, origin: str = "pipeline") -> Loaded:
    """A pipeline from YAML text."""
    values, lines = parse_yaml(text, origin, "a pipeline is a `name:` and a list of `steps:`")
    try:
        return Loaded(Pipeline.model_validate(values), origin, lines)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, origin, lines)) from None


SECTIONS: dict[str, type[BaseModel]] = {"source": Source, "table": Table, "limits": Limits}
"""Parts of a pipeline whose fields can be set from outside, beside those of its steps."""


def override(loaded: Loaded, settings: Sequence[str]) -> Loaded:
    """The pipeline with `STEP.FIELD=VALUE` settings applied, where `source`, `table` and `limits` do for a step; VALUE
    is YAML."""
    raw = loaded.pipeline.model_dump(mode="json")
    steps = {step["name"]: step for step in raw["steps"]}
    parts = {name: raw[name] for name in SECTIONS} | {name: step["config"] for name, step in steps.items()}
    for setting in settings:
        where, equals, value = setting.partition("=")
        part, dot, field = where.partition(".")
        if not (equals and dot and field) or part not in parts:
            raise ConfigurationError(
                f"--set {setting}: write STEP.FIELD=VALUE, where STEP is one of {', '.join(steps)}; or, for the "
                f"pipeline itself, {', '.join(SECTIONS)}"
            )
        path = field.split(".")
        target = parts[part]
        try:
            for parent in path[:-1]:
                target = target.setdefault(parent, {})
            target[path[-1]] = value_of(value)
        except yaml.YAMLError:
            raise ConfigurationError(f"--set {setting}: {value!r} is not valid YAML; quote it") from None
        except (AttributeError, TypeError):
            raise ConfigurationError(f"--set {setting}: {'.'.join(path[:-1])!r} has no fields") from None
        op = steps[part]["op"] if part in steps else part
        _must_fit(setting, op, resolve(op) if part in steps else SECTIONS[part], parts[part], path)
    return Loaded(Pipeline.model_validate(raw), loaded.origin, loaded.lines)


def _must_fit(setting: str, called: str, kind: type[BaseModel], config: dict[str, Any], path: list[str]) -> None:
    """Raises ConfigurationError where an operator or section refuses what was set; other errors are found by `bind`."""
    try:
        kind.model_validate(config)
    except ValidationError as error:
        for one in error.errors():
            at = [str(part) for part in one["loc"]]
            if at[: len(path)] == path or path[: len(at)] == at:
                fields = ", ".join(kind.model_fields)
                raise ConfigurationError(f"--set {setting}: {_message(one)}; {called} takes {fields}") from None


def bind(loaded: Loaded | Pipeline) -> Bound:
    """Builds the operators and proves that the pipeline can run; raises ConfigurationError where it cannot."""
    if isinstance(loaded, Pipeline):
        loaded = Loaded(loaded)
    use_fetch(fetch)
    operators = [_operator(loaded, index, step) for index, step in enumerate(loaded.pipeline.steps)]
    operators = _scaled(operators)
    unstored = {column.name for column in (BYTES, OPEN, PIXELS, TO_SOURCE, *GROUND)}
    producers: dict[str, str] = {}
    known = {column.name for column in (*GIVEN, GEOREF, SURROUNDINGS)}
    fingerprints: dict[str, str] = {}
    steps: list[BoundStep] = []
    earlier: list[Column] = []
    for index, (step, operator) in enumerate(zip(loaded.pipeline.steps, operators, strict=True)):
        try:
            operator = operator.following(earlier).settled()
            bound = _bound(step, operator, known, unstored, producers, fingerprints)
            operator.check()
        except ConfigurationError as error:
            raise type(error)(f"{loaded.at('steps', index)}: step {step.name!r}: {error}") from None
        steps.append(bound)
        earlier += [column for column in bound.outputs if column.name not in loaded.pipeline.table.leave_out]
        fingerprints[step.name] = bound.fingerprint
        producers |= dict.fromkeys(bound.makes, step.name)
        known |= producers.keys()
        unstored |= {column.name for column in bound.outputs if not column.stored}
    try:
        check_configured(steps)
    except ConfigurationError as error:
        raise ConfigurationError(f"{loaded.origin}: {error}") from None
    return Bound(loaded.pipeline, _discreet(loaded, steps))


def _discreet(loaded: Loaded, steps: list[BoundStep]) -> tuple[BoundStep, ...]:
    """The steps, those that see a column which the table leaves out told not to quote it in their rejects."""
    left_out = set(loaded.pipeline.table.leave_out)
    made = {column.name: column.stored for step in steps for column in step.outputs}
    for name in sorted(left_out - {name for name, stored in made.items() if stored}):
        why = "is never stored" if name in made else "is not made by any step"
        raise ConfigurationError(
            f"{loaded.at('table', 'leave_out')}: the table cannot leave out {name!r}, which {why}; "
            f"the steps make {_some({name for name, stored in made.items() if stored})}"
        )
    sees = (left_out & (step.reads | {column.name for column in step.outputs}) for step in steps)
    return tuple(replace(step, discreet=bool(seen)) for step, seen in zip(steps, sees, strict=True))


def digest(value: Any) -> str:
    """16 hex digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _operator(loaded: Loaded, index: int, step: Step) -> Operator:
    try:
        kind = resolve(step.op)
        return kind.model_validate(step.config)
    except ConfigurationError as error:
        raise ConfigurationError(f"{loaded.at('steps', index)}: {error}") from None
    except ValidationError as error:
        fields = ", ".join(name for name in kind.model_fields)
        place = (("steps", index, step.op), ("steps", index, "config"), ("steps", index))
        origin = next((p for p in place if p in (loaded.lines or {})), place[-1])
        first = error.errors()[0]
        detail = [str(part) for part in first["loc"]]
        raise ConfigurationError(
            f"{loaded.at(*origin, *detail)}: step {step.name!r}: {'.'.join(detail) or 'configuration'}: "
            f"{_message(first)}; {step.op} takes {fields}"
        ) from None


def _scaled(operators: list[Operator]) -> list[Operator]:
    """Decoding no larger than the readers after it need, where the pipeline does not say how large."""
    result = list(operators)
    for index, operator in enumerate(operators):
        if isinstance(operator, Decode) and operator.min_side is None:
            readers = [later for later in operators[index + 1 :] if PIXELS.name in {c.name for c in later.inputs()}]
            sides = [reader.needs_pixels() for reader in readers]
            if sides and None not in sides:
                largest = max(side for side in sides if side is not None)
                result[index] = operator.model_copy(update={"min_side": largest})
    return result


def _bound(
    step: Step,
    operator: Operator,
    known: set[str],
    unstored: set[str],
    producers: dict[str, str],
    fingerprints: dict[str, str],
) -> BoundStep:
    when = None if step.when is None else When(step.when)
    if when:
        when.check()
        for name in sorted(when.columns & unstored):
            raise ConfigurationError(f"when: {step.when!r} reads {name!r}, which is no value of the table; use another")
    bound = BoundStep(step.name, operator, when)
    for name in sorted(bound.reads - known - operator.optional()):
        what = (
            "put a step `decode` before it"
            if name in (PIXELS.name, TO_SOURCE.name)
            else "put the step that makes it before"
        )
        raise ConfigurationError(
            f"reads a column {name!r} that no earlier step makes; {what} (there are {_some(known)})"
        )
    made = [column.name for column in bound.outputs]
    for name in made:
        taken = f"step {producers[name]!r}" if name in producers else "every item" if name in RESERVED else None
        if taken or made.count(name) > 1:
            raise ConfigurationError(
                f"makes a column {name!r} that {taken or 'it'} has already; give the step a `name:` of its own"
            )
    kind = type(operator)
    identity = [
        # Where a built-in operator's module stands may change, and means nothing.
        kind.op_name() if built_in().get(kind.op_name()) is kind else f"{kind.__module__}:{kind.__qualname__}",
        kind.version,
        configuration(operator),
        operator.model_digest(),
        step.when,
        sorted({fingerprints[producers[name]] for name in bound.reads if name in producers}),
    ]
    return BoundStep(step.name, operator, when, digest(identity))


RESERVED = frozenset(column.name for column in (*GIVEN, *VERDICT, PIXELS, TO_SOURCE))


def _some(known: set[str]) -> str:
    names = sorted(known)
    return ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")


def _explain(error: ValidationError, origin: str, lines: dict[tuple[str | int, ...], int]) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{place(origin, lines, first['loc'])}: {where + ': ' if where else ''}{_message(first)}"


def _message(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown field"
    return str(error["msg"]).removeprefix("Value error, ")
