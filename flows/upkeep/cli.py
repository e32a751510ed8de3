"""`swath maintain` and `swath forget`. Only what `--help` needs is imported at the top."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from swath.flows.console.command import busy, out
from swath.flows.console.options import HOUSE, Json, Warehouse, examples

app = typer.Typer()


@app.command(
    epilog=examples(
        "swath maintain --dry-run",
        "swath maintain --older-than 30d --keep-snapshots 10",
        "swath maintain --retention 'dt>400d' --gone-older-than 30d",
        "swath maintain --table photos --retention 'site=test/*' --json",
    )
)
def maintain(
    table: Annotated[list[str] | None, typer.Option(help="Only this table; may be repeated.")] = None,
    target_size: Annotated[
        str, typer.Option(help="Size to which small files of a cell are written together.")
    ] = "128MB",
    older_than: Annotated[
        str | None, typer.Option(help="Expire snapshots replaced longer ago; at least 1h.", show_default="7d")
    ] = None,
    keep_snapshots: Annotated[int, typer.Option(min=1, help="Keep the newest N, whatever their age.")] = 1,
    retention: Annotated[
        list[str] | None,
        typer.Option(
            help="Drop partitions, and leave them out of runs to come: 'dt>400d' (older than), 'dt<2026-01-01', "
            "'site=a/*: dt>90d', or a glob such as 'site=test/*'; may be repeated. 'off' lets runs take them again."
        ),
    ] = None,
    gone_older_than: Annotated[
        str | None, typer.Option(help="Erase rows of objects gone for longer, e.g. 30d.")
    ] = None,
    orphans_older_than: Annotated[str, typer.Option(help="Sweep files nobody refers to; at least 1d.")] = "1d",
    manifests_older_than: Annotated[str, typer.Option(help="Delete manifests of runs that ended longer ago.")] = "90d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done. Does nothing.")] = False,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Tidy a warehouse: compaction, snapshot expiry, orphans, staging, retention. Safe while runs publish."""
    from datetime import UTC, datetime

    from swath.flows.upkeep import units
    from swath.flows.upkeep.maintain import Policy, lift_retention, maintain
    from swath.flows.upkeep.report import print_report
    from swath.flows.upkeep.retention import parse
    from swath.schemas.errors import ConfigurationError

    rules = retention or []
    if "off" in rules:
        if len(rules) > 1 or dry_run:
            raise ConfigurationError("--retention off stands alone: it lets runs take all partitions again")
        lift_retention(warehouse, tuple(table or ()))
        rules = []
    policy = Policy(
        tables=tuple(table or ()),
        target_bytes=units.size(target_size),
        older_than=units.age(older_than) if older_than else None,
        keep_snapshots=keep_snapshots,
        retention=tuple(parse(rule, datetime.now(UTC).date()) for rule in rules),
        gone_older_than=units.age(gone_older_than) if gone_older_than else None,
        orphans_older_than=units.age(orphans_older_than),
        manifests_older_than=units.age(manifests_older_than),
        dry_run=dry_run,
    )
    with busy("looking at the warehouse" if dry_run else "tidying the warehouse"):
        report = maintain(warehouse, policy)
    if as_json:
        print(report.model_dump_json(indent=1))
    else:
        print_report(out, report)


@app.command(
    epilog=examples(
        "swath forget s3://inbox/2026/jane-doe.pdf",
        "swath forget ./scans/jane-doe.pdf --yes --json",
        "swath forget ./scans/jane-doe.pdf --lift",
    )
)
def forget(
    uri: Annotated[list[str], typer.Argument(help="The object's file, as `source_uri` has it; several may be given.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Let runs take it again. Brings nothing back.")] = False,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Erase an object everywhere in a warehouse, for good, and prove it: rows, older snapshots that hold it, artifacts,
    decisions, staging, manifests, records. Runs leave it out from then on. The file itself is left to you."""
    import sys

    from swath.flows.upkeep import leave_out
    from swath.flows.upkeep.forget import find
    from swath.flows.upkeep.forget import forget as erase
    from swath.flows.upkeep.report import print_forgotten
    from swath.flows.upkeep.sought import uri_of
    from swath.infra import storage
    from swath.schemas.errors import ConfigurationError

    house = storage.normalize(warehouse)
    if lift:
        count = leave_out.lift(house, [uri_of(one) for one in uri])
        print(json.dumps({"lifted": count})) if as_json else out.print(f"{count} of {len(uri)} were left out")
        return
    with busy("looking for it"):
        found = find(house, uri)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("what is forgotten does not come back; --yes says that you know")
        rows = sum(table.rows for table in found.tables.values())
        snapshots = sum(len(table.snapshots) for table in found.tables.values())
        out.print(
            f"{len(found.objects)} objects, {len(found.items)} items, {rows:,} rows in {len(found.tables)} tables; "
            f"up to {snapshots:,} snapshots hold it and will expire. The file itself stays where it is."
        )
        typer.confirm("Erase all that, for good?", abort=True)
    with busy("erasing it, and looking through every file"):
        outcome = erase(house, found)
    if as_json:
        print(json.dumps({**outcome.model_dump(mode="json"), "done": outcome.done}, indent=1))
    else:
        print_forgotten(out, outcome)
    if not outcome.done:
        raise typer.Exit(1)
