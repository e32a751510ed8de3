"""Suites of expectations in YAML, read and judged by their structure, without importing Great Expectations."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swath.schemas.errors import ConfigurationError


class Expectation(BaseModel):
    """One expectation as Great Expectations writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(pattern=r"^expect_[a-z0-9_]+$")
    kwargs: dict[str, Any]
    meta: dict[str, Any] = {}
    severity: Literal["critical", "warning", "info"] = "critical"
    """critical holds the wave back; the others are only told."""

    def columns(self) -> tuple[str, ...]:
        """The columns it is about; empty where it is about the table's shape."""
        named = [self.kwargs[key] for key in ("column", "column_A", "column_B") if key in self.kwargs]
        return tuple(map(str, [*named, *self.kwargs.get("column_list", ())]))


class SuiteMeta(BaseModel):
    """What we add to a suite; other keys are free for notes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    rows: Literal["ok", "run", "all"] = "ok"
    """ok: the run's rows that were not rejected; run: all rows of the run; all: carried rows too."""


class Suite(BaseModel):
    """A Great Expectations suite, with `meta.rows` saying which rows it judges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    notes: str = ""
    meta: SuiteMeta = SuiteMeta()
    expectations: tuple[Expectation, ...] = Field(min_length=1)


def shipped_suites() -> list[str]:
    """Names of the suites that come with swath."""
    folder = files("swath.schemas") / "expectations"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_suites(names: Sequence[str], base: Path | str = ".") -> list[Suite]:
    """The suites by shipped name or by path to a YAML file, relative ones from `base`; raises
    ConfigurationError with the file and what is wrong in it."""
    return [_load(name, Path(base)) for name in names]


def _load(name: str, base: Path) -> Suite:
    shipped = shipped_suites()
    where = name if name in shipped else str(base / Path(name).expanduser())
    try:
        text = (
            (files("swath.schemas") / "expectations" / f"{name}.yaml").read_text("utf-8")
            if name in shipped
            else Path(where).read_text("utf-8")
        )
        return Suite.model_validate(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError) as error:
        reason = f"cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8 text'})"
        raise ConfigurationError(
            f"suite of expectations {where} {reason}; give one of {', '.join(shipped)} or the path of a YAML file"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where} is no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}" for fault in error.errors()
        )
        raise ConfigurationError(f"{where} is no suite of expectations: {faults}") from error
