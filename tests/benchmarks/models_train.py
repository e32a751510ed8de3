"""What `swath train` learns from few real labels on one CPU thread, and how far that is above what needs no training.

Buildings (half a metre a pixel, grey), plants in pots, and tree crowns, from ../shared/data. Of one picture a part is
held out, with a gap; of two, one. The figures are of what was held out.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tests.benchmarks.machine import REPOSITORY
from tests.benchmarks.report import Bar, Options, Result, say

from swath.flows.train.data import Labelled
from swath.flows.train.fit import curve_of
from swath.flows.train.geojson import polygons
from swath.flows.train.sources import boxes_csv, with_masks
from swath.flows.train.task import Settings
from swath.flows.train.train import Job, Outcome, Watch, train

DATA = (REPOSITORY / ".." / "shared" / "data").resolve()
MARGINS = {"buildings": 0.1, "plants": 0.02, "crowns": 0.3}
"""By how much IoU of the thing, or AP at 0.5, must be above the best of what needs no training."""


def training(options: Options) -> Result:
    """Losses at the beginning and the end, figures by class, baselines, seconds."""
    if not DATA.is_dir():
        return Result(skipped=f"{DATA} is not here")
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    bars = []
    for name, (labelled, settings) in proofs().items():
        steps = 4 if options.quick else settings.steps
        say(f"{name}: {steps} steps")
        with TemporaryDirectory() as folder:
            out = Path(folder) / name
            done = train(Job(labelled, out, settings.model_copy(update={"steps": steps})), Watch(line=_told))
            figures[name] = _figures(done, out)
            if options.pictures:
                options.pictures.mkdir(parents=True, exist_ok=True)
                (options.pictures / f"train_{name}.svg").write_text((out / "curves.svg").read_text())
        what = f"{name}: {figures[name]['figure']} above the best baseline"
        bars.append(Bar(what, figures[name]["margin"], MARGINS[name], "", least=True))
    return Result(figures, bars)


def proofs() -> dict[str, tuple[Labelled, Settings]]:
    """What is learnt from, and how."""
    buildings, plants, trees = DATA / "seg_buildings_rgbnir", DATA / "plant_masks", DATA / "tree_boxes"
    pairs = [
        ("ml_train__images__setaria_small_img.png", "ml_train__masks__setaria_small_img.png"),
        ("setaria_small_plant_rgb.png", "setaria_small_plant_mask.png"),
    ]
    pots = [(f"file://{plants / picture}", f"file://{plants / mask}") for picture, mask in pairs]
    return {
        "buildings": (
            polygons(str(buildings / "sample_geotiff.tif"), str(buildings / "geotiff_labels.geojson"), None),
            Settings(steps=300, size=160, batch=4, patience=20, device="cpu"),
        ),
        "plants": (
            with_masks(pots, ("background", "plant"), None, "plant_masks", ()),
            Settings(steps=100, size=96, batch=6, patience=20, device="cpu"),
        ),
        "crowns": (
            boxes_csv(str(trees / "OSBS_029.csv"), None),
            Settings(steps=160, size=160, batch=6, device="cpu"),
        ),
    }


def _figures(done: Outcome, out: Path) -> dict[str, Any]:
    lines = curve_of(out)
    thing = done.rows[-1]
    simple = [float(value) for name, value in thing.items() if name.startswith("IoU, ")] or [*done.baselines.values()]
    figure = "IoU" if "IoU" in thing else "AP at 0.5"
    return {
        "figure": f"{figure} of {thing['class']}",
        "loss_first": round(lines[0]["loss"], 3),
        "loss_last": round(lines[-1]["loss"], 3),
        "figures": {name: round(value, 3) for name, value in done.figures.items()},
        "classes": done.rows,
        "without_training": {name: round(value, 3) for name, value in done.baselines.items()},
        "margin": round(float(thing[figure]) - max(simple), 3),
        "held_out": done.split.said,
        "seconds": done.seconds,
        "steps": done.steps,
    }


def _told(line: dict[str, float]) -> None:
    say(", ".join(f"{name} {value:.3f}" for name, value in line.items() if name != "learning_rate"))
