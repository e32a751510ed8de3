"""`swath models`. Only what `--help` needs is imported at the top."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from swath.flows.console.command import busy, out
from swath.flows.console.options import Json, examples

if TYPE_CHECKING:
    from swath.operators.models.reference import ModelFile

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="The models that operators can use.")
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="swath:NAME, torchvision:NAME[@WEIGHTS], or a path or URI of .onnx, .pt2, .safetensors."
    ),
]
Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help="As `swath models show` takes them.")]
Sha256 = Annotated[str | None, typer.Option(help="The sha256 that the file must have.")]


@app.command("list", epilog=examples("swath models list", "swath models list --json"))
def list_models(as_json: Json = False) -> None:
    """The models that ship with swath, and those that were fetched to this machine."""
    from swath.flows.console.report import listing, show
    from swath.flows.models import store

    models = store.here()
    if as_json:
        print(json.dumps([_to_json(one) for one in models], indent=1))
        return
    table = listing("model", "what it does", "kB", "sha256", "licence", right=("kB",))
    for one in models:
        size = f"{one.path.stat().st_size / 1000:,.0f}"
        task = (one.info.task or one.info.architecture or "unknown").replace("_", " ")
        table.add_row(escape(one.name), task, size, one.sha256[:12], one.info.licence or "")
    show(out, table)


@app.command("show", epilog=examples("swath models show swath:super_res_x2", "swath models show my/model.safetensors"))
def show_model(model: Model, as_json: Json = False) -> None:
    """What a model is: its task, classes, input, figures, licence, and its card."""
    from swath.flows.models import store

    with busy(f"looking at {model}"):
        file = store.found(model)
    if as_json:
        print(json.dumps(_to_json(file), indent=1))
        return
    said = _to_json(file)
    classes = said.pop("classes", None)
    for name, value in said.items():
        out.print(f"[dim]{name:>13}[/]  {escape(str(value))}", soft_wrap=True)
    if classes:
        few = ", ".join(classes[:12]) + (f" ... {len(classes)} in all" if len(classes) > 12 else "")
        out.print(f"[dim]{'classes':>13}[/]  {escape(few)}", soft_wrap=True)
    if text := store.card(file):
        from rich.markdown import Markdown

        out.print()
        out.print(Markdown(text))


@app.command(
    epilog=examples(
        "swath models pull torchvision:resnet50", "swath models pull s3://models/yolo.onnx --sha256 9f2c..."
    )
)
def pull(models: Models, sha256: Sha256 = None, as_json: Json = False) -> None:
    """Fetch models to this machine, once, so that runs need no network for them."""
    from swath.flows.models import store

    files = []
    for model in models:
        with busy(f"fetching {model}"):
            files.append(store.found(model, sha256))
        if not as_json:
            out.print(f"{escape(model)}: {escape(str(files[-1].path))}  sha256 {files[-1].sha256}", soft_wrap=True)
    if as_json:
        print(json.dumps([_to_json(one) for one in files], indent=1))


@app.command(epilog=examples("swath models verify", "swath models verify swath:denoise my/model.onnx"))
def verify(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="All of this machine if none.")
    ] = None,
    sha256: Sha256 = None,
    as_json: Json = False,
) -> None:
    """Check that models have the digest they should, load, and answer. Exits with 1 where one does not."""
    from swath.flows.models import store
    from swath.schemas.errors import ConfigurationError, SwathError

    names = models or [one.name for one in store.here()]
    if sha256 and len(names) != 1:
        raise ConfigurationError("--sha256 is of one model; name just that one")
    results: list[dict[str, Any]] = []
    for name in names:
        result: dict[str, Any] = {"model": name, "ok": True}
        with busy(f"trying {name}"):
            try:
                checked = store.check(name, sha256)
                result |= {"sha256": checked.file.sha256, "backend": checked.backend}
                result |= {"parameters": checked.parameters, "outputs": [list(one) for one in checked.outputs]}
            except SwathError as error:
                result |= {"ok": False, "error": str(error)}
        results.append(result)
        if not as_json:
            told = f"[green]ok[/]  {result['backend']}" if result["ok"] else f"[red]bad[/] {escape(result['error'])}"
            out.print(f"{escape(name)}: {told}", soft_wrap=True)
    if as_json:
        print(json.dumps(results, indent=1))
    raise typer.Exit(int(not all(result["ok"] for result in results)))


def _to_json(file: ModelFile) -> dict[str, Any]:
    said = file.info.model_dump(mode="json", exclude_defaults=True)
    return {"model": file.name, "path": str(file.path), "bytes": file.path.stat().st_size, "sha256": file.sha256} | said
