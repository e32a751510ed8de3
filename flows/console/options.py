"""Options that commands share, and the end of their help."""

from __future__ import annotations

from typing import Annotated

import typer

Warehouse = Annotated[
    str, typer.Option(envvar="SWATH_WAREHOUSE", help="Where tables are kept: a folder or s3://bucket/prefix.")
]
AsOf = Annotated[
    str | None,
    typer.Option(help="As it stood after this run, or at this time (UTC): 2026-05-01, 2026-05-01T10:30, '2h ago'."),
]
HOUSE = "./warehouse"
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"[cyan]{line}[/]" for line in lines)
