"""Fits detectors: our own centre-point network on crops, or torchvision's on whole pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from swath.flows.train import baselines
from swath.flows.train.data import Boxes, Labelled
from swath.flows.train.draw import Look, batches, box_crop, by_area, in_turn, normalised, region
from swath.flows.train.fit import Figures
from swath.flows.train.metrics import Matched, average_precision, best_threshold, clipped, match, mean, objects
from swath.flows.train.pictures import Pictures
from swath.flows.train.split import Split
from swath.flows.train.task import GENTLY, Row, Settings, Start, start
from swath.operators.core.base import Pixels
from swath.operators.image.boxes import Found, joined
from swath.operators.image.tiles import tiles
from swath.operators.models.info import ModelInfo

if TYPE_CHECKING:
    import torch

OURS = "swath.centers"
SIZE, BATCH, RATE = 256, 8, 2e-3
LEAST = 0.02
"""Score from which on a detection counts for the curve of precision over recall."""
TILE, HALO = 1024, 96
SPREAD = 0.12
"""Standard deviation of a centre's hill, as a share of the box: neighbours of the centre are nearly right, too."""
NEAR = 0.5
"""Height of the hill from which on a cell learns the box."""


class Detection:
    """Boxes."""

    best = "ap50"
    best_is: Literal["highest", "lowest"] = "highest"

    def __init__(self, labelled: Labelled, split: Split, settings: Settings, model: str | None, named: str) -> None:
        self.labelled, self.split, self.settings = labelled, split, settings
        self.rate = RATE if model is None else RATE * GENTLY
        self.begun: Start = start("detection", labelled, split, model, named, self._arguments)
        self.module, self.info = self.begun.module, self.begun.info
        self.ours = self.info.architecture == OURS
        if not self.ours:  # torchvision's normalise by themselves, and count the background as a class
            update = {"classes": ("__background__", *labelled.classes), "mean": (0, 0, 0), "std": (1, 1, 1)}
            self.info = self.info.model_copy(update=update)
        self.look = Look(settings.size or SIZE, self.info.mean, self.info.std, settings.upright is True)
        self.pictures = Pictures()
        self.stride = int(self.info.arguments.get("stride", 4))

    def _arguments(self, architecture: str) -> dict[str, Any]:
        count = len(self.labelled.classes)
        return {"classes": count} if architecture == OURS else {"num_classes": count + 1}

    def batches(self, step: int) -> Iterator[Any]:
        settings = self.settings
        collate = None if self.ours else _listed
        return batches(self._draw, settings.seed, settings.batch or (BATCH if self.ours else 2), step, settings.workers,
                       collate)  # fmt: skip

    def _draw(self, rng: np.random.Generator, number: int) -> Any:
        import torch

        train = self.split.train
        view = by_area(train, rng) if self.ours else train[in_turn(len(train), self.settings.seed, number)]
        image, boxes = box_crop(rng, *region(self.pictures, view), self.look, whole=not self.ours)
        if not self.ours:
            return image, {"boxes": torch.from_numpy(boxes.corners), "labels": torch.from_numpy(boxes.classes) + 1}
        return image, *(torch.from_numpy(one) for one in self._maps(boxes))

    def _maps(self, boxes: Boxes) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(classes, h, w) hills, (4, h, w) where the box is, seen from each cell, and (h, w) how much that counts."""
        side = -(-self.look.size // self.stride)
        hills = np.zeros((len(self.labelled.classes), side, side), np.float32)
        shape, weight = np.zeros((4, side, side), np.float32), np.zeros((side, side), np.float32)
        rows, columns = np.mgrid[:side, :side].astype(np.float32)
        for (x_min, y_min, x_max, y_max), kind in zip(boxes.corners / self.stride, boxes.classes, strict=True):
            x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
            width, height = max(x_max - x_min, 0.5), max(y_max - y_min, 0.5)
            across, down = max(SPREAD * width, 0.5), max(SPREAD * height, 0.5)
            cell = (min(int(y), side - 1), min(int(x), side - 1))
            hill = np.exp(-((columns - cell[1]) ** 2 / across**2 + (rows - cell[0]) ** 2 / down**2) / 2)
            hills[kind] = np.maximum(hills[kind], hill)
            nearer = (hill > weight) & (hill >= NEAR)
            seen = np.stack(
                [x - columns, y - rows, np.full_like(hill, np.log(width)), np.full_like(hill, np.log(height))]
            )
            shape[:, nearer], weight[nearer] = seen[:, nearer], hill[nearer]
        return hills, shape, weight

    def loss(self, module: torch.nn.Module, batch: Any) -> torch.Tensor:
        import torch

        if not self.ours:
            images, targets = batch
            lost: dict[str, torch.Tensor] = module(images, targets)
            return torch.stack([one.float() for one in lost.values()]).sum()
        images, hills, shape, weight = batch
        maps = module(images).float()
        count = max(float((hills == 1).sum()), 1.0)
        places = (torch.abs(maps[:, -4:] - shape).sum(dim=1) * weight).sum() / weight.sum().clamp(min=1)
        lost_here: torch.Tensor = focal(maps[:, :-4], hills) / count + places
        return lost_here

    def evaluate(self, module: torch.nn.Module) -> Figures:
        matched = self._held_out(module)
        precision = average_precision(matched, len(self.labelled.classes))
        return {"ap50": mean(precision[:, 0]), "ap": mean(precision), "f1": best_threshold(matched).f1}

    def finish(self, module: torch.nn.Module) -> tuple[ModelInfo, Figures, list[Row]]:
        matched = self._held_out(module)
        precision, at = average_precision(matched, len(self.labelled.classes)), best_threshold(matched)
        figures = {"ap50": mean(precision[:, 0]), "ap": mean(precision), "f1": at.f1, "precision": at.precision,
                   "recall": at.recall, "min_score": round(at.score, 3)}  # fmt: skip
        there = objects(matched, len(self.labelled.classes))
        rows: list[Row] = [
            {"class": name, "objects held out": int(there[number]), "AP at 0.5": float(precision[number, 0]),
             "AP, 0.5 to 0.95": mean(precision[number])}
            for number, name in enumerate(self.labelled.classes)
        ]  # fmt: skip
        return self.info.model_copy(update={"figures": figures}), figures, rows

    def baselines(self) -> dict[str, float]:
        return baselines.boxes(self.split, self.pictures, len(self.labelled.classes))

    def _held_out(self, module: torch.nn.Module) -> list[Matched]:
        found = []
        for view in self.split.held_out:
            pixels, boxes = region(self.pictures, view)
            seen = detections(module, pixels, self.info, self.stride) if self.ours else _torchvision(module, pixels)
            found.append(match(boxes, seen, len(self.labelled.classes)))
        return found


def detections(module: torch.nn.Module, pixels: Pixels, info: ModelInfo, stride: int) -> Found:
    """What our network finds in a picture of any size, tile by tile; an object belongs to the tile with its centre."""
    import torch

    from swath.operators.models.nets.centers import decode

    device = next(module.parameters()).device
    parts = []
    for tile in tiles(pixels.shape[0], pixels.shape[1], TILE, HALO):
        given = torch.from_numpy(normalised(pixels[tile.outer], info.mean, info.std))[None].to(device)
        found = decode(module(given)[0].float().cpu().numpy(), stride, LEAST)
        boxes = found.boxes + np.tile([tile.outer[1].start, tile.outer[0].start], 2)
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        rows, columns = tile.inner
        inside = (x >= columns.start) & (x < columns.stop) & (y >= rows.start) & (y < rows.stop)
        parts.append(Found(boxes, found.scores, found.classes)[inside])
    return clipped(joined(parts), pixels.shape[0], pixels.shape[1])


def focal(logits: torch.Tensor, hills: torch.Tensor) -> torch.Tensor:
    """The focal loss of CenterNet (Zhou et al. 2019, equation 1), summed: what is nearly a centre costs little."""
    from torch.nn import functional

    sure = logits.sigmoid()
    there = (hills == 1).float()
    right = functional.logsigmoid(logits) * (1 - sure) ** 2 * there
    wrong = functional.logsigmoid(-logits) * sure**2 * (1 - hills) ** 4 * (1 - there)
    return -(right + wrong).sum()


def _torchvision(module: torch.nn.Module, pixels: Pixels) -> Found:
    import torch

    device = next(module.parameters()).device
    (found,) = module([torch.from_numpy(normalised(pixels, (0, 0, 0), (1, 1, 1))).to(device)])
    boxes, scores, labels = (found[name].float().cpu().numpy() for name in ("boxes", "scores", "labels"))
    return Found(boxes.astype(np.float64), scores.astype(np.float64), labels.astype(np.int64) - 1)


def _listed(drawn: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [image for image, _ in drawn], [target for _, target in drawn]
