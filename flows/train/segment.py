"""Fits semantic segmentation: cross entropy and the Dice loss, on crops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from swath.flows.train import baselines
from swath.flows.train.data import IGNORED, Labelled
from swath.flows.train.draw import Look, Points, aims_of, batches, by_area, mask_crop, normalised, region
from swath.flows.train.fit import Figures
from swath.flows.train.metrics import Counts, accuracy, confusion, f1, iou, mean
from swath.flows.train.pictures import Pictures
from swath.flows.train.split import Split
from swath.flows.train.task import GENTLY, Row, Settings, Start, start
from swath.operators.core.base import Pixels
from swath.operators.image.tiles import tiles
from swath.operators.models.info import ModelInfo

if TYPE_CHECKING:
    import torch

OURS = "swath.unet"
SIZE, BATCH, RATE = 192, 8, 3e-3
TILE, HALO = 1024, 96
"""Pixels of a side of what is predicted at once, and of what is looked at around it."""


class Segmentation:
    """The class of every pixel."""

    best = "iou"
    best_is: Literal["highest", "lowest"] = "highest"

    def __init__(self, labelled: Labelled, split: Split, settings: Settings, model: str | None, named: str) -> None:
        self.labelled, self.split, self.settings = labelled, split, settings
        self.rate = RATE if model is None else RATE * GENTLY
        self.begun: Start = start("segmentation", labelled, split, model, named, self._arguments)
        self.module, self.info = self.begun.module, self.begun.info
        size = settings.size or SIZE
        if self.info.architecture != OURS:  # which have no scale of their own: windows of this size are shown to it
            self.info = self.info.model_copy(update={"size": size, "resize": None})
        self.look = Look(size, self.info.mean, self.info.std, settings.upright is True)
        self.pictures = Pictures()
        self._aims: dict[tuple[str, int | None], list[Points]] = {}

    def _arguments(self, architecture: str) -> dict[str, Any]:
        return {"classes" if architecture == OURS else "num_classes": len(self.labelled.classes)}

    def batches(self, step: int) -> Iterator[Any]:
        settings = self.settings
        return batches(self._draw, settings.seed, settings.batch or BATCH, step, settings.workers)

    def _draw(self, rng: np.random.Generator, number: int) -> Any:
        view = by_area(self.split.train, rng)
        pixels, levels = region(self.pictures, view)
        key = (view.looked.sample.uri, view.looked.sample.page)
        if key not in self._aims:
            self._aims[key] = aims_of(levels)
        return mask_crop(rng, pixels, levels, self._aims[key], self.look)

    def loss(self, module: torch.nn.Module, batch: Any) -> torch.Tensor:
        from torch.nn import functional

        images, classes = batch
        logits = _logits(module(images)).float()
        return functional.cross_entropy(logits, classes, ignore_index=IGNORED) + dice(logits, classes)

    def evaluate(self, module: torch.nn.Module) -> Figures:
        counts, loss = self._held_out(module)
        return {"cross_entropy": loss, "iou": mean(iou(counts)), "accuracy": accuracy(counts)}

    def finish(self, module: torch.nn.Module) -> tuple[ModelInfo, Figures, list[Row]]:
        counts, _ = self._held_out(module)
        each, scores = iou(counts), f1(counts)
        figures = {"iou": mean(each), "f1": mean(scores), "accuracy": accuracy(counts)}
        figures |= {f"iou_{name}": float(one) for name, one in zip(self.labelled.classes, each, strict=True)
                    if np.isfinite(one)}  # fmt: skip
        simple = baselines.masks(self.split, self.pictures, len(self.labelled.classes))
        rows: list[Row] = []
        for at, name in enumerate(self.labelled.classes):
            others: Row = {f"IoU, {said}": float(values[at]) for said, values in simple.items()}
            row: Row = {
                "class": name,
                "share of pixels": float(counts[at].sum() / counts.sum()),
                "IoU": float(each[at]),
            }
            rows.append(row | {"F1": float(scores[at])} | others)
        return self.info.model_copy(update={"figures": figures}), figures, rows

    def baselines(self) -> dict[str, float]:
        simple = baselines.masks(self.split, self.pictures, len(self.labelled.classes))
        return {said: mean(values) for said, values in simple.items()}

    def _held_out(self, module: torch.nn.Module) -> tuple[Counts, float]:
        """What was said of the held-out pixels, and the mean cross entropy."""
        classes = len(self.labelled.classes)
        counts, lost, pixels = np.zeros((classes, classes), np.int64), 0.0, 0
        for view in self.split.held_out:
            part, levels = region(self.pictures, view)
            likelihood = log_likelihood(module, part, self.info)
            counts += confusion(levels, likelihood.argmax(axis=0), classes)
            known = levels != IGNORED
            there = np.where(known, levels, 0)[None].astype(np.int64)
            lost -= float(np.take_along_axis(likelihood, there, axis=0)[0][known].sum())
            pixels += int(known.sum())
        return counts, lost / max(pixels, 1)


def log_likelihood(module: torch.nn.Module, pixels: Pixels, info: ModelInfo) -> npt.NDArray[np.float32]:
    """(classes, H, W) of a picture of any size, tile by tile."""
    import torch

    device = next(module.parameters()).device
    found: npt.NDArray[np.float32] | None = None
    for tile in tiles(pixels.shape[0], pixels.shape[1], TILE, HALO):
        given = torch.from_numpy(normalised(pixels[tile.outer], info.mean, info.std))[None].to(device)
        part = _logits(module(given)).float().log_softmax(dim=1)[0].cpu().numpy()
        if found is None:
            found = np.empty((len(part), *pixels.shape[:2]), np.float32)
        found[(slice(None), *tile.inner)] = part[(slice(None), *tile.crop)]
    assert found is not None
    return found


def dice(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """1 less the mean Dice coefficient (Milletari et al. 2016) of the classes that are there: small ones count as much
    as large ones."""
    import torch
    from torch.nn import functional

    known = (classes != IGNORED)[:, None]
    likely = logits.softmax(dim=1) * known
    there = functional.one_hot(classes.clamp(max=logits.shape[1] - 1), logits.shape[1]).permute(0, 3, 1, 2) * known
    shared, either = (likely * there).sum((0, 2, 3)), (likely + there).sum((0, 2, 3))
    present = there.sum((0, 2, 3)) > 0
    if not bool(present.any()):
        return logits.sum() * 0
    score: torch.Tensor = 1 - torch.mean((2 * shared[present] + 1) / (either[present] + 1))
    return score


def _logits(output: Any) -> torch.Tensor:
    """Torchvision gives a dict, ours the logits."""
    logits: torch.Tensor = output["out"] if isinstance(output, dict) else output
    return logits
