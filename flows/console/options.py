"""Options that commands share, and the end of their help."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

Warehouse = Annotated[
    str,
    typer.Option(envvar="SWATH_WAREHOUSE", help="Where tables are kept: a folder, s3://, gs:// or az://bucket/prefix."),
]
AsOf = Annotated[
    str | None,
    typer.Option(help="As it stood after this run, or at this time (UTC): 2026-05-01, 2026-05-01T10:30, '2h ago'."),
]
HOUSE = "./warehouse"


class LogFormat(StrEnum):
    """What standard error is for."""

    TEXT = "text"
    JSON = "json"


def _use(log_format: LogFormat | None) -> None:
    if log_format:
        from swath.infra import logs

        os.environ["SWATH_LOG"] = log_format  # for what this process starts as well
        logs.to_standard_error()


Log = Annotated[
    LogFormat | None,
    typer.Option("--log-format", callback=_use, help="json: one object a line on standard error (or SWATH_LOG=json)."),
]


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"[cyan]{line}[/]" for line in lines)
