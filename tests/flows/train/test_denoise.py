"""Training of denoising: what it is given, that it learns, and that what comes out is a model at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from swath.flows.train.denoise import DenoiseOptions, Patches, clean_pictures, psnr, spoilt, train_denoise, with_noise
from swath.flows.train.fit import FitOptions
from swath.operators.image.denoising import Denoise
from swath.schemas.errors import ConfigurationError

SMALL = DenoiseOptions(channels=8, pairs=1, patch=32, batch=8, drawn=1, text=1)


def test_patches_of_a_step_are_always_the_same_and_others_in_another() -> None:
    patches = Patches([skimage.data.chelsea()], SMALL)
    one, again, other = (next(patches.batches(step)) for step in (3, 3, 4))
    assert all(first.equal(second) for first, second in zip(one, again, strict=True))
    assert not one[2].equal(other[2])
    noisy, told, clean = one
    assert noisy.shape == clean.shape == (8, 3, 32, 32)
    assert told.shape == (8,)
    assert 0 <= float(noisy.min()) <= float(noisy.max()) <= 1


def test_noise_is_about_as_strong_as_is_told_and_levels_are_those_of_files() -> None:
    rng = np.random.default_rng(0)
    clean = np.full((64, 64, 3), 128, np.float32)
    strengths = []
    for _ in range(200):
        noisy, told = spoilt(rng, clean, 30)
        assert np.array_equal(noisy, np.rint(noisy).clip(0, 255))
        strengths.append((told, float((noisy - clean).std())))
    wanted, found = np.array(strengths).T
    assert wanted.max() > 25
    assert np.median(np.abs(found - wanted) / np.maximum(wanted, 1)) < 0.1


def test_it_learns_to_take_noise_out(tmp_path: Path) -> None:
    held_out = skimage.data.chelsea()[:96, :96]
    fitting = FitOptions(steps=250, ema=0.9, evaluate_every=250, schedule="constant", device="cpu", precision="fp32")
    fitted = train_denoise([skimage.data.astronaut(), skimage.data.coffee()], [held_out], SMALL, fitting, tmp_path)
    before = psnr(with_noise(np.random.default_rng(1), held_out, 25), held_out)
    assert fitted.figures["psnr_25"] > before + 0.4


def test_a_picture_held_out_is_not_trained_on_and_large_ones_are_halved(tmp_path: Path) -> None:
    for index, side in enumerate((100, 120, 1000)):
        Image.fromarray(np.full((side, side, 3), index, np.uint8)).save(tmp_path / f"{index}.png")
    found = clean_pictures([tmp_path], without=[tmp_path / "1.png"])
    assert [one.shape[0] for one in found] == [100, 500, 250]
    with pytest.raises(ConfigurationError, match="no picture of at least 512"):
        Patches(found[:1], SMALL.model_copy(update={"patch": 512}))


@pytest.mark.slow
def test_the_command_makes_a_model_that_the_operator_takes(tmp_path: Path) -> None:
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "a.png")
    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "b.png")
    command = [sys.executable, "-m", "swath.flows.train.denoise", str(tmp_path / "made"), str(tmp_path / "a.png")]
    subprocess.run([*command, "--held-out", str(tmp_path / "b.png"), "--seconds", "2"], check=True, timeout=200)
    operator = Denoise(model=str(tmp_path / "made/denoise.safetensors"), sigma=25)
    operator.check()
    pixels = skimage.data.chelsea()
    assert operator.process({"pixels": pixels}, operator.load())["pixels"].shape == pixels.shape
