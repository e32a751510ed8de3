"""On a graphics card: images a second through `open_network`, over the same model fed from the card's own memory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tests.benchmarks.report import Bar, Options, Result, median

from swath.operators.models.info import ModelInfo, write_weights
from swath.operators.models.modules import build, torch_module
from swath.operators.models.networks import open_network
from swath.operators.models.reference import ModelFile, find_model, shipped

BATCH = 256
LEAST = 0.9


def card(options: Options) -> Result:
    """ResNet50, and the shipped super-resolution; skipped where there is no card."""
    if not torch.cuda.is_available():
        return Result(skipped="this machine has no CUDA device")
    os.environ["OMP_NUM_THREADS"] = str(os.cpu_count() or 1)
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name()}
    bars = []
    with TemporaryDirectory() as folder:
        info = ModelInfo(architecture="resnet50", size=224)
        write_weights(Path(folder, "resnet50.safetensors"), build(info).state_dict(), info)
        files = {"resnet50": (find_model(f"{folder}/resnet50.safetensors"), 224)}
        if "swath:super_res_x2" in shipped():
            files["super_res_x2"] = (find_model("swath:super_res_x2"), 128)
        for name, (file, side) in files.items():
            rates: dict[str, list[float]] = {"through_network": [], "fed_from_card": []}
            for _ in range(options.repeat):
                rates["through_network"].append(_through_network(file, side, 2 if options.quick else 20))
                rates["fed_from_card"].append(_fed_from_card(file, side, 2 if options.quick else 20))
            figures[name] = {key: round(median(values), 1) for key, values in rates.items()}
            ratio = median(rates["through_network"]) / median(rates["fed_from_card"])
            bars.append(Bar(f"{name}, images a second over those fed from memory", ratio, LEAST, "ratio", least=True))
    return Result(figures, bars)


def _through_network(file: ModelFile, side: int, batches: int) -> float:
    images = np.random.default_rng(1).random((BATCH, side, side, 3), np.float32)
    network = open_network(file, device="cuda", size=(side, side))
    network(images)
    started = time.perf_counter()
    for _ in range(batches):
        network(images)
    return batches * BATCH / (time.perf_counter() - started)


def _fed_from_card(file: ModelFile, side: int, batches: int) -> float:
    module = torch_module(file).to("cuda", memory_format=torch.channels_last)
    images = torch.rand(BATCH, 3, side, side, device="cuda").to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        module(images)
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(batches):
            module(images)
        torch.cuda.synchronize()
    return batches * BATCH / (time.perf_counter() - started)
