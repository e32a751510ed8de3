"""A denoiser that is told how strong the noise is: small enough for a CPU, one set of weights for every strength."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Denoise(nn.Module):
    """Colour pictures in, the same without their noise out: convolutions on half the resolution with a map of the
    noise's level beside the picture (FFDNet: Zhang, Zuo, Zhang 2018, doi:10.1109/TIP.2018.2839891), in residual
    pairs (He 2016) where FFDNet has batch normalisation.

    177 thousand parameters at the defaults. A pixel of the result depends on no pixel farther than `reach` away.
    """

    def __init__(self, channels: int = 48, pairs: int = 4) -> None:
        super().__init__()
        self.head = nn.Conv2d(4 * 3 + 1, channels, 3, padding=1)
        self.body = nn.ModuleList(Pair(channels) for _ in range(pairs))
        self.tail = nn.Conv2d(channels, 4 * 3, 3, padding=1)
        self.reach = 2 * (2 + 2 * pairs) + 1
        nn.init.zeros_(self.tail.weight)  # an untrained net leaves the picture as it is

    def forward(self, images: Tensor, sigma: Tensor) -> Tensor:
        """(N, 3, H, W) RGB on 0 to 1 and (N,) standard deviations of its noise on the same scale to (N, 3, H, W),
        which may stray a little from 0 to 1. `H` and `W` at least 2."""
        height, width = images.shape[-2:]
        even = nn.functional.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
        x = nn.functional.pixel_unshuffle(even, 2)  # (N, 12, H/2, W/2)
        level = sigma.to(x.dtype).view(-1, 1, 1, 1).expand(-1, 1, x.shape[-2], x.shape[-1])
        x = torch.relu(self.head(torch.cat([x, level], 1)))
        for pair in self.body:
            x = pair(x)
        noise = nn.functional.pixel_shuffle(self.tail(x), 2)
        return images - noise[..., :height, :width]


class Pair(nn.Module):
    """Two convolutions around a ReLU, added to what they were given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.second(torch.relu(self.first(x)))
        return x + changed
