"""A compact detector that finds the middle of each object: CenterNet (Zhou et al. 2019, "Objects as Points") on a
small U-Net."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from swath.operators.image.boxes import Found
from swath.operators.models.nets.unet import Trunk, padded

MOST = 1000
"""Objects of one picture, the surest."""


class Centers(nn.Module):
    """(N, 3, H, W) normalised to (N, classes + 4, ceil(H / stride), ceil(W / stride)).

    The first `classes` maps are the logits of a centre being there; then how far right and below the cell's corner it
    lies, and the logarithms of width and height, all four in cells. `decode` makes boxes of them.
    """

    def __init__(self, classes: int, channels: int = 12, depth: int = 4, stride: int = 4) -> None:
        super().__init__()
        level = stride.bit_length() - 1
        if stride != 2**level or level > depth:
            raise ValueError(f"stride must be a power of 2, at most {2**depth}; not {stride}")
        self.classes, self.stride = classes, stride
        self.trunk = Trunk(channels, depth, level)
        wide = self.trunk.made
        self.heat = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(wide, classes, 1)
        )
        self.shape = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(wide, 4, 1))
        nn.init.constant_(self.heat[-1].bias, -4.0)  # type: ignore[arg-type]  # few places are centres

    def forward(self, images: Tensor) -> Tensor:
        height, width = (-(-side // self.stride) for side in images.shape[-2:])
        features = self.trunk(padded(images, self.trunk.multiple))
        return torch.cat([self.heat(features), self.shape(features)], dim=1)[..., :height, :width]


def decode(maps: npt.NDArray[np.float32], stride: int, threshold: float = 0.05) -> Found:
    """The objects of one picture, the surest first, from its maps (classes + 4, h, w): a centre is where no neighbour
    of the same class is surer (that stands for non-maximum suppression). Boxes are in pixels of the net's input."""
    maps = np.asarray(maps, np.float32)
    heat = 1 / (1 + np.exp(-np.clip(maps[:-4], -30, 30)))  # (classes, h, w)
    around = np.ones((3, 3), np.uint8)
    peak = np.stack([one >= cv2.dilate(one, around) for one in heat])
    classes, rows, columns = np.nonzero(peak & (heat >= threshold))
    best = np.argsort(-heat[classes, rows, columns], kind="stable")[:MOST]
    classes, rows, columns = classes[best], rows[best], columns[best]
    right, below, width, height = maps[-4:, rows, columns].astype(np.float64)
    x, y = (columns + right) * stride, (rows + below) * stride
    half_width, half_height = (np.exp(np.clip(side, -5, 8)) * stride / 2 for side in (width, height))
    boxes = np.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=1)
    return Found(boxes, heat[classes, rows, columns].astype(np.float64), classes.astype(np.int64))
