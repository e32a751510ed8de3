"""Trains super-resolution: from sharp pictures alone, which are shrunk to make what the network is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from swath.flows.train.fit import Figures, FitOptions, Fitted, fit
from swath.flows.train.superres_data import Patches, Source, SuperResOptions, groups_of, resampled
from swath.operators.core.base import Pixels

if TYPE_CHECKING:
    import torch

EDGE = 2
"""Small pixels at the edge of a patch that do not count: the network does not see what is beyond."""


def loss_of(scale: int) -> Callable[[torch.nn.Module, Any], torch.Tensor]:
    """Mean absolute error, mostly that of Y (BT.601), in which figures are measured and eyes see detail."""
    import torch

    weights = torch.tensor([65.481, 128.553, 24.966]) / 219
    cut = EDGE * scale

    def loss(model: torch.nn.Module, batch: Any) -> torch.Tensor:
        small, sharp = batch
        wrong = (model(small).float() - sharp)[..., cut:-cut, cut:-cut]
        bright = torch.einsum("nchw,c->nhw", wrong, weights.to(wrong.device))
        return torch.add(bright.abs().mean(), wrong.abs().mean(), alpha=0.2)

    return loss


def luma(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Y of BT.601 on 16..235, as MATLAB's rgb2ycbcr gives it."""
    return pixels @ (np.array([65.481, 128.553, 24.966]) / 255) + 16


def psnr_of(enlarged: Pixels, sharp: Pixels, scale: int) -> float:
    """PSNR in dB on Y, without a border of `scale` pixels."""
    ours, truth = (luma(one)[scale:-scale, scale:-scale] for one in (enlarged, sharp))
    return float(10 * np.log10(255**2 / max(1e-10, float(np.mean((ours - truth) ** 2)))))


def enlarge(model: torch.nn.Module, small: Pixels, halo: int = 16) -> Pixels:
    """(H, W, 3) to (scale * H, scale * W, 3), in one piece, its edges repeated outwards."""
    import torch

    padded = np.pad(small, ((halo, halo), (halo, halo), (0, 0)), mode="edge").astype(np.float32) / 255
    device = next(model.parameters()).device
    with torch.inference_mode():
        out = model(torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()).to(device))[0].float().cpu().numpy()
    scale = out.shape[1] // padded.shape[0]
    cut = halo * scale
    inner = out[:, cut:-cut, cut:-cut].transpose(1, 2, 0)
    return np.asarray((inner * 255).round().clip(0, 255).astype(np.uint8))


def evaluation(held_out: Sequence[Pixels], scale: int) -> Callable[[torch.nn.Module], Figures]:
    """Means over the pictures: `psnr_db` on Y, and `gain_db` over a bicubic enlargement."""
    pairs = []
    for picture in held_out:
        height, width = (side // scale for side in picture.shape[:2])
        sharp = picture[: height * scale, : width * scale]
        small = resampled(sharp, (height, width))
        plain = psnr_of(resampled(small, sharp.shape[:2]), sharp, scale)
        pairs.append((sharp, small, plain))

    def evaluate(model: torch.nn.Module) -> Figures:
        psnr = [psnr_of(enlarge(model, small), sharp, scale) for sharp, small, _ in pairs]
        gains = [ours - plain for ours, (_, _, plain) in zip(psnr, pairs, strict=True)]
        return {"psnr_db": float(np.mean(psnr)), "gain_db": float(np.mean(gains))}

    return evaluate


def train_superres(
    sources: Sequence[Source],
    held_out: Sequence[Pixels],
    options: SuperResOptions,
    fitting: FitOptions,
    folder: Path,
    start: Mapping[str, torch.Tensor] | None = None,
    progress: Callable[[dict[str, float]], None] = lambda line: None,
) -> Fitted:
    """Trains on patches of the sources and of drawn pictures, or goes on where `folder` stopped.

    `start`: weights of the same network, at this or another scale, to begin with.
    """
    import torch

    from swath.operators.models.nets.super_res import SuperRes

    torch.manual_seed(options.seed)
    model = SuperRes(**arguments_of(options))
    if start is not None:
        own = model.state_dict()
        fits = {name: tensor.float() for name, tensor in start.items() if tensor.shape == own[name].shape}
        model.load_state_dict(fits, strict=False)
    patches = Patches(groups_of(sources, options), options)
    evaluate = evaluation(held_out, options.scale)
    return fit(model, patches.batches, loss_of(options.scale), evaluate, fitting, folder, progress)


def save_superres(path: Path, fitted: Fitted, options: SuperResOptions, **said: Any) -> None:
    """A .safetensors file that `super_resolve` takes as its `model`; `said` are more fields of `ModelInfo`."""
    import torch

    from swath.operators.models.info import ModelInfo, write_weights

    info = ModelInfo(
        task="super_resolution",
        architecture="swath.super_res",
        arguments=arguments_of(options),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        figures={name: round(value, 3) for name, value in fitted.figures.items()},
        **said,
    )
    write_weights(path, {name: tensor.to(torch.float16) for name, tensor in fitted.state.items()}, info)


def arguments_of(options: SuperResOptions) -> dict[str, int]:
    """The network's constructor arguments."""
    return {"scale": options.scale, "channels": options.channels, "blocks": options.blocks}
