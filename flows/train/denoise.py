"""Trains denoising: from clean pictures alone, to which noise is added as it is needed.

    python -m swath.flows.train.denoise FOLDER --seconds 3600 [PICTURES]... --held-out [PICTURES]...

`PICTURES` are files or folders. The weights and their description go to `FOLDER/denoise.safetensors`.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from swath.flows.train.data import pictures_below, pixels_of
from swath.flows.train.drawn_pictures import leaves, text_block
from swath.flows.train.fit import Figures, FitOptions, Fitted, fit
from swath.operators.core.base import Pixels
from swath.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

Levels = npt.NDArray[np.float32]
"""(H, W, 3) on 0 to 255."""
LARGE = 1000
"""Shorter side in pixels from which on a photo is halved, which removes most of its own noise and JPEG's blocks."""
SIGMAS = (15, 25, 50)
"""The strengths of noise in which figures are published since BM3D (Dabov et al. 2007)."""
HELD_OUT = 256
"""Side in pixels of what of each held-out picture is looked at during training."""


class DenoiseOptions(BaseModel):
    """What the network is, and what it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int = Field(default=48, ge=4)
    pairs: int = Field(default=4, ge=1)
    patch: int = Field(default=64, ge=16)
    """Side in pixels of what it is trained on."""
    batch: int = Field(default=16, ge=1)
    strongest: float = Field(default=75, gt=0, le=128)
    """Largest standard deviation of the noise, in levels of 255; all from 0 on are equally frequent."""
    drawn: int = Field(default=60, ge=0)
    """Drawn pictures (edges, shapes, stripes) beside the given ones."""
    text: int = Field(default=60, ge=0)
    """Drawn pictures of text."""
    seed: int = 0


class Patches:
    """Cuts patches at random places, as often from a picture as it is large, and makes them noisy."""

    def __init__(self, pictures: Sequence[Pixels], options: DenoiseOptions) -> None:
        self.options = options
        rng = np.random.default_rng(options.seed)
        given = [one for one in pictures if min(one.shape[:2]) >= options.patch]
        if not given:
            raise ConfigurationError(f"there is no picture of at least {options.patch} pixels to train on")
        drawn = [leaves(rng, 384, given[:50]) for _ in range(options.drawn)]
        text = [text_block(rng, 384) for _ in range(options.text)]
        self.pictures = [*given, *drawn, *text]
        areas = [one.shape[0] * one.shape[1] for one in given]
        shares = [np.array(areas) * (0.82 / sum(areas)), np.full(len(drawn), 0.08 / max(1, len(drawn)))]
        shares.append(np.full(len(text), 0.10 / max(1, len(text))))
        self.cumulated = np.cumsum(np.concatenate(shares))

    def batches(self, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Noisy (N, 3, P, P) on 0..1, the level of its noise (N,) as told to the network, and clean (N, 3, P, P);
        step n is always the same."""
        import torch

        for step in itertools.count(start):
            rng = np.random.default_rng((self.options.seed, step))
            clean = [self._patch(rng) for _ in range(self.options.batch)]
            noisy, told = zip(*(spoilt(rng, one, self.options.strongest) for one in clean), strict=True)
            given, wanted = (torch.from_numpy(np.stack(one).transpose(0, 3, 1, 2)) / 255 for one in (noisy, clean))
            yield given, torch.tensor(told, dtype=torch.float32) / 255, wanted

    def _patch(self, rng: np.random.Generator) -> Levels:
        side = self.options.patch
        which = int(np.searchsorted(self.cumulated, rng.random() * self.cumulated[-1]))
        picture = self.pictures[min(which, len(self.pictures) - 1)]
        top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[:2])
        patch = np.rot90(picture[top : top + side, left : left + side], int(rng.integers(4)))
        patch = patch[:, ::-1] if rng.random() < 0.5 else patch
        patch = patch[..., rng.permutation(3)] if rng.random() < 0.3 else patch
        levels = patch.astype(np.float32)
        if rng.random() < 0.3:  # in other light
            levels = (levels * np.float32(rng.uniform(0.15, 1.4)) + np.float32(rng.uniform(-30, 30))).clip(0, 255)
        return levels


def spoilt(rng: np.random.Generator, clean: Levels, strongest: float) -> tuple[Levels, float]:
    """A noisy version of a patch, rounded and clipped as files are, and how strong its noise is said to be.

    Gaussian in most, another in every channel; in some as strong as there is light (shot noise: its mean strength is
    told), the same in all channels (grain of grey pictures), or JPEG-compressed afterwards. What is told is off by up
    to 15 % in half of them, as estimates are.
    """
    sigma = float(rng.uniform(0, strongest)) if rng.random() < 0.95 else 0.0
    kind = rng.random()
    shape = (*clean.shape[:2], 1) if 0.12 <= kind < 0.17 else clean.shape
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma)
    if kind < 0.12:
        share = np.float32(rng.uniform(0.3, 1))
        noise *= np.sqrt(share * clean / max(8.0, float(clean.mean())) + 1 - share)
    noisy = np.rint(clean + noise).clip(0, 255)
    if kind >= 0.92:
        noisy = _compressed(noisy, int(rng.integers(70, 98)))
    told = sigma * float(rng.uniform(0.85, 1.15)) if rng.random() < 0.5 else sigma
    return noisy.astype(np.float32), told


def _compressed(levels: Levels, quality: int) -> Levels:
    stream = io.BytesIO()
    Image.fromarray(levels.astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), np.float32)


def loss(model: torch.nn.Module, batch: Any) -> torch.Tensor:
    """Mean absolute error."""
    noisy, told, clean = batch
    wrong: torch.Tensor = (model(noisy, told).float() - clean).abs().mean()
    return wrong


def evaluation(held_out: Sequence[Pixels]) -> Callable[[torch.nn.Module], Figures]:
    """PSNR on RGB in dB, with the noise's level given: `psnr_15`, `psnr_25`, `psnr_50`, means over the pictures; and
    `psnr`, the mean of these."""
    clean = [one[:HELD_OUT, :HELD_OUT] for one in held_out]
    rng = np.random.default_rng(1)
    noisy = {sigma: [with_noise(rng, one, sigma) for one in clean] for sigma in SIGMAS}

    def evaluate(model: torch.nn.Module) -> Figures:
        figures = {
            f"psnr_{sigma}": float(
                np.mean([psnr(denoised(model, one, sigma), truth) for one, truth in zip(pictures, clean, strict=True)])
            )
            for sigma, pictures in noisy.items()
        }
        return {**figures, "psnr": float(np.mean(list(figures.values())))}

    return evaluate


def with_noise(rng: np.random.Generator, clean: Pixels, sigma: float) -> Pixels:
    """The picture with Gaussian noise, another in every channel, rounded and clipped to 0..255 as a file has it."""
    noise = sigma * rng.standard_normal(clean.shape, dtype=np.float32)
    return np.asarray(np.rint(clean + noise).clip(0, 255), np.uint8)


def denoised(model: torch.nn.Module, noisy: Pixels, sigma: float) -> Pixels:
    """(H, W, 3) without its noise of `sigma` levels of 255, computed at once."""
    import torch

    device = next(model.parameters()).device
    images = torch.from_numpy(noisy.transpose(2, 0, 1)[None].copy()).to(device) / 255
    with torch.inference_mode():
        out = model(images, torch.tensor([sigma / 255], device=device))[0].float().cpu().numpy()
    return np.asarray(np.rint(out.transpose(1, 2, 0) * 255).clip(0, 255), np.uint8)


def psnr(found: Pixels, truth: Pixels) -> float:
    """Peak signal to noise ratio in dB over all three channels."""
    return float(10 * np.log10(255**2 / max(1e-10, float(np.mean((found.astype(np.float64) - truth) ** 2)))))


def train_denoise(
    pictures: Sequence[Pixels],
    held_out: Sequence[Pixels],
    options: DenoiseOptions,
    fitting: FitOptions,
    folder: Path,
    start: dict[str, torch.Tensor] | None = None,
    progress: Callable[[dict[str, float]], None] = lambda line: None,
) -> Fitted:
    """Trains on patches of clean pictures, from `start` where it is given: weights of the same network."""
    import torch

    from swath.operators.models.nets.denoise import Denoise

    torch.manual_seed(options.seed)
    model = Denoise(options.channels, options.pairs)
    if start is not None:
        model.load_state_dict({name: tensor.float() for name, tensor in start.items()})
    patches = Patches(pictures, options)
    return fit(model, patches.batches, loss, evaluation(held_out), fitting, folder, progress)


def clean_pictures(places: Sequence[Path], without: Sequence[Path] = ()) -> list[Pixels]:
    """The pictures in files and folders, but for some; large photos at half their size, and once more at a quarter."""
    left_out = {path.resolve() for path in without}
    found = []
    for place in places:
        files = [place] if place.is_file() else [place / name for name in sorted(pictures_below(str(place)))]
        for pixels in (pixels_of(str(file)) for file in files if file.resolve() not in left_out):
            if min(pixels.shape[:2]) >= LARGE:
                half = _halved(pixels)
                found += [half, _halved(half)]
            else:
                found.append(np.ascontiguousarray(pixels))
    return found


def _halved(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _folder(place: Path) -> str:
    return place.name if place.is_dir() else place.resolve().parent.name


def main() -> None:
    import torch
    from safetensors.torch import load_file

    from swath.operators.models.info import ModelInfo, write_weights

    parser = argparse.ArgumentParser(
        prog="python -m swath.flows.train.denoise", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "folder", type=Path, help="for the weights, the checkpoint (a second call goes on) and the curve"
    )
    parser.add_argument("pictures", type=Path, nargs="+", help="clean pictures: files and folders")
    parser.add_argument("--held-out", type=Path, nargs="+", required=True, help="pictures to measure on")
    parser.add_argument("--seconds", type=float, required=True, help="of training")
    parser.add_argument("--start", type=Path, help="weights to begin with, a .safetensors file")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--licence", help="of the weights, for their description")
    parser.add_argument(
        "--trained-on", help="what the pictures are, for the same; the names of their folders if not told"
    )
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    options = DenoiseOptions()
    fitted = train_denoise(
        clean_pictures(given.pictures, given.held_out),
        clean_pictures(given.held_out),
        options,
        FitOptions(seconds=given.seconds, learning_rate=given.learning_rate, clip=0.5, evaluate_every=500),
        given.folder,
        load_file(given.start) if given.start else None,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    info = ModelInfo(
        task="denoising",
        architecture="swath.denoise",
        arguments={"channels": options.channels, "pairs": options.pairs},
        mean=(0, 0, 0),
        std=(1, 1, 1),
        licence=given.licence,
        trained_on=given.trained_on or ", ".join(sorted({_folder(path) for path in given.pictures})),
        date=datetime.now(UTC).date().isoformat(),
        figures={name: round(value, 2) for name, value in fitted.figures.items()},
    )
    half = {name: tensor.half() for name, tensor in fitted.state.items()}
    write_weights(given.folder / "denoise.safetensors", half, info)
    print(fitted.figures)


if __name__ == "__main__":
    main()
