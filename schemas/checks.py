"""What the audit is asked, what it checked, and what it found."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from swath.schemas.columns import Column, schema_of

CHECKS = (
    Column("run_id", pa.string(), "Run that was audited"),
    Column("wave", pa.int32(), "Wave of the run that was audited"),
    Column("name", pa.string(), "What was checked"),
    Column("success", pa.bool_(), "Whether it holds"),
    Column("severity", pa.string(), "error: holds the wave back when it fails; warning: is only told"),
    Column("source", pa.string(), "reconciliation (is every item there once), budget (rejects), or expectations"),
    Column("partition", pa.string(), "Partition that was judged; null where it was the whole wave"),
    Column("observed", pa.string(), "What was found"),
    Column("expected", pa.string(), "What was asked for"),
)
"""One row a check; the columns of the `checks` view."""

SAMPLE_ROWS = 1_000_000


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.abspath(path)


URI = Annotated[str, AfterValidator(_absolute)]
"""A URI, or a path that is made absolute where the request is made: the worker has a folder of its own."""


class AuditRequest(BaseModel):
    """One wave to judge, before it is published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    wave: int
    staged: tuple[URI, ...]
    """Parquet files of the wave's cells as they will stand, carried rows included."""
    manifest: tuple[URI, ...]
    """Parquet files with the wave's items (column `item_id`)."""
    carried: int = 0
    """Rows of the cells that the wave did not process: carried over, or marked as gone."""
    untouched: tuple[URI, ...] = ()
    """Published Parquet files of the same partitions' other cells; error budgets judge the whole partition."""
    expectations: tuple[str, ...] = ()
    """Names of shipped suites or paths to YAML files."""
    base: URI = Field(default_factory=os.getcwd)
    """Folder from which relative paths in `expectations` start."""
    max_rejects: float = Field(default=0.02, ge=0, le=1)
    docs: URI | None = None
    """Folder that gets the Data Docs page; None: no page."""
    sample_rows: int = Field(default=SAMPLE_ROWS, ge=1)
    """Rows that a suite judges at most; more are sampled, and the check says so."""


@dataclass(frozen=True)
class Check:
    """One question about a wave, and its answer."""

    name: str
    success: bool
    observed: str
    expected: str
    source: Literal["reconciliation", "budget", "expectations"]
    partition: str | None = None
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class AuditReport:
    """All checks of one wave; it may be published where `success` is true."""

    run_id: str
    wave: int
    success: bool
    checks: tuple[Check, ...]
    seconds: float
    docs: str | None = None
    """Where the Data Docs page is."""

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that hold the wave back."""
        return tuple(check for check in self.checks if not check.success and check.severity == "error")

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> AuditReport:
        fields = json.loads(text)
        return cls(**{**fields, "checks": tuple(Check(**check) for check in fields["checks"])})

    def table(self) -> pa.Table:
        """One row a check, with the columns of CHECKS."""
        rows = [{"run_id": self.run_id, "wave": self.wave, **asdict(check)} for check in self.checks]
        return pa.Table.from_pylist(rows, schema=schema_of(CHECKS))
