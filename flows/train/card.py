"""The model card that a training writes: what was learnt from what, how well, and what that does not say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swath.flows.train.task import Row
from swath.operators.models.info import ModelInfo

TITLES = {
    "iou": "mean IoU",
    "f1": "F1",
    "ap50": "AP at IoU 0.5",
    "ap": "AP, IoU 0.5 to 0.95",
    "psnr_db": "PSNR on Y, dB",
    "gain_db": "gain over bicubic, dB",
    "min_score": "score at which F1 is highest",
}


@dataclass(frozen=True)
class Card:
    """What the card of a training says."""

    info: ModelInfo
    network: str
    parameters: int
    pictures: int
    sources: int
    split: str
    notes: Sequence[str]
    figures: Mapping[str, float]
    rows: Sequence[Row]
    baselines: Mapping[str, float]
    best: str
    """The figure that the baselines are of."""
    settings: Sequence[tuple[str, str]]
    seconds: float
    steps: int
    kept: int
    stopped: str
    machine: str
    command: str
    use: str


def markdown(card: Card) -> str:
    """The card as Markdown."""
    classes = card.info.classes or ()
    parts = [
        f"# A model for {card.info.task}",
        f"Trained by `swath train` on {card.info.date}. Usable at once:",
        f"```yaml\n{card.use}\n```",
        "## What it is",
        table(
            [
                {"": "network", " ": card.network},
                {"": "parameters", " ": f"{card.parameters:,}"},
                {"": f"classes ({len(classes)})", " ": ", ".join(classes)},
                {"": "learnt from", " ": f"{card.info.trained_on}: {card.pictures:,} pictures of "
                 f"{card.sources:,} sources"},
                {"": "licence", " ": card.info.licence or "not stated; that of the pictures and labels decides"},
                {"": "held out", " ": card.split},
                {"": "trained for", " ": f"{card.steps:,} steps, {duration(card.seconds)}, on {card.machine}; "
                 f"weights of step {card.kept:,}; stopped by {card.stopped}"},
            ]
        ),
        "## How good it is, on what was held out",
        table([{"figure": title(name), "value": value} for name, value in card.figures.items()
               if not name.startswith("iou_")]),
        table(card.rows),
        compared(card),
        "![loss and figures over the steps](curves.svg)",
        "## What that does not say",
        "\n".join(f"- {note}" for note in limits(card)),
        "## How it was made",
        f"```sh\n{card.command}\n```",
        table([{"setting": name, "value": value} for name, value in card.settings]),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def compared(card: Card) -> str:
    """The sentence about what needs no training."""
    if not card.baselines:
        return ""
    name, value = max(card.baselines.items(), key=lambda one: one[1])
    ours = card.figures.get(card.best, math.nan)
    what = title(card.best)
    rows: list[Row] = [{"without training": said, what: one} for said, one in card.baselines.items()]
    if ours > value:
        said = f"Its {what} of {ours:.3f} is {ours - value:.3f} above the best of what needs no training ({name})."
    else:
        said = (
            f"**Its {what} of {ours:.3f} is not above what needs no training ({name}: {value:.3f}): do not use it.** "
            "More pictures, more steps or another start (`--from`) may help."
        )
    return f"{table(rows)}\n\n{said}"


def limits(card: Card) -> list[str]:
    """What a person must know before they trust the figures."""
    said = [
        "The step whose weights are kept was chosen by the same held-out pictures, so that the figures are a little "
        "better than those of new ones.",
        *card.notes,
    ]
    if card.pictures < 30 or card.sources < 10:
        said.append(f"{card.sources:,} sources are few: expect other figures in other places, seasons and cameras.")
    return said


def table(rows: Sequence[Mapping[str, str | float]]) -> str:
    """A Markdown table; empty where there are no rows."""
    if not rows:
        return ""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'|'.join(_align(rows, name) for name in names)}|"]
    lines += [f"| {' | '.join(cell(row[name]) for name in names)} |" for row in rows]
    return "\n".join(lines)


def title(figure: str) -> str:
    """The name of a figure, for people."""
    return TITLES.get(figure, figure.replace("_", " "))


def cell(value: str | float) -> str:
    if isinstance(value, str):
        return value.replace("|", "\\|").replace("\n", " ")
    if isinstance(value, int):
        return f"{value:,}"
    return "none there" if math.isnan(value) else f"{value:.3f}"


def duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _align(rows: Sequence[Mapping[str, str | float]], name: str) -> str:
    return "---" if isinstance(rows[0][name], str) else "---:"
