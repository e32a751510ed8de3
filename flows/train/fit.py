"""The loop that every training here runs: steps, schedule, averaged weights, checkpoints, early stopping, a log."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from swath.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint.pt"
CURVE = "curve.jsonl"

Figures = dict[str, float]
"""Figure name to its value; by custom: `val_loss`, `psnr`, `accuracy`, `iou`."""
Batches = Callable[[int], Iterator[Any]]
"""The batches from a step on (0: from the start); the same ones whenever it is called, so that a training can be
resumed exactly. Tensors in tuples, lists and dicts are moved to the device."""
Stop = Literal["steps", "seconds", "patience", "data"]
Loss = Callable[["torch.nn.Module", Any], "torch.Tensor"]
"""The loss of the model on one batch; one number with its gradient. Runs under autocast."""
Evaluate = Callable[["torch.nn.Module"], Figures]
"""Figures of the averaged weights, in eval mode, without gradients."""


class FitOptions(BaseModel):
    """How long to train, how fast, and when to stop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(default=None, ge=1)
    """Steps of the whole training, over which the learning rate falls."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall-clock seconds of the whole training, those before a resume counted; whichever limit comes first holds."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """At its highest."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Of tensors with two axes and more; biases and scales are left alone."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.02, ge=0, lt=1)
    """Share of the training over which the learning rate rises."""
    clip: float | None = Field(default=1.0, gt=0)
    """Longest norm of the gradient."""
    ema: float = Field(default=0.999, ge=0, lt=1)
    """Decay per step of the averaged weights, which are those evaluated and kept; 0: no averaging."""
    evaluate_every: int = Field(default=500, ge=1)
    """Steps."""
    best: str | None = None
    """Figure whose best weights are kept; None: the last ones are."""
    best_is: Literal["highest", "lowest"] = "highest"
    patience: int | None = Field(default=None, ge=1)
    """Evaluations with a worse figure than the `best` after which it stops."""
    checkpoint_seconds: float = Field(default=60, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 where the processor or the card computes it faster."""
    device: str | None = None
    """`cpu`, `cuda`; None: a card where there is one."""
    channels_last: bool = True
    seed: int = 0

    @model_validator(mode="after")
    def _ends(self) -> FitOptions:
        if self.steps is None and self.seconds is None:
            raise ValueError("a training needs an end: give `steps` or `seconds`")
        if self.patience is not None and self.best is None:
            raise ValueError("`patience` counts evaluations without a better figure; name that figure in `best`")
        return self


@dataclass(frozen=True)
class Fitted:
    """What came out of a training."""

    state: dict[str, torch.Tensor]
    """The best (or last) averaged weights, on the CPU."""
    figures: Figures
    """Those of `state`."""
    step: int
    """The step `state` is from."""
    steps: int
    seconds: float
    stopped: Stop


def fit(
    model: torch.nn.Module,
    batches: Batches,
    loss: Loss,
    evaluate: Evaluate,
    options: FitOptions,
    folder: Path,
    progress: Callable[[dict[str, float]], None] = lambda line: None,
) -> Fitted:
    """Trains the model, or goes on where the checkpoint in `folder` stopped; `progress` sees each line of the curve.

    Keeps `checkpoint.pt` and `curve.jsonl` in `folder`. Raises ConfigurationError where the loss is no number, or
    where the checkpoint there is of another network.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    run = _Run(model, options, folder)
    run.resume()
    device, bf16 = run.device, half(options, run.device)
    losses: list[torch.Tensor] = []
    for batch in batches(run.step):
        run.learning_rate()
        model.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            value = loss(model, to_device(batch, device))
        run.update(value)
        losses.append(value.detach())
        stopped = run.stopped()
        if stopped or run.step % options.evaluate_every == 0:
            mean = float(torch.stack(losses).float().mean())
            losses.clear()
            if not math.isfinite(mean):
                raise ConfigurationError(
                    f"the loss is no number after {run.step} steps; lower the learning rate ({options.learning_rate})"
                )
            progress(run.measure(mean, evaluate))
            stopped = stopped or run.impatient()
        if stopped or run.due():
            run.save()
        if stopped:
            return run.result(stopped)
    if run.last is None or run.last["step"] != run.step:
        progress(run.measure(float(torch.stack(losses).float().mean()) if losses else math.nan, evaluate))
    run.save()
    return run.result("data")


def half(options: FitOptions, device: torch.device) -> bool:
    """Whether it computes in bf16."""
    import torch

    if options.precision != "auto":
        return options.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device."""
    import torch

    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


class _Run:
    """The state of one training, as it is kept in its checkpoint."""

    def __init__(self, model: torch.nn.Module, options: FitOptions, folder: Path) -> None:
        import copy

        import torch

        self.options, self.folder = options, folder
        self.device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self.model = model.to(device=self.device).to(memory_format=layout)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [one for one in trained if one.ndim > 1], "weight_decay": options.weight_decay},
                {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=options.learning_rate,
        )
        self.trained = trained
        self.step = 0
        self.before, self.started, self.saved = 0.0, time.monotonic(), time.monotonic()
        self.last: dict[str, float] | None = None
        self.best: dict[str, Any] | None = None
        self.worse = 0

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def done(self) -> float:
        """The share of the training that is over."""
        by_steps = self.step / self.options.steps if self.options.steps else 0.0
        return min(1.0, max(by_steps, self.seconds / self.options.seconds if self.options.seconds else 0.0))

    def learning_rate(self) -> None:
        done, warmup = self.done(), self.options.warmup
        factor = 1.0
        if done < warmup:
            factor = max(done / warmup, 0.01)
        elif self.options.schedule == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * factor

    def update(self, loss: torch.Tensor) -> None:
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.options.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, self.options.clip)
        self.optimizer.step()
        self.step += 1
        # A young average forgets faster: it must not remember how the weights were drawn.
        decay = min(self.options.ema, self.step / (self.step + 10)) if self.options.ema else 0.0
        with torch.no_grad():
            for average, current in zip(
                self.average.state_dict().values(), self.model.state_dict().values(), strict=True
            ):
                if average.is_floating_point():
                    average.lerp_(current, 1 - decay)
                else:
                    average.copy_(current)

    def stopped(self) -> Stop | None:
        if self.options.steps is not None and self.step >= self.options.steps:
            return "steps"
        return "seconds" if self.options.seconds is not None and self.seconds >= self.options.seconds else None

    def measure(self, loss: float, evaluate: Evaluate) -> dict[str, float]:
        """Evaluates the averaged weights, keeps them where they are the best, and writes a line of the curve."""
        import torch

        with torch.inference_mode():
            figures = evaluate(self.average)
        rate = self.optimizer.param_groups[0]["lr"]
        self.last = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "learning_rate": rate,
            "loss": loss,
        } | figures
        with (self.folder / CURVE).open("a", encoding="utf-8") as curve:
            curve.write(json.dumps(self.last) + "\n")
        name = self.options.best
        if name is not None and name not in figures:
            raise ConfigurationError(f"`best` names {name!r}, but the evaluation gives {', '.join(sorted(figures))}")
        if name is None or self._better(figures[name]):
            state = {key: value.detach().cpu().clone() for key, value in self.average.state_dict().items()}
            self.best, self.worse = {"step": self.step, "figures": figures, "state": state}, 0
        elif self.best is None or figures[name] != self.best["figures"][name]:
            self.worse += 1  # as good as before does not count: a detector finds nothing at all for a while
        return self.last

    def _better(self, value: float) -> bool:
        if self.best is None:
            return True
        old = self.best["figures"][self.options.best]
        return bool(value > old if self.options.best_is == "highest" else value < old)

    def impatient(self) -> Stop | None:
        return "patience" if self.options.patience is not None and self.worse >= self.options.patience else None

    def due(self) -> bool:
        return time.monotonic() - self.saved >= self.options.checkpoint_seconds

    def save(self) -> None:
        """In place of the last checkpoint, and whole at any moment."""
        import torch

        content = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "best": self.best,
            "worse": self.worse,
        }
        path = self.folder / CHECKPOINT
        beside = path.with_suffix(".new")
        torch.save(content, beside)
        os.replace(beside, path)
        self.saved = time.monotonic()

    def resume(self) -> None:
        import torch

        path, curve = self.folder / CHECKPOINT, self.folder / CURVE
        if not path.exists():
            curve.unlink(missing_ok=True)
            return
        content = torch.load(path, map_location=self.device, weights_only=True)
        try:
            self.model.load_state_dict(content["model"])
            self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            message = f"{path} is a checkpoint of another network; name another folder or delete it ({error})"
            raise ConfigurationError(message) from error
        torch.set_rng_state(content["random"].cpu())
        self.step, self.before = content["step"], content["seconds"]
        self.best, self.worse = content["best"], content["worse"]
        if self.best is not None:
            self.best["state"] = {key: value.cpu() for key, value in self.best["state"].items()}
        # Lines from after the checkpoint are measured again.
        lines = [line for line in curve_of(self.folder) if line["step"] <= self.step]
        curve.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        self.last = lines[-1] if lines else None

    def result(self, stopped: Stop) -> Fitted:
        assert self.best is not None
        best = self.best
        return Fitted(best["state"], best["figures"], best["step"], self.step, round(self.seconds, 1), stopped)


def curve_of(folder: Path) -> list[dict[str, float]]:
    """The lines of a training's curve; empty where there is none."""
    path = folder / CURVE
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
