"""A compact U-Net (Ronneberger et al. 2015) that learns from few images on a CPU."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class Trunk(nn.Module):
    """Encoder and decoder with skips: (N, 3, H, W) to (N, channels * 2**level, H / 2**level, W / 2**level); H and W
    must be multiples of `multiple`."""

    def __init__(self, channels: int, depth: int, level: int = 0) -> None:
        super().__init__()
        widths = [channels * 2**step for step in range(depth + 1)]
        self.multiple, self.made = 2**depth, widths[level]
        self.stem = _double(3, widths[0])
        self.down = nn.ModuleList(_double(narrow, wide) for narrow, wide in pairwise(widths))
        self.up = nn.ModuleList(_double(wide + narrow, narrow) for narrow, wide in pairwise(widths[level:]))

    def forward(self, images: Tensor) -> Tensor:
        skips: list[Tensor] = [self.stem(images)]
        for step in self.down:
            skips.append(step(functional.max_pool2d(skips[-1], 2)))
        features = skips.pop()
        for step in reversed(self.up):
            finer = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = step(torch.cat([finer, skips.pop()], dim=1))
        return features


class UNet(nn.Module):
    """Semantic segmentation: (N, 3, H, W) normalised to logits (N, classes, H, W), of any H and W.

    With depth 3 an output pixel sees 46 pixels to each side, with depth 4 it sees 94; a tile with that as halo, begun
    at a multiple of 2**depth, gives what the whole picture gives.
    """

    def __init__(self, classes: int, channels: int = 12, depth: int = 3) -> None:
        super().__init__()
        self.trunk = Trunk(channels, depth)
        self.head = nn.Conv2d(channels, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        logits: Tensor = self.head(self.trunk(padded(images, self.trunk.multiple)))
        return logits[..., :height, :width]


def padded(images: Tensor, multiple: int) -> Tensor:
    """Continued at the right and the bottom by its last pixels until both sides are multiples."""
    below, right = -images.shape[-2] % multiple, -images.shape[-1] % multiple
    return functional.pad(images, (0, right, 0, below), mode="replicate")


def _double(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(given, made), *_convolution(made, made))


def _convolution(given: int, made: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(given, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU(inplace=True)
