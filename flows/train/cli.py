"""`swath train`: models from labelled pictures. Only what `--help` needs is imported at the top."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swath.flows.console.command import busy, err, out
from swath.flows.console.options import Json, examples
from swath.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from swath.flows.train.data import Labelled

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Fit models to labelled pictures, and compare them."
)

Out = Annotated[Path, typer.Option("--output", "-o", help="A new folder for the model, its card and its curves.")]
Images = Annotated[
    str | None, typer.Option(help="Where the pictures are that the labels name; beside the file when left out.")
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="A model to start from: swath:NAME, torchvision:NAME\\[@WEIGHTS], a .safetensors path.",
    ),
]
Architecture = Annotated[
    str | None, typer.Option(help="From random weights: a torchvision model's name, or one of ours.")
]
Steps = Annotated[int, typer.Option(min=1, help="Batches to learn from at most.")]
Minutes = Annotated[float | None, typer.Option(min=0.01, help="Time to train at most.")]
Patience = Annotated[int, typer.Option(min=1, help="Stop after so many of the 20 evaluations without a better one.")]
Size = Annotated[int | None, typer.Option(min=32, max=4096, help="Side in pixels of what the network is shown.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Pictures or crops a step.")]
Rate = Annotated[float | None, typer.Option(min=1e-8, help="Learning rate at its highest.")]
Upright = Annotated[
    bool | None,
    typer.Option("--upright/--any-way-up", help="Whether up is up: pictures are mirrored only, or also turned."),
]
HeldOut = Annotated[float, typer.Option(min=0.02, max=0.8, help="Share held out, to stop early and to measure.")]
Group = Annotated[
    str | None,
    typer.Option(help="Regular expression: paths in which it finds the same are one source, and on one side."),
]
Seed = Annotated[int, typer.Option(min=0, help="Decides the split and everything that is drawn.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the unfinished training in the output folder.")]
Licence = Annotated[str | None, typer.Option(help="Licence of the model, for its card.")]
Compare = Annotated[str | None, typer.Option(help="The model in use: is the new one better on what was held out?")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that decode and draw; useful beside a GPU.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; the GPU where there is one.")]
Masks = Annotated[
    str | None, typer.Option(help="Folder of masks, each called as its picture (or one mask); levels are the classes.")
]
Labels = Annotated[str | None, typer.Option(help="GeoJSON of areas on the ground, for GeoTIFFs.")]
Attribute = Annotated[str | None, typer.Option(help="Property of the GeoJSON that is the class.")]
Classes = Annotated[str | None, typer.Option(help="Names for the levels of the masks, in their order, with commas.")]
Ignore = Annotated[int | None, typer.Option(min=0, help="Level of masks whose pixels do not count.")]
Table = Annotated[str | None, typer.Option(help="A warehouse, instead of DATA: the rows of a published table.")]
Pipeline = Annotated[str | None, typer.Option(help="With --table: whose table.")]
Label = Annotated[str | None, typer.Option(help="With --table: a column of `items`, or SQL such as labels[1].label.")]
Decided = Annotated[bool, typer.Option("--decided", help="With --table: only what reviewers have decided.")]


@app.command(
    epilog=examples(
        "swath train classify ./weeds -o models/weeds --from torchvision:mobilenet_v3_small",
        "swath train classify labels.csv --images s3://field/2026 --group 'plot_[0-9]+' -o models/weeds",
        "swath train classify --table ./warehouse --pipeline photos --label quality_verdict -o models/quality",
    )
)
def classify(
    output: Out,
    data: Annotated[
        str | None, typer.Argument(help="A folder of folders, one a class; or a CSV with image_path,label.")
    ] = None,
    images: Images = None,
    table: Table = None,
    pipeline: Pipeline = None,
    label: Label = None,
    decided: Decided = False,
    model: From = None,
    architecture: Architecture = None,
    steps: Steps = 400,
    minutes: Minutes = None,
    patience: Patience = 8,
    size: Size = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    upright: Upright = None,
    held_out: HeldOut = 0.25,
    group: Group = None,
    seed: Seed = 0,
    workers: Workers = 0,
    device: Device = None,
    licence: Licence = None,
    compare: Compare = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Fit a classifier to pictures with a class each; it starts from swath:image_kind unless told otherwise."""
    found = _classified(data, images, table, pipeline, label, decided)
    _run(found, locals())


@app.command(
    epilog=examples(
        "swath train segment ./photos --masks ./masks --classes soil,plant -o models/plants",
        "swath train segment city.tif --labels buildings.geojson -o models/buildings",
        "swath train segment instances.json --images ./photos --from torchvision:lraspp_mobilenet_v3_large -o models/m",
    )
)
def segment(
    data: Annotated[str, typer.Argument(help="A folder of pictures, a picture, or a COCO json.")],
    output: Out,
    masks: Masks = None,
    labels: Labels = None,
    attribute: Attribute = None,
    classes: Classes = None,
    ignore: Ignore = None,
    images: Images = None,
    model: From = None,
    architecture: Architecture = None,
    steps: Steps = 400,
    minutes: Minutes = None,
    patience: Patience = 8,
    size: Size = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    upright: Upright = None,
    held_out: HeldOut = 0.25,
    group: Group = None,
    seed: Seed = 0,
    workers: Workers = 0,
    device: Device = None,
    licence: Licence = None,
    compare: Compare = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Fit a network that says the class of every pixel."""
    found = _masked(data, masks, labels, attribute, classes, ignore, images)
    _run(found, locals())


@app.command(
    epilog=examples(
        "swath train detect boxes.csv --images ./photos -o models/crowns",
        "swath train detect instances.json -o models/m --from torchvision:fasterrcnn_mobilenet_v3_large_fpn",
    )
)
def detect(
    data: Annotated[str, typer.Argument(help="A CSV with image_path,xmin,ymin,xmax,ymax,label, or a COCO json.")],
    output: Out,
    images: Images = None,
    model: From = None,
    architecture: Architecture = None,
    steps: Steps = 400,
    minutes: Minutes = None,
    patience: Patience = 8,
    size: Size = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    upright: Upright = None,
    held_out: HeldOut = 0.25,
    group: Group = None,
    seed: Seed = 0,
    workers: Workers = 0,
    device: Device = None,
    licence: Licence = None,
    compare: Compare = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Fit a detector to pictures with boxes."""
    found = _boxed(data, images)
    _run(found, locals())


@app.command(
    epilog=examples(
        "swath train superres ./sharp -o models/ours --from swath:super_res_x2 --minutes 30",
        "swath train superres s3://scans/sharp -o models/scans --scale 4 --degradation real",
    )
)
def superres(
    data: Annotated[list[str], typer.Argument(help="Folders of sharp pictures; no labels are needed.")],
    output: Out,
    scale: Annotated[int, typer.Option(help="2 or 4.")] = 2,
    degradation: Annotated[
        str, typer.Option(help="bicubic, or real: blurred before, noisy and JPEG-compressed after.")
    ] = "bicubic",
    model: From = None,
    channels: Annotated[int, typer.Option(min=4, help="Width of the network.")] = 48,
    blocks: Annotated[int, typer.Option(min=1, help="Depth of the network.")] = 4,
    patch: Annotated[int, typer.Option(min=16, help="Side in small pixels of what it learns from.")] = 48,
    steps: Steps = 4000,
    minutes: Minutes = None,
    batch: Annotated[int, typer.Option(min=1, help="Patches a step.")] = 8,
    learning_rate: Annotated[float, typer.Option(min=1e-8, help="At its highest.")] = 1e-3,
    held_out: HeldOut = 0.25,
    group: Group = None,
    seed: Seed = 0,
    device: Device = None,
    licence: Licence = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Fit super-resolution to sharp pictures like those that will be enlarged."""
    from pydantic import ValidationError

    from swath.flows.models import store
    from swath.flows.train import showing
    from swath.flows.train.enlarge import Enlarging, enlarge
    from swath.flows.train.fit import FitOptions
    from swath.flows.train.superres_data import SuperResOptions

    if model is not None:
        store.found(model)
    given = {"scale": scale, "channels": channels, "blocks": blocks, "patch": patch, "batch": batch,
             "degradation": degradation, "seed": seed}  # fmt: skip
    try:
        options = SuperResOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"--{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    seconds = minutes * 60 if minutes else None
    fitting = FitOptions(steps=steps, seconds=seconds, learning_rate=learning_rate, device=device, seed=seed)
    command = shlex.join(["swath", *sys.argv[1:]])
    job = Enlarging(data, output, options, fitting, held_out, group, model, resume, licence, command)
    with showing.watching(err, steps, output) as watch:
        fitted, sides = enlarge(job, watch)
    if as_json:
        print(json.dumps(showing.enlarged_json(fitted, sides.said, output), indent=1))
    else:
        showing.enlarged(out, fitted, output)


@app.command(
    "compare",
    epilog=examples(
        "swath train compare models/new/model.safetensors models/old/model.safetensors boxes.csv",
        "swath train compare new/model.safetensors swath:image_kind ./labelled",
    ),
)
def compare_(
    new: Annotated[str, typer.Argument(help="The new model.")],
    in_use: Annotated[str, typer.Argument(help="The model in use.")],
    data: Annotated[str | None, typer.Argument(help="Labelled pictures, as for the training.")] = None,
    images: Images = None,
    masks: Masks = None,
    labels: Labels = None,
    attribute: Attribute = None,
    classes: Classes = None,
    ignore: Ignore = None,
    table: Table = None,
    pipeline: Pipeline = None,
    label: Label = None,
    decided: Decided = False,
    as_json: Json = False,
) -> None:
    """Compare two models on the same pictures, held out from both, and say whether to switch."""
    from swath.flows.models.store import found
    from swath.flows.train.compare import compare, rows_of
    from swath.flows.train.data import group_by
    from swath.flows.train.pictures import look_over

    with busy("looking at both models"):
        tasks = {found(model).info.task for model in (new, in_use)} - {None}
    if len(tasks) > 1:
        raise ConfigurationError(f"the models do different things ({' and '.join(map(str, tasks))})")
    if tasks == {"segmentation"}:
        labelled = _masked(_given(data), masks, labels, attribute, classes, ignore, images)
    elif tasks == {"detection"}:
        labelled = _boxed(_given(data), images)
    else:
        labelled = _classified(data, images, table, pipeline, label, decided)
    with busy(f"looking at {len(labelled.samples):,} pictures"):
        seen = look_over(_with(labelled, tuple(group_by(labelled.samples, None))))
        views, known = rows_of(new, in_use, seen.looked)
    with busy("running both models"):
        result = compare(new, in_use, labelled, views, known)
    from swath.flows.train.showing import compared, json_of

    if as_json:
        print(json.dumps(json_of(result), indent=1))
    else:
        compared(out, result)


def _run(labelled: Labelled, given: dict[str, Any]) -> None:
    """The training of a command, told on the terminal."""
    from swath.flows.models import store  # models in object stores are fetched
    from swath.flows.train import showing
    from swath.flows.train.compare import compare, must_know, rows_of
    from swath.flows.train.task import Settings
    from swath.flows.train.train import START, Job, train
    from swath.operators.models.reference import shipped

    settings = Settings(**{name: given[name] for name in Settings.model_fields if name in given})
    start = given["model"]
    if start is None and given["architecture"] is None and START.get(labelled.kind) in shipped():
        start = START[labelled.kind]
    if start is not None:
        store.found(start)
    if given["model"] is not None and given["architecture"] is not None:
        raise ConfigurationError("--from brings its architecture; leave --architecture out")
    if given["compare"] is not None:
        store.found(given["compare"])  # what is wrong with it is told before the training, not after it
        must_know(given["compare"], labelled.classes)
    command = shlex.join(["swath", *sys.argv[1:]])
    named, resume, licence = (given[name] for name in ("architecture", "resume", "licence"))
    job = Job(labelled, given["output"], settings, start, named, resume, licence, command)
    with showing.watching(err, settings.steps, job.out) as watch:
        outcome = train(job, watch)
    result = None
    if given["compare"] is not None:
        with busy("comparing with the model in use"):
            new = str(outcome.model)
            views, known = rows_of(new, given["compare"], outcome.looked)
            result = compare(new, given["compare"], labelled, views, known)
    if given["as_json"]:
        print(json.dumps(showing.outcome_json(outcome, result), indent=1))
    else:
        showing.outcome(out, outcome, labelled.kind)
        if result is not None:
            showing.compared(out, result)


# --- where labels come from -----------------------------------------------------------------------------------------


def _classified(
    data: str | None, images: str | None, table: str | None, pipeline: str | None, label: str | None, decided: bool
) -> Labelled:
    from swath.flows.train import sources

    if (data is None) == (table is None):
        raise ConfigurationError("say where the labelled pictures are: DATA, or --table with --pipeline and --label")
    if table is not None:
        if pipeline is None or label is None:
            raise ConfigurationError("--table needs --pipeline and --label: whose rows, and which column is the class")
        return sources.published(table, pipeline, label, decided)
    if _given(data).lower().endswith(".csv"):
        return sources.labels_csv(_given(data), images)
    return sources.folder_per_class(_given(data))


def _masked(
    data: str,
    masks: str | None,
    labels: str | None,
    attribute: str | None,
    classes: str | None,
    ignore: int | None,
    images: str | None,
) -> Labelled:
    from swath.flows.train.coco import coco
    from swath.flows.train.geojson import polygons
    from swath.flows.train.sources import mask_pairs

    names = tuple(name.strip() for name in classes.split(",")) if classes else None
    if data.lower().endswith(".json"):
        return coco(data, "segment", images)
    if (masks is None) == (labels is None):
        raise ConfigurationError("say where the labels of the pictures are: --masks FOLDER, or --labels FILE.geojson")
    return polygons(data, labels, attribute) if labels else mask_pairs(data, masks or "", names, ignore)


def _boxed(data: str, images: str | None) -> Labelled:
    from swath.flows.train.coco import coco
    from swath.flows.train.sources import boxes_csv

    return coco(data, "detect", images) if data.lower().endswith(".json") else boxes_csv(data, images)


def _given(data: str | None) -> str:
    if data is None:
        raise ConfigurationError("say where the labelled pictures are: DATA")
    return data


def _with(labelled: Labelled, samples: tuple[Any, ...]) -> Labelled:
    from dataclasses import replace

    return replace(labelled, samples=samples)
