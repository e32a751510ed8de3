"""Fits super-resolution to a user's own sharp pictures: what `swath train superres` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from swath.flows.train.card import Card, markdown
from swath.flows.train.curves import curves
from swath.flows.train.data import Kind, Labelled, Sample, group_by, pictures_below, pixels_of, require
from swath.flows.train.fit import CHECKPOINT, FitOptions, Fitted, curve_of
from swath.flows.train.pictures import look_over
from swath.flows.train.split import Split, split
from swath.flows.train.superres import arguments_of, save_superres, train_superres
from swath.flows.train.superres_data import Source, SuperResOptions
from swath.flows.train.train import CARD, CURVES, EVALUATIONS, MODEL, Watch, check_folder, machine
from swath.infra import storage
from swath.operators.core.base import Pixels
from swath.schemas.errors import ModelError, SourceError

HELD_OUT_SIDE = 512
"""Pixels of the middle of a held-out picture that is measured."""
BUDGET = 4 << 30
"""Bytes of pictures in memory."""


@dataclass(frozen=True)
class Enlarging:
    """What is to be trained, and where it goes."""

    data: Sequence[str]
    out: Path
    options: SuperResOptions
    fitting: FitOptions
    held_out: float = 0.25
    group: str | None = None
    model: str | None = None
    """The model to start from, of the same channels and blocks."""
    resume: bool = False
    licence: str | None = None
    command: str = ""


def enlarge(job: Enlarging, watch: Watch) -> tuple[Fitted, Split]:
    """Trains on pictures of the folders, holding some sources out; writes model, card and curves.

    Raises ConfigurationError, SourceError.
    """
    check_folder(job.out, job.resume)
    kind: Kind = "classify"  # pictures of one class: the split is by source
    found = [Sample(uri, 0) for folder in job.data for uri in pictures_below(folder).values()]
    require(bool(found), f"{', '.join(job.data)}: holds no pictures", SourceError)
    samples = tuple(group_by(found, job.group))
    labelled = Labelled(kind, samples, ("picture",), f"sharp pictures in {', '.join(job.data)}")
    seen = look_over(labelled, lambda done: watch.looked(done, len(samples)))
    smallest = job.options.patch * job.options.scale
    large = [one for one in seen.looked if min(one.height, one.width) >= smallest]
    require(bool(large), f"all pictures are smaller than a patch ({smallest} pixels); lower --patch")
    held = 3 * sum(one.height * one.width for one in large)
    require(held <= BUDGET, f"{held / 1e9:.1f} GB of pictures do not fit into the memory that is allowed "
            f"({BUDGET / 1e9:.1f} GB); give fewer")  # fmt: skip
    sides = split(large, ("picture",), kind, job.held_out, job.options.seed)
    start = _weights(job.model, job.options) if job.model else None
    watch.begun(f"swath.super_res x{job.options.scale}, from {job.model or 'random weights'}", sides.said)
    fitting = job.fitting.model_copy(
        update={"evaluate_every": max(1, round((job.fitting.steps or 1) / EVALUATIONS)), "best": "psnr_db"}
    )
    learnt = [pixels_of(view.looked.sample.uri) for view in sides.train]
    measured = [_middle(pixels_of(view.looked.sample.uri)) for view in sides.held_out]

    def told(line: dict[str, float]) -> None:
        watch.step(int(line["step"]))
        watch.line(line)

    fitted = train_superres([Source(learnt)], measured, job.options, fitting, job.out, start, told)
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    trained_on = f"{labelled.source}, and pictures that swath draws"
    save_superres(job.out / MODEL, fitted, job.options, licence=job.licence, trained_on=trained_on, date=date)
    sides.save(job.out)
    _write_card(job, fitted, replace(sides, notes=(*seen.notes, *sides.notes)))
    (job.out / CHECKPOINT).unlink(missing_ok=True)
    return fitted, sides


def _weights(model: str, options: SuperResOptions) -> dict[str, Any]:
    """Raises ModelError where it is no such network."""
    from swath.operators.models.files import state_dict
    from swath.operators.models.reference import find_model

    file = find_model(model)
    same = ("channels", "blocks")
    ours = {name: arguments_of(options)[name] for name in same}
    if file.info.architecture != "swath.super_res" or any(file.info.arguments.get(name) != ours[name] for name in same):
        given = {name: file.info.arguments.get(name) for name in same}
        raise ModelError(f"{model!r} ({file.info.architecture}, {given}) cannot be a start for swath.super_res, {ours}")
    return state_dict(file.path)


def _middle(pixels: Pixels) -> Pixels:
    top, left = (max(0, (side - HELD_OUT_SIDE) // 2) for side in pixels.shape[:2])
    return pixels[top : top + HELD_OUT_SIDE, left : left + HELD_OUT_SIDE]


def _write_card(job: Enlarging, fitted: Fitted, sides: Split) -> None:
    from swath.operators.models.info import read_info
    from swath.operators.models.nets.super_res import SuperRes

    plain = fitted.figures["psnr_db"] - fitted.figures["gain_db"]
    simple = {"bicubic enlargement": plain}
    title = f"superres x{job.options.scale}: {fitted.figures['psnr_db']:.2f} dB on what was held out"
    picture = curves(title, curve_of(job.out), fitted.step, simple, "psnr_db")
    (job.out / CURVES).write_text(picture, encoding="utf-8")
    card = Card(
        info=read_info(job.out / MODEL),
        network=f"swath.super_res x{job.options.scale}",
        parameters=sum(one.numel() for one in SuperRes(**arguments_of(job.options)).parameters()),
        pictures=len(sides.train),
        sources=len({view.looked.group for view in sides.train}),
        split=sides.said,
        notes=sides.notes,
        figures=fitted.figures,
        rows=[],
        baselines=simple,
        best="psnr_db",
        settings=[(name, str(value)) for name, value in job.options.model_dump().items()]
        + [(name, str(value)) for name, value in job.fitting.model_dump().items() if value is not None],
        seconds=fitted.seconds,
        steps=fitted.steps,
        kept=fitted.step,
        stopped=fitted.stopped,
        machine=machine(job.fitting.device),
        command=job.command,
        use=f"- super_resolve:\n    model: {storage.local_path(storage.normalize(str(job.out / MODEL)))}",
    )
    (job.out / CARD).write_text(markdown(card), encoding="utf-8")
