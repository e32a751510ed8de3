"""`swath review`: what a person must look at, and what they decide. Only what `--help` needs is imported at the top."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from swath.flows.console.command import busy, err, out
from swath.flows.console.options import HOUSE, Json, Warehouse, examples
from swath.schemas.errors import ConfigurationError, SourceError

if TYPE_CHECKING:
    from swath.flows.review.crops import Crop
    from swath.schemas.review import Rules

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Decide what only a person can decide.")


Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Ask about values less sure than this. [SWATH_REVIEW_THRESHOLD, 0.8]"),
]
Require = Annotated[
    str | None, typer.Option(help="Fields that every document must have, with commas. [SWATH_REVIEW_REQUIRED]")
]
Fields = Annotated[str | None, typer.Option(help="Ask only about these fields, with commas. [SWATH_REVIEW_FIELDS]")]
Pipeline = Annotated[str | None, typer.Option(help="Only of this pipeline.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only what is asked for this reason.")]
By = Annotated[str | None, typer.Option(envvar="SWATH_USER", help="Who decides; who is logged in when left out.")]


class Format(StrEnum):
    json = "json"
    csv = "csv"
    label_studio = "label-studio"


FormatOption = Annotated[Format | None, typer.Option(help="What kind of file; by its suffix when left out.")]


@app.command("list", epilog=examples("swath review list", "swath review list --reason mismatch --threshold 0.9 --json"))
def list_(
    reason: ReasonOption = None,
    pipeline: Pipeline = None,
    threshold: Threshold = None,
    require: Require = None,
    fields: Fields = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 50,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """List what is to be decided, document by document."""
    rows = _waiting(warehouse, _rules(threshold, require, fields), pipeline, reason)
    if as_json:
        _print_json(rows[:limit])
        return
    if not rows:
        out.print("nothing to decide")
        return
    from swath.flows.console.report import show
    from swath.flows.review import showing

    show(out, showing.to_decide(rows[:limit]))
    more = f"; the first {limit} shown, --limit shows more, --fields asks for less" if len(rows) > limit else ""
    documents = len({(row["pipeline"], row["object_id"]) for row in rows})
    said = "1 document" if documents == 1 else f"{documents:,} documents"
    out.print(f"{len(rows):,} to decide in {said}{more}", soft_wrap=True)


@app.command("next", epilog=examples("swath review next --crop look.jpg", "swath review next --reason mismatch --json"))
def next_(
    crop: Annotated[Path | None, typer.Option(help="Write the part of the page to this JPEG.")] = None,
    reason: ReasonOption = None,
    pipeline: Pipeline = None,
    threshold: Threshold = None,
    require: Require = None,
    fields: Fields = None,
    skip: Annotated[int, typer.Option(min=0, help="Leave as many aside, where several people decide at once.")] = 0,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Show the next thing to decide, with a crop of its page, and how to decide it."""
    rows = _waiting(warehouse, _rules(threshold, require, fields), pipeline, reason)[skip:]
    if not rows:
        print("null") if as_json else out.print("nothing to decide")
        return
    row = rows[0]
    if crop is not None and (picture := _pictures(warehouse, outline=True)(row)):
        crop.write_bytes(picture.jpeg)
    else:
        crop = None
    if as_json:
        _print_json({**row, "crop": str(crop) if crop else None})
        return
    from swath.flows.review import showing
    from swath.flows.review.desk import ways

    for line in (*showing.one(row), *([showing.labelled("picture", crop)] if crop else [])):
        out.print(line, soft_wrap=True)
    command = f"swath review decide {row['review_id']}"
    out.print(f"{len(rows):,} left; [cyan]{command}[/] with {' or '.join(ways(row))}", soft_wrap=True)


@app.command(
    epilog=examples(
        "swath review decide 0f3a9c21b7d4e856 --value 119.00 --why 'the 7 is a 1'",
        "swath review decide 0f3a9c21b7d4e856 --confirm",
        "swath review decide 9d0c…/fields.purchase_order --value PO-0017",
    )
)
def decide(
    what: Annotated[str, typer.Argument(help="A review id, or ITEM_ID/PATH for any field of a document.")],
    value: Annotated[str | None, typer.Option(help="The right value.")] = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="It is right as it stands.")] = False,
    absent: Annotated[bool, typer.Option("--absent", help="The document has none.")] = False,
    why: Annotated[str | None, typer.Option(help="Why; kept with the decision.")] = None,
    by: By = None,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Take a decision down; earlier ones stay, the latest counts."""
    if (value is not None) + confirm + absent != 1:
        raise ConfigurationError("say one of --value VALUE, --confirm and --absent")
    from swath.flows.review.desk import Wanted
    from swath.flows.review.desk import decide as take_down
    from swath.schemas.corrections import Decision

    decision = Decision.CONFIRMED if confirm else Decision.ABSENT if absent else Decision.CORRECTED
    (row,) = take_down(warehouse, [Wanted(what, decision, value, why, _who(by))])
    if as_json:
        _print_json(row)
    else:
        from swath.flows.review.showing import taken_down

        out.print(taken_down(row), soft_wrap=True)


@app.command(
    epilog=examples(
        "swath review export doubtful.csv",
        "swath review export tasks.json --format label-studio --label-config labels.xml",
    )
)
def export(
    destination: Annotated[str, typer.Argument(help="A file (.csv or .json) or s3:// object to write to.")],
    format: FormatOption = None,
    reason: ReasonOption = None,
    pipeline: Pipeline = None,
    threshold: Threshold = None,
    require: Require = None,
    fields: Fields = None,
    label_config: Annotated[Path | None, typer.Option(help="Write Label Studio's labelling interface here.")] = None,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Write what is to be decided to a file, with room for the answers: decision, after, why, by."""
    from swath.flows.ask.results import whole_file
    from swath.flows.review import exchange, label_studio
    from swath.infra import storage

    rows = _waiting(warehouse, _rules(threshold, require, fields), pipeline, reason)
    with busy(f"writing {len(rows):,} things to decide"):
        text = exchange.write(rows, _format(destination, format), _pictures(warehouse))
    with whole_file(storage.normalize(destination)) as path:
        path.write_text(text, encoding="utf-8")
    if label_config is not None:
        label_config.write_text(label_studio.CONFIG, encoding="utf-8")
    if as_json:
        _print_json({"written": len(rows), "destination": destination})
    else:
        out.print(
            f"{len(rows):,} to decide at {escape(destination)}; `swath review import` takes it back", soft_wrap=True
        )


@app.command(
    "import",
    epilog=examples(
        "swath review import doubtful.csv --by anna", "swath review import done.json --format label-studio"
    ),
)
def import_(
    source: Annotated[str, typer.Argument(help="A file that `swath review export` or Label Studio wrote.")],
    format: FormatOption = None,
    by: By = None,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Take the decisions in a file down: all of them, or none where one is wrong."""
    from swath.flows.review import exchange
    from swath.flows.review.desk import decide as take_down

    wanted = exchange.read(source, _format(source, format), _who(by))
    with busy(f"taking down {len(wanted):,} decisions"):
        rows = take_down(warehouse, wanted) if wanted else []
    counts = {name: sum(row["decision"] == name for row in rows) for name in ("confirmed", "corrected", "absent")}
    if as_json:
        _print_json({"decided": len(rows), **counts})
    else:
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        out.print(f"{len(rows):,} decisions taken down{f' ({said})' if said else '; none is filled in'}")


@app.command(epilog=examples("swath review accuracy", "swath review accuracy --json"))
def accuracy(warehouse: Warehouse = HOUSE, as_json: Json = False) -> None:
    """Show how right the machine was where people decided, by field, document type and engine.

    They decide about the doubtful values, so that of all values a larger share is right.
    """
    from swath.flows.review.accuracy import accuracy as measure

    rows = measure(warehouse)
    if as_json:
        _print_json(rows)
        return
    if not rows:
        out.print("nobody has decided anything yet; `swath review next` shows what there is")
        return
    from swath.flows.console.report import show
    from swath.flows.review.showing import shares

    show(out, shares(rows))


def _waiting(warehouse: str, rules: Rules, pipeline: str | None, reason: str | None) -> list[dict[str, Any]]:
    from swath.flows.review.desk import waiting
    from swath.schemas.review import REASONS

    if reason is not None and reason not in REASONS:
        raise ConfigurationError(f"there is no reason {reason!r}; they are {', '.join(REASONS)}")
    with busy("looking what is to be decided"):
        return waiting(warehouse, rules, pipeline, reason)


def _rules(threshold: float | None, require: str | None, fields: str | None) -> Rules:
    """What the environment says, but for what the options say."""
    from dataclasses import replace

    from swath.flows.ask.reviewed import field_names, review_rules

    rules = review_rules()
    rules = rules if threshold is None else replace(rules, threshold=threshold)
    rules = rules if require is None else replace(rules, required=field_names(require))
    return rules if fields is None else replace(rules, fields=field_names(fields))


def _pictures(warehouse: str, outline: bool = False) -> Callable[[dict[str, Any]], Crop | None]:
    """The crop of a row; none, with a warning, where its source has no picture (any more)."""
    from swath.flows.review.crops import Crops

    crops = Crops(warehouse, outline)

    def picture(row: dict[str, Any]) -> Crop | None:
        try:
            return crops.crop(row)
        except SourceError as error:
            err.print(f"[yellow]without picture:[/] {escape(str(error))}", soft_wrap=True)
            return None

    return picture


def _format(name: str, format: Format | None) -> Any:
    if format is not None:
        return format.value
    suffix = name.rpartition(".")[2].lower()
    if suffix not in ("json", "csv"):
        raise ConfigurationError(f"{name}: say with --format what kind of file it is, or end it in .csv or .json")
    return suffix


def _who(by: str | None) -> str:
    try:
        return by or getpass.getuser()
    except (OSError, KeyError):
        raise ConfigurationError("nobody is logged in; say with --by who decides") from None


def _print_json(value: Any) -> None:
    from swath.flows.ask.results import json_value

    print(json.dumps(json_value(value), indent=1, ensure_ascii=False))
