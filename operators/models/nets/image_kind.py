"""What `swath:image_kind` is: the first 10 blocks of EfficientNet-Lite0 (Tan and Le 2019; Google 2020), and a linear
layer over the mean and the spread of their features. Batch normalisation is folded into the convolutions."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = (
    *((16, 3, 1, 1), (24, 3, 2, 6), (24, 3, 1, 6), (40, 5, 2, 6), (40, 5, 1, 6), (80, 3, 2, 6)),
    *((80, 3, 1, 6), (80, 3, 1, 6), (112, 5, 1, 6), (112, 5, 1, 6)),
)
"""Channels, side of the kernel, stride and expansion of each."""


class Convolution(nn.Conv2d):
    """A convolution, with ReLU6 where it is told; padded as TensorFlow does it: at stride 2 below and to the right."""

    def __init__(self, given: int, made: int, side: int, stride: int = 1, groups: int = 1, relu: bool = True) -> None:
        super().__init__(given, made, side, stride, groups=groups)
        before, after = (side - stride) // 2, side // 2
        self.around, self.relu = (before, after, before, after), relu

    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(functional.pad(images, self.around) if self.around[1] else images)
        return functional.relu6(found) if self.relu else found


class Block(nn.Sequential):
    """An inverted residual."""

    def __init__(self, given: int, made: int, side: int, stride: int, expansion: int) -> None:
        wide = given * expansion
        widen = [Convolution(given, wide, 1)] if expansion > 1 else []
        deep = Convolution(wide, wide, side, stride, groups=wide)
        super().__init__(*widen, deep, Convolution(wide, made, 1, relu=False))
        self.adds = stride == 1 and given == made

    def forward(self, images: Tensor) -> Tensor:
        found = cast(Tensor, super().forward(images))  # type: ignore[no-untyped-call]
        return images + found if self.adds else found


class ImageKind(nn.Module):
    """(N, 3, H, W), sides that are multiples of 16, to (N, num_classes) logits."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        channels = 32
        layers: list[nn.Module] = [Convolution(3, channels, 3, stride=2)]
        for made, side, stride, expansion in BLOCKS:
            layers.append(Block(channels, made, side, stride, expansion))
            channels = made
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(2 * channels, num_classes)

    def pooled(self, images: Tensor) -> Tensor:
        """(N, 224): the mean of each feature over the picture, and its standard deviation."""
        found = self.features(images)
        mean = found.mean((2, 3), keepdim=True)
        spread = ((found - mean).square().mean((2, 3)) + 1e-6).sqrt()
        return torch.cat([mean.flatten(1), spread], 1)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.pooled(images)))
