"""What the network is shown in training: crops, turned, scaled and tinted, each decided by its number alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.flows.train.data import IGNORED, Boxes, Levels
from swath.flows.train.pictures import Pictures
from swath.flows.train.split import View
from swath.operators.core.base import Pixels
from swath.operators.models.info import Three

if TYPE_CHECKING:
    import torch

SCALE = 1.35
"""How much larger or smaller than it is a crop is shown at most."""
Points = npt.NDArray[np.integer]
"""(K, 2): x, y."""
AIMS = 1000
"""Places of a class that crops are drawn around."""
VISIBLE = 0.35
"""Share of a box that must lie in a crop for the object to count as being there."""


@dataclass(frozen=True)
class Look:
    """How a picture is changed before the network sees it."""

    size: int
    mean: Three
    std: Three
    upright: bool
    """Up is up: mirrored at most. Else turned by quarters, too, as pictures from above may be."""


def batches(
    draw: Callable[[np.random.Generator, int], Any],
    seed: int,
    batch: int,
    step: int,
    workers: int,
    collate: Callable[[list[Any]], Any] | None = None,
) -> Iterator[Any]:
    """The batches from a step on, for ever; a drawing is decided by the seed and its number."""
    import torch
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        _Drawings(draw, seed),  # type: ignore[arg-type]
        batch_size=batch,
        sampler=range(step * batch, 1 << 40),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else it draws from the one that a resumed training takes up
    )
    return iter(loader)


class _Drawings:
    def __init__(self, draw: Callable[[np.random.Generator, int], Any], seed: int) -> None:
        self.draw, self.seed = draw, seed

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, number: int) -> Any:
        import torch

        rng = np.random.default_rng([self.seed, number])
        with torch.random.fork_rng(devices=[]):  # the transforms draw from torch's own
            torch.manual_seed(int(rng.integers(1 << 62)))
            return self.draw(rng, number)


def in_turn(count: int, seed: int, number: int) -> int:
    """Which of `count` pictures is drawn: all of them once, in a new order each time round."""
    turn, place = divmod(number, count)
    return int(np.random.default_rng([seed, turn, count]).permutation(count)[place])


def by_area(views: Sequence[View], rng: np.random.Generator) -> View:
    """One of the views, large ones more often."""
    areas = np.array([view.area for view in views], np.float64)
    return views[int(rng.choice(len(views), p=areas / areas.sum()))]


def region(pictures: Pictures, view: View) -> tuple[Pixels, Any]:
    """The view's own part of a picture and of its label, boxes counted from its corner."""
    pixels, label = pictures.load(view.looked.sample)
    part = pixels[view.top : view.bottom, view.left : view.right]
    if isinstance(label, Boxes):
        return part, cut(label, view.left, view.top, view.right, view.bottom)
    return part, label[view.top : view.bottom, view.left : view.right]


def cut(boxes: Boxes, left: int, top: int, right: int, bottom: int) -> Boxes:
    """The boxes in a part of a picture, counted from its corner; those of which little lies in it are left out."""
    inside = np.clip(boxes.corners, (left, top, left, top), (right, bottom, right, bottom))
    sides, whole = inside[:, 2:] - inside[:, :2], boxes.corners[:, 2:] - boxes.corners[:, :2]
    kept = sides.prod(axis=1) >= VISIBLE * whole.prod(axis=1)
    return Boxes(inside[kept] - np.array([left, top, left, top], np.float32), boxes.classes[kept])


def crop(rng: np.random.Generator, height: int, width: int, size: int, aims: Sequence[Points]) -> Any:
    """(left, top, right, bottom) of a square, not larger than the picture; one of two times it holds one of the `aims`,
    each of their groups as often as the others."""
    side = size * SCALE ** rng.uniform(-1, 1)
    across, down = round(min(side, width)), round(min(side, height))
    left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
    if aims and rng.random() < 0.5:
        group = aims[int(rng.integers(len(aims)))]
        x, y = group[int(rng.integers(len(group)))]
        left = int(np.clip(x - rng.integers(across), 0, width - across))
        top = int(np.clip(y - rng.integers(down), 0, height - down))
    return left, top, left + across, top + down


def aims_of(levels: Levels) -> list[Points]:
    """Places of each class but the most frequent one, a thousand at most."""
    counts = np.bincount(levels[levels != IGNORED].ravel(), minlength=1)
    rare = [kind for kind in np.flatnonzero(counts) if kind != counts.argmax()]
    places = [np.argwhere(levels == kind)[:, ::-1] for kind in rare]
    return [one[:: -(-len(one) // AIMS)] for one in places]


def squared(pixels: Pixels, side: int) -> Pixels:
    """Continued by its mirror at the right and below, to a square."""
    down, across = side - pixels.shape[0], side - pixels.shape[1]
    return np.asarray(cv2.copyMakeBorder(pixels, 0, down, 0, across, cv2.BORDER_REFLECT), np.uint8)


def mask_crop(rng: np.random.Generator, pixels: Pixels, levels: Levels, aims: Sequence[Points], look: Look) -> Any:
    """(3, size, size) float32 normalised, and (size, size) int64 classes."""
    import torch
    from torchvision import tv_tensors

    left, top, right, bottom = crop(rng, levels.shape[0], levels.shape[1], look.size, aims)
    side = max(right - left, bottom - top)
    square = squared(pixels[top:bottom, left:right], side)
    part = np.full((side, side), IGNORED, np.uint8)  # what was continued is not learnt
    part[: bottom - top, : right - left] = levels[top:bottom, left:right]
    image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1))))
    image, mask = transform(look)(image, tv_tensors.Mask(torch.from_numpy(part)))
    return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor).long()


def box_crop(rng: np.random.Generator, pixels: Pixels, boxes: Boxes, look: Look, whole: bool) -> tuple[Any, Boxes]:
    """(3, size, size) float32 normalised, and the boxes in it; `whole`: all of the picture, in its own size."""
    import torch
    from torchvision import tv_tensors

    height, width = pixels.shape[:2]
    if not whole:
        middles = ((boxes.corners[:, :2] + boxes.corners[:, 2:]) / 2).astype(np.int64)
        place = crop(rng, height, width, look.size, [middles] if len(middles) else [])
        boxes = cut(boxes, *place)
        pixels = pixels[place[1] : place[3], place[0] : place[2]]
        pixels = squared_grey(pixels, max(pixels.shape[:2]))
    image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))))
    given = tv_tensors.BoundingBoxes(torch.from_numpy(boxes.corners), format="XYXY", canvas_size=pixels.shape[:2])
    image, moved = transform(look, resize=not whole, square=not whole)(image, given)
    corners = moved.as_subclass(torch.Tensor).numpy().astype(np.float32).reshape(-1, 4)
    return image.as_subclass(torch.Tensor), Boxes(corners, boxes.classes)


def squared_grey(pixels: Pixels, side: int) -> Pixels:
    """Filled up at the right and below with its mean: mirrored objects would have no box."""
    down, across = side - pixels.shape[0], side - pixels.shape[1]
    grey = [float(value) for value in pixels.mean(axis=(0, 1))]
    return np.asarray(cv2.copyMakeBorder(pixels, 0, down, 0, across, cv2.BORDER_CONSTANT, value=grey), np.uint8)


def class_crop(pixels: Pixels, look: Look) -> torch.Tensor:
    """(3, size, size) float32 normalised: 40 to 100 % of the picture."""
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))))
    image = v2.RandomResizedCrop(look.size, scale=(0.4, 1.0), ratio=(0.8, 1.25), antialias=True)(image)
    whole: torch.Tensor = transform(look, resize=False)(image).as_subclass(torch.Tensor)
    return whole


def transform(look: Look, resize: bool = True, square: bool = True) -> Any:
    """The changes that leave the label true, by torchvision.transforms.v2."""
    import torch
    from torchvision.transforms import v2

    size = (look.size, look.size)
    quarter = [v2.RandomApply([v2.RandomRotation((90, 90))], p=0.5)] if square else []
    return v2.Compose(
        [
            *([v2.Resize(size, antialias=True)] if resize else []),
            v2.RandomHorizontalFlip(),
            *([] if look.upright else [v2.RandomVerticalFlip(), *quarter]),
            v2.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.02),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(look.mean), list(look.std)),
        ]
    )


def normalised(pixels: Pixels, mean: Three, std: Three) -> npt.NDArray[np.float32]:
    """(3, H, W) float32 as the network takes it, of a picture that nothing was done to."""
    scaled = (pixels / np.float32(255) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1), np.float32)
