"""Pipeline: a named, frozen value. The models behind the YAML; operators are names here."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAME = r"^[a-z][a-z0-9_]*$"
RESERVED = {"main", "temp", "system", "information_schema", "pg_catalog", "corrections", "zones", "changes"}
"""What a table cannot be called, because its name is a schema in SQL and these mean something there."""


MIN_WINDOW, MAX_WINDOW = 16, 16_384
"""Pixels of a window's side."""


def snake_case(name: str) -> str:
    """`AssessQuality` as `assess_quality`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Windows(Model):
    """How rasters are cut into the windows that are their items; on a grid that begins at the raster's first pixel."""

    size: float = Field(default=1024.0, gt=0)
    """Length of a window's sides; the last ones of a row and column are shorter."""
    overlap: float = Field(default=0.0, ge=0)
    """How far a window reaches into the next; less than half of `size`."""
    unit: Literal["pixels", "metres"] = "pixels"
    """metres: rounded to whole pixels by the raster's own resolution at its centre, which it must state."""

    @model_validator(mode="after")
    def _overlap_fits(self) -> Windows:
        if self.overlap * 2 >= self.size:
            raise ValueError(f"windows of {self.size:g} cannot overlap by {self.overlap:g}; give less than half")
        if self.unit == "pixels" and not (self.size.is_integer() and self.overlap.is_integer()):
            raise ValueError("windows in pixels have whole sizes and overlaps; write `unit: metres` for others")
        if self.unit == "pixels" and not MIN_WINDOW <= self.size <= MAX_WINDOW:
            raise ValueError(f"windows have {MIN_WINDOW} to {MAX_WINDOW} pixels a side, not {self.size:g}")
        return self


class Source(Model):
    """Which files of a source are taken, and which of them belong together."""

    root: str | None = None
    """URI where the paths begin that globs and patterns see, such as `s3://shop/in`; of a list of files, what is named
    elsewhere is left out. None: the source itself, the bucket of an inventory or of events, or what the URIs of a
    table have in common; then a list's folders are looked for at any depth."""
    include: tuple[str, ...] = ()
    """Globs over the path below the source, whatever their case; empty: every extension the pipeline can read."""
    exclude: tuple[str, ...] = ()
    group: str | None = None
    """Which files are one object: `micasense`, `sequoia`, `dji`, `landsat` or `sentinel2`, by their makers' names; or a
    regular expression over the path with groups `key` and `role`: files with one key. None: every file by itself."""
    pages: bool = True
    """Whether the pages of PDFs and multi-page TIFFs become items; else only the first page is read."""
    windows: Windows | None = None
    """How GeoTIFFs and JPEG 2000 files are cut, each window an item (`windows: {}` for 1024 pixels); their headers
    are read by ranges, the whole file never. Of several pages the first is cut. None: a file is an item, or a page."""


class Step(Model):
    """An operator with its name and configuration in a pipeline."""

    op: str
    """Name of a built-in operator (`decode`), a dotted path (`my_farm.ndre:NDRE`), or an entry point."""
    name: str = Field(default="", pattern=r"^([a-z][a-z0-9_]*)?$")
    """Unique in the pipeline; the operator's own name when left out."""
    when: str | None = None
    """SQL expression over earlier columns; the step applies only to items for which it is true."""
    config: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`decode` and `decode: {max_pixels: 1}` beside the long form."""
        if isinstance(value, str):
            return {"op": value}
        if isinstance(value, dict) and "op" not in value:
            ops = [key for key in value if key not in ("name", "when", "config")]
            if len(ops) != 1 or "config" in value:
                raise ValueError(
                    "a step is one operator (`decode: {max_pixels: 1}`) with `name:` and `when:` beside it, or "
                    f"`op:` with `name:`, `when:` and `config:`; found {', '.join(map(str, value)) or 'nothing'}"
                )
            rest = {key: value[key] for key in ("name", "when") if key in value}
            return {"op": ops[0], "config": {} if value[ops[0]] is None else value[ops[0]], **rest}
        return value

    @model_validator(mode="after")
    def _default_name(self) -> Step:
        if not self.name:
            name = snake_case(self.op.rpartition(":")[2].rpartition(".")[2])
            if not re.match(NAME, name):
                raise ValueError(f"a step cannot be called {name!r} after its operator; give it a `name:`")
            object.__setattr__(self, "name", name)
        return self


class Limits(Model):
    """What one item may cost before it is ended; not part of any fingerprint."""

    seconds: float = Field(default=120, gt=0)
    """Time one item may take in one step's reach before its worker is ended."""
    memory_bytes: int = Field(default=4 << 30, gt=0)
    """Resident memory a worker may have."""
    max_bytes: int = Field(default=512 << 20, gt=0)
    """Size of a file that is still fetched whole; larger ones are rejected as too_large, unread."""


class Table(Model):
    """Where the rows land."""

    name: str = Field(default="", pattern=r"^([a-z][a-z0-9_]*)?$")
    """The pipeline's name when left out."""
    partition_by: str | None = None
    """Pattern over the path below the source, such as `site={site}/dt={date}`."""
    publish: Literal["run", "wave"] = "run"
    """One commit for the whole run, or one a wave."""
    leave_out: tuple[str, ...] = ()
    """Columns that later steps may read but that are never written: the raw `lines` and `text` beside a `redact`."""


class Pipeline(Model):
    """How to read, which operators, which table, which expectations."""

    name: str = Field(pattern=NAME)
    doc: str = ""
    source: Source = Source()
    steps: tuple[Step, ...] = Field(min_length=1)
    table: Table = Table()
    expectations: tuple[str, ...] = ()
    """Names of shipped suites (`photos`) or paths to YAML files of Great Expectations suites."""
    max_rejects: float = Field(default=0.02, ge=0, le=1)
    """Share of a partition's items that may be rejected; never judged on fewer than 5 rejects."""
    limits: Limits = Limits()

    @field_validator("steps")
    @classmethod
    def _unique_names(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        names = [step.name for step in steps]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two steps are called {name!r}; give one of them a `name:` of its own")
        return steps

    @model_validator(mode="after")
    def _default_table(self) -> Pipeline:
        if not self.table.name:
            object.__setattr__(self, "table", self.table.model_copy(update={"name": self.name}))
        if self.table.name in RESERVED:
            raise ValueError(f"a table cannot be called {self.table.name!r}, that name is taken in SQL; choose another")
        return self
