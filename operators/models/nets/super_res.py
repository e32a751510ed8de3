"""Super-resolution: a short residual network beside a fixed bicubic enlargement."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class SuperRes(nn.Module):
    """Enlarges RGB pictures `scale` times: (N, 3, H, W) on 0..1 to (N, 3, scale * H, scale * W).

    All convolutions run at the small size, and a pixel shuffle (Shi et al. 2016, arXiv:1609.05158) puts their
    outputs side by side. The network learns only what a bicubic enlargement (Keys 1981, a = -1/2) lacks; that part
    is a fixed 5x5 convolution, so that the whole is convolutions and every backend runs it.
    """

    bicubic: torch.Tensor

    def __init__(self, scale: int = 2, channels: int = 48, blocks: int = 4) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.tail = nn.Conv2d(channels, 3 * scale**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        self.register_buffer("bicubic", bicubic_kernel(scale), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.head(images - 0.5)
        for block in self.blocks:
            features = block(features)
        padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
        with torch.autocast(images.device.type, enabled=False):  # bf16 would cost two bits of the picture
            enlarged = functional.conv2d(padded, self.bicubic)
        return functional.pixel_shuffle(enlarged + self.tail(features), self.scale)


class Block(nn.Module):
    """Two 3x3 convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        # Small, so that a block begins as nearly the identity.
        nn.init.kaiming_normal_(self.second.weight)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = self.second(functional.relu(self.first(features)))
        return features + changed


def halo_of(arguments: Mapping[str, Any]) -> int:
    """How far an output pixel sees, in pixels of the given picture, of a network with these constructor arguments."""
    blocks: int = arguments.get("blocks", signature(SuperRes).parameters["blocks"].default)
    return max(2, 2 * blocks + 2)


def bicubic_kernel(scale: int) -> torch.Tensor:
    """(3 * scale^2, 3, 5, 5): the convolution that, after a pixel shuffle, is a bicubic enlargement of RGB."""
    taps = torch.zeros(scale, 5)
    for phase in range(scale):
        centre = (phase + 0.5) / scale - 0.5  # of the new pixel, in old pixels from the middle tap
        taps[phase] = keys(torch.arange(-2, 3) - centre)
    kernel = torch.zeros(3, scale, scale, 3, 5, 5)
    for channel in range(3):
        kernel[channel, :, :, channel] = torch.einsum("ay,bx->abyx", taps, taps)
    return kernel.reshape(3 * scale**2, 3, 5, 5)


def keys(distance: torch.Tensor) -> torch.Tensor:
    """The cubic convolution kernel with a = -1/2 (Keys 1981, equation 15)."""
    x = distance.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
