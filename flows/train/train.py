"""One training from labelled pictures to a model file, its card and its curves.

It runs in this process: Ray Train spreads a training over several cards or machines, and on the one card or CPU that is
meant here it would add an actor, its start and a second checkpoint, and no speed.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swath.flows.train.card import Card, markdown, title
from swath.flows.train.curves import curves
from swath.flows.train.data import Kind, Labelled, group_by, require
from swath.flows.train.fit import CHECKPOINT, Figures, FitOptions, curve_of, fit
from swath.flows.train.pictures import Looked, Seen, look_over
from swath.flows.train.split import Split, split
from swath.flows.train.task import Row, Settings
from swath.operators.models.info import ModelInfo, write_weights
from swath.operators.models.nets import OURS
from swath.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from swath.flows.train.task import Task

MODEL, CARD, CURVES, TRAINING = "model.safetensors", "model.md", "curves.svg", "training.json"
NETWORKS: dict[Kind, str] = {"classify": "mobilenet_v3_small", "segment": "swath.unet", "detect": "swath.centers"}
"""What is fitted where nobody names another."""
START: dict[Kind, str] = {"classify": "swath:image_kind"}
"""What is started from where nobody names a model or an architecture."""
EVALUATIONS = 20


@dataclass(frozen=True)
class Job:
    """What is to be trained, and where it goes."""

    labelled: Labelled
    out: Path
    settings: Settings
    model: str | None = None
    """The model to start from; None: random weights."""
    architecture: str | None = None
    resume: bool = False
    licence: str | None = None
    command: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came out of it."""

    model: Path
    info: ModelInfo
    figures: Figures
    rows: list[Row]
    baselines: dict[str, float]
    best: str
    split: Split
    looked: tuple[Looked, ...]
    notes: tuple[str, ...]
    seconds: float
    steps: int
    kept: int
    stopped: str


@dataclass(frozen=True)
class Watch:
    """Who is told how it goes."""

    looked: Callable[[int, int], None] = lambda done, of: None
    begun: Callable[[str, str], None] = lambda network, split: None
    step: Callable[[int], None] = lambda done: None
    line: Callable[[dict[str, float]], None] = lambda line: None


def train(job: Job, watch: Watch = Watch()) -> Outcome:
    """Looks the pictures over, splits them, fits, measures, and writes model, card and curves to the folder.

    Raises ConfigurationError and SourceError in plain sentences where it cannot be.
    """
    import torch

    settings = job.settings
    check_folder(job.out, job.resume)
    grouped = tuple(group_by(job.labelled.samples, settings.group))
    seen = look_over(replace(job.labelled, samples=grouped), lambda done: watch.looked(done, len(grouped)))
    sides = split(seen.looked, job.labelled.classes, job.labelled.kind, settings.held_out, settings.seed)
    _check_known(job.labelled, sides)
    torch.manual_seed(settings.seed)
    task = make(job.labelled, sides, settings, job.model, job.architecture)
    _keep(job, seen, sides)
    watch.begun(task.begun.said, sides.said)
    options = _fit_options(task, settings)
    fitted = fit(task.module, _counted(task, watch), task.loss, task.evaluate, options, job.out, watch.line)
    task.module.load_state_dict(fitted.state)
    with torch.inference_mode():
        info, figures, rows = task.finish(task.module.eval())
    baselines = task.baselines()
    info = info.model_copy(
        update={
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "licence": job.licence,
            "figures": {name: round(value, 5) for name, value in figures.items()},
        }
    )
    write_weights(job.out / MODEL, fitted.state, info)
    outcome = Outcome(
        job.out / MODEL, info, figures, rows, baselines, _headline(task), sides, seen.looked,
        (*seen.notes, *sides.notes), fitted.seconds, fitted.steps, fitted.step, fitted.stopped,
    )  # fmt: skip
    _write_card(job, seen, task, outcome)
    (job.out / CHECKPOINT).unlink(missing_ok=True)
    return outcome


def make(labelled: Labelled, sides: Split, settings: Settings, model: str | None, architecture: str | None) -> Task:
    """The training of that kind. Raises ModelError where its network cannot be built."""
    named = architecture or NETWORKS[labelled.kind]
    match labelled.kind:
        case "classify":
            from swath.flows.train.classify import Classification

            return Classification(labelled, sides, settings, model, named)
        case "segment":
            from swath.flows.train.segment import Segmentation

            return Segmentation(labelled, sides, settings, model, named)
        case _:
            from swath.flows.train.detect import Detection

            return Detection(labelled, sides, settings, model, named)


def check_folder(out: Path, resume: bool) -> None:
    """Nothing is overwritten, and nothing that has changed is gone on with."""
    done, begun = (out / MODEL).exists(), (out / CHECKPOINT).exists()
    require(not done, f"{out}: holds a trained model already; name another folder, or start from it: "
            f"--from {out / MODEL}")  # fmt: skip
    require(resume or not begun, f"{out}: holds an unfinished training; --resume goes on with it")
    require(begun or not resume, f"{out}: there is no unfinished training to go on with; leave --resume out")
    out.mkdir(parents=True, exist_ok=True)


def _check_known(labelled: Labelled, sides: Split) -> None:
    """Every class must be among what is learnt from."""
    for at, name in enumerate(labelled.classes):
        there = sum(view.looked.amounts[at] for view in sides.train)
        require(there > 0, f"no picture that can be learnt from has the class {name!r}; add some, or leave it out")


def _keep(job: Job, seen: Seen, sides: Split) -> None:
    """What a resumed training must be the same in."""
    pictures = sorted(f"{one.digest} {one.sample.page} {one.group} {one.amounts}" for one in seen.looked)
    said = {
        "kind": job.labelled.kind,
        "from": job.model,
        "architecture": job.architecture,
        "classes": list(job.labelled.classes),
        "pictures": hashlib.sha256("\n".join(pictures).encode()).hexdigest(),
        **job.settings.model_dump(mode="json", exclude={"workers", "device", "checkpoint_seconds"}),
    }
    path = job.out / TRAINING
    if job.resume and path.exists():
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in said if before.get(name) != said[name]]
        if other:
            was = ", ".join(f"{name} ({before.get(name)} before)" for name in other if name != "pictures")
            raise ConfigurationError(
                f"{job.out}: cannot go on, because {was or 'the pictures or their labels'} changed since it began; "
                "give the command as it was, or train anew in another folder"
            )
    path.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    sides.save(job.out)


def _fit_options(task: Task, settings: Settings) -> FitOptions:
    steps = settings.steps
    return FitOptions(
        steps=steps,
        seconds=settings.minutes * 60 if settings.minutes else None,
        learning_rate=settings.learning_rate or task.rate,
        ema=min(0.999, max(0.5, 1 - 10 / steps)),
        evaluate_every=max(1, round(steps / EVALUATIONS)),
        best=task.best,
        best_is=task.best_is,
        patience=settings.patience,
        checkpoint_seconds=settings.checkpoint_seconds,
        precision=settings.precision,
        device=settings.device,
        seed=settings.seed,
    )


def _counted(task: Task, watch: Watch) -> Callable[[int], Any]:
    """The task's batches; who watches is told of each."""

    def batches(step: int) -> Any:
        for number, batch in enumerate(task.batches(step), step):
            watch.step(number)
            yield batch

    return batches


def _headline(task: Task) -> str:
    """The figure to compare with what needs no training."""
    return "accuracy" if task.best == "cross_entropy" else task.best


def _write_card(job: Job, seen: Seen, task: Task, outcome: Outcome) -> None:
    lines = curve_of(job.out)
    best = outcome.best
    said = (
        f"{job.labelled.kind}, {task.info.architecture}: {title(best)} {outcome.figures[best]:.3f} on what was held out"
    )
    picture = curves(said, lines, outcome.kept, outcome.baselines, best)
    (job.out / CURVES).write_text(picture, encoding="utf-8")
    ours = task.info.architecture in OURS
    operator = job.labelled.kind
    extra = f"\n    min_score: {outcome.figures['min_score']}" if "min_score" in outcome.figures else ""
    extra += f"\n    slice: {outcome.info.size}" if operator == "segment" and not ours else ""
    card = Card(
        info=outcome.info,
        network=task.begun.said,
        parameters=sum(one.numel() for one in task.module.parameters()),
        pictures=len({view.looked.sample.uri for view in outcome.split.train}),
        sources=len({view.looked.group for view in outcome.split.train}),
        split=outcome.split.said,
        notes=outcome.notes,
        figures=outcome.figures,
        rows=outcome.rows,
        baselines=outcome.baselines,
        best=best,
        settings=[(name, str(value)) for name, value in job.settings.model_dump().items() if value is not None]
        + [("input", f"mean {outcome.info.mean}, std {outcome.info.std}"
            + (", any size" if ours and outcome.info.size is None else f", size {outcome.info.size}"))],
        seconds=outcome.seconds,
        steps=outcome.steps,
        kept=outcome.kept,
        stopped=outcome.stopped,
        machine=machine(job.settings.device),
        command=job.command,
        use=f"- {operator}:\n    model: {outcome.model}{extra}",
    )  # fmt: skip
    (job.out / CARD).write_text(markdown(card), encoding="utf-8")


def machine(device: str | None) -> str:
    """What a training runs on, in words."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU with {threads} thread{'s' if threads > 1 else ''}"
