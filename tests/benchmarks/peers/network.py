"""What every peer shares: the same weights and the same preparation, as their guides write it with torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torchvision.models import mobilenet_v3_small

RESIZE, CROP, BATCH = 256, 224, 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(weights: str | Path) -> torch.nn.Module:
    """The classifier, eager, in eval mode."""
    with safe_open(weights, "pt") as file:
        info = json.loads(file.metadata()["swath"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    module = mobilenet_v3_small(**info["arguments"])
    module.load_state_dict(state)
    return module.eval()


def normalised(images: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 as (N, 3, H, W) float32."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (tensor - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


@torch.inference_mode()
def classified(module: Any, images: torch.Tensor) -> tuple[list[int], list[float]]:
    """The first class of each, and its score."""
    scores, labels = module(images).softmax(1).max(1)
    return labels.tolist(), scores.tolist()
