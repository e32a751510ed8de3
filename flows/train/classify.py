"""Fits classifiers: cross entropy, and a temperature so that scores are how often it is right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from swath.flows.train.data import Labelled
from swath.flows.train.draw import Look, batches, class_crop, in_turn, normalised
from swath.flows.train.fit import Figures
from swath.flows.train.metrics import accuracy, confusion, f1, mean
from swath.flows.train.pictures import Pictures
from swath.flows.train.split import Split, View
from swath.flows.train.task import GENTLY, Row, Settings, Start, start
from swath.operators.core.base import Pixels
from swath.operators.models.info import ModelInfo

if TYPE_CHECKING:
    import torch

SIZE, BATCH, RATE = 128, 32, 1e-3
SMOOTHING = 0.05
"""Share of a label that is spread over the other classes (Szegedy et al. 2016)."""


class Classification:
    """Whole pictures, a class each."""

    best = "cross_entropy"
    best_is: Literal["highest", "lowest"] = "lowest"

    def __init__(self, labelled: Labelled, split: Split, settings: Settings, model: str | None, named: str) -> None:
        self.labelled, self.split, self.settings = labelled, split, settings
        self.rate = RATE if model is None else RATE * GENTLY
        size = settings.size or (None if model else SIZE)
        sized = {"num_classes": len(labelled.classes)}
        self.begun: Start = start("classification", labelled, split, model, named, lambda _: sized, size)
        begun = self.begun.info
        side = size or begun.size or 224
        resize = begun.resize if begun.resize and side == begun.size else round(side * 8 / 7)
        self.module, self.info = self.begun.module, begun.model_copy(update={"size": side, "resize": resize})
        self.look = Look(side, self.info.mean, self.info.std, settings.upright is not False)
        self.pictures = Pictures(shorter_side=round(resize * 1.25))
        self.truth = np.array([_class(view) for view in split.held_out], np.int64)

    def batches(self, step: int) -> Iterator[Any]:
        settings = self.settings
        return batches(self._draw, settings.seed, settings.batch or BATCH, step, settings.workers)

    def _draw(self, rng: np.random.Generator, number: int) -> tuple[torch.Tensor, int]:
        view = self.split.train[in_turn(len(self.split.train), self.settings.seed, number)]
        pixels, label = self.pictures.load(view.looked.sample)
        return class_crop(pixels, self.look), int(label)

    def loss(self, module: torch.nn.Module, batch: Any) -> torch.Tensor:
        from torch.nn import functional

        images, classes = batch
        return functional.cross_entropy(_logits(module(images)).float(), classes, label_smoothing=SMOOTHING)

    def evaluate(self, module: torch.nn.Module) -> Figures:
        logits = self._held_out(module)
        counts = confusion(self.truth, logits.argmax(axis=1), len(self.labelled.classes))
        loss = negative_log_likelihood(logits, self.truth, 1.0)
        return {"cross_entropy": loss, "accuracy": accuracy(counts), "f1": mean(f1(counts))}

    def finish(self, module: torch.nn.Module) -> tuple[ModelInfo, Figures, list[Row]]:
        logits = self._held_out(module)
        temperature = best_temperature(logits, self.truth)
        counts = confusion(self.truth, logits.argmax(axis=1), len(self.labelled.classes))
        scores = f1(counts)
        figures = {"accuracy": accuracy(counts), "f1": mean(scores),
                   "cross_entropy": negative_log_likelihood(logits, self.truth, temperature)}  # fmt: skip
        rows: list[Row] = [
            {"class": name, "held out": int(counts[at].sum()), "right": int(counts[at, at]), "F1": float(scores[at])}
            for at, name in enumerate(self.labelled.classes)
        ]
        return self.info.model_copy(update={"temperature": temperature, "figures": figures}), figures, rows

    def baselines(self) -> dict[str, float]:
        usual = np.bincount([_class(view) for view in self.split.train]).argmax()
        return {
            f"always {self.labelled.classes[usual]!r}, the most frequent class": float((self.truth == usual).mean())
        }

    def _held_out(self, module: torch.nn.Module) -> npt.NDArray[np.float64]:
        """(N, classes) logits of the held-out pictures, shown as `classify` shows them."""
        import torch

        device = next(module.parameters()).device
        found = []
        views, step = self.split.held_out, self.settings.batch or BATCH
        for first in range(0, len(views), step):
            shown = [self._shown(view) for view in views[first : first + step]]
            given = torch.from_numpy(np.stack(shown)).to(device)
            found.append(_logits(module(given)).float().cpu().numpy().astype(np.float64))
        return np.concatenate(found)

    def _shown(self, view: View) -> npt.NDArray[np.float32]:
        pixels, _ = self.pictures.load(view.looked.sample)
        return normalised(centre(pixels, self.look.size, self.info.resize or 0), self.info.mean, self.info.std)


def centre(pixels: Pixels, size: int, shorter_side: int) -> Pixels:
    """(size, size, 3): the shorter side brought to `shorter_side`, then the middle of it."""
    height, width = pixels.shape[:2]
    scale = shorter_side / min(height, width)
    whole = (max(size, round(width * scale)), max(size, round(height * scale)))
    shown = cv2.resize(pixels, whole, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (shown.shape[0] - size) // 2, (shown.shape[1] - size) // 2
    return np.asarray(shown, np.uint8)[top : top + size, left : left + size]


def negative_log_likelihood(logits: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], temperature: float) -> float:
    """Mean over the pictures, in nats."""
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    likelihood = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return float(-likelihood[np.arange(len(truth)), truth].mean())


def best_temperature(logits: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]) -> float:
    """What logits are divided by so that the held-out classes are likeliest (Guo et al. 2017), 0.25 to 8."""
    candidates: list[float] = np.geomspace(0.25, 8, 101).tolist()
    lost = [negative_log_likelihood(logits, truth, one) for one in candidates]
    return round(candidates[int(np.argmin(lost))], 4)


def _logits(output: Any) -> torch.Tensor:
    """Of what a torchvision classifier gives: some wrap it while they are trained."""
    logits: torch.Tensor = output.logits if hasattr(output, "logits") else output
    return logits


def _class(view: View) -> int:
    label = view.looked.sample.label
    assert isinstance(label, int)
    return label
