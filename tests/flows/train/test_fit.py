"""The training loop on a network of a few weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from swath.flows.train.fit import CHECKPOINT, FitOptions, curve_of, fit
from swath.schemas.errors import ConfigurationError


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(4, 1, 1)
    )


def batches(start: int) -> Iterator[torch.Tensor]:
    for step in itertools.count(start):
        yield torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(step))


def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    wrong: torch.Tensor = (model(batch) - 2 * batch).abs().mean()
    return wrong


def evaluate(model: nn.Module) -> dict[str, float]:
    return {"error": loss(model, next(batches(10_000))).item()}


def test_the_loss_falls_and_the_curve_says_so(tmp_path: Path) -> None:
    options = FitOptions(steps=120, learning_rate=0.02, evaluate_every=30, ema=0.9, precision="fp32", device="cpu")
    seen: list[dict[str, float]] = []
    fitted = fit(network(), batches, loss, evaluate, options, tmp_path, seen.append)
    curve = curve_of(tmp_path)
    assert [line["step"] for line in curve] == [30, 60, 90, 120]
    assert curve == seen
    assert curve[-1]["loss"] < curve[0]["loss"] / 1.2
    assert curve[-1]["learning_rate"] < curve[0]["learning_rate"] / 50
    assert (fitted.steps, fitted.step, fitted.stopped) == (120, 120, "steps")
    model = network()
    model.load_state_dict(fitted.state)
    assert evaluate(model.eval()) == pytest.approx(fitted.figures)


def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    options = FitOptions(
        steps=40, evaluate_every=8, best="error", best_is="lowest", checkpoint_seconds=0, precision="fp32", device="cpu"
    )
    whole = fit(network(), batches, loss, evaluate, options, tmp_path / "whole")

    class Interrupted(Exception):
        pass

    def until(step: int) -> Iterator[torch.Tensor]:
        yield from itertools.islice(batches(step), 21)
        raise Interrupted

    with pytest.raises(Interrupted):
        fit(network(), until, loss, evaluate, options, tmp_path / "parts")
    resumed = fit(network(), batches, loss, evaluate, options, tmp_path / "parts")
    assert resumed.steps == 40
    assert all(torch.equal(resumed.state[name], tensor) for name, tensor in whole.state.items())
    drop = ("seconds", "loss")  # the loss is a mean since the last line, or since the resume
    lines = [
        [{k: v for k, v in line.items() if k not in drop} for line in curve_of(tmp_path / d)]
        for d in ("whole", "parts")
    ]
    assert lines[0] == lines[1]


def test_it_stops_when_the_figure_gets_no_better_and_keeps_the_best(tmp_path: Path) -> None:
    figures = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    options = FitOptions(steps=1000, evaluate_every=2, best="score", patience=2, precision="fp32", device="cpu")
    fitted = fit(network(), batches, loss, lambda model: {"score": next(figures)}, options, tmp_path)
    assert (fitted.stopped, fitted.steps, fitted.step) == ("patience", 8, 4)
    assert fitted.figures == {"score": 3.0}


def test_a_finished_iterator_and_a_time_limit_end_it(tmp_path: Path) -> None:
    options = FitOptions(steps=1000, precision="fp32", device="cpu")
    short = fit(network(), lambda step: itertools.islice(batches(step), 5), loss, evaluate, options, tmp_path / "data")
    assert (short.stopped, short.steps) == ("data", 5)
    timed = FitOptions(seconds=0.2, precision="fp32", device="cpu")
    assert fit(network(), batches, loss, evaluate, timed, tmp_path / "time").stopped == "seconds"


def test_it_trains_in_bf16(tmp_path: Path) -> None:
    options = FitOptions(steps=30, evaluate_every=10, learning_rate=0.02, precision="bf16", device="cpu")
    fit(network(), batches, loss, evaluate, options, tmp_path)
    curve = curve_of(tmp_path)
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    options = FitOptions(steps=4, evaluate_every=2, precision="fp32", device="cpu")
    with pytest.raises(ConfigurationError, match="lower the learning rate"):
        fit(network(), batches, lambda model, batch: loss(model, batch) * math.nan, evaluate, options, tmp_path / "nan")
    named = options.model_copy(update={"best": "iou"})
    with pytest.raises(ConfigurationError, match="'iou', but the evaluation gives error"):
        fit(network(), batches, loss, evaluate, named, tmp_path / "best")
    fit(network(), batches, loss, evaluate, options, tmp_path / "other")
    assert (tmp_path / "other" / CHECKPOINT).exists()
    with pytest.raises(ConfigurationError, match="another network"):
        fit(nn.Conv2d(1, 1, 3, padding=1), batches, loss, evaluate, options, tmp_path / "other")
    with pytest.raises(ValidationError, match="needs an end"):
        FitOptions()
    with pytest.raises(ValidationError, match="name that figure in `best`"):
        FitOptions(steps=1, patience=1)
