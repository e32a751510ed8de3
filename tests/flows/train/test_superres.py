"""Training super-resolution: what it is given, and that a small network learns to do better than bicubic."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from tests.operators.kit import field_picture

from swath.flows.train.drawn_pictures import leaves, text_block
from swath.flows.train.fit import FitOptions
from swath.flows.train.superres import enlarge, evaluation, luma, save_superres, train_superres
from swath.flows.train.superres_data import Patches, Source, SuperResOptions, groups_of, resampled, spoilt
from swath.operators.image.super_resolution import SuperResolve
from swath.operators.models.nets.super_res import SuperRes
from swath.schemas.errors import ConfigurationError

SMALL = SuperResOptions(channels=16, blocks=1, patch=24, drawn=3, text=2, drawn_share=0.3, text_share=0.1)


def drawn(seed: int, side: int = 128) -> np.ndarray:
    return leaves(np.random.default_rng(seed), side, [])


def test_a_few_steps_beat_bicubic_and_the_result_is_a_model_at_once(tmp_path: Path) -> None:
    held_out = [drawn(100), text_block(np.random.default_rng(5), 128)]
    fitting = FitOptions(steps=120, learning_rate=5e-3, evaluate_every=120, ema=0.95, precision="fp32", device="cpu")
    fitted = train_superres([Source([drawn(1), drawn(2)])], held_out, SMALL, fitting, tmp_path)
    assert fitted.figures["gain_db"] > 0.5
    path = tmp_path / "mine.safetensors"
    save_superres(path, fitted, SMALL, licence="CC0", trained_on="drawn", date="2026-11-23")
    operator = SuperResolve(model=str(path), tile=64)
    operator.check()
    net = SuperRes(2, 16, 1)
    net.load_state_dict(fitted.state)
    found = operator.enlarged(held_out[0], operator.load())
    assert np.abs(found.astype(int) - enlarge(net.eval(), held_out[0])).max() <= 1  # half precision in the file
    four = train_superres(
        [Source([drawn(1)])],
        held_out,
        SMALL.model_copy(update={"scale": 4, "patch": 16}),
        FitOptions(steps=1, precision="fp32", device="cpu"),
        tmp_path / "four",
        start=fitted.state,
    )
    assert torch.allclose(four.state["head.weight"], fitted.state["head.weight"], atol=2e-3)
    assert four.state["tail.weight"].shape[0] == 48


@pytest.mark.parametrize("scale", [2, 4])
def test_patches_lie_over_one_another_and_come_again_in_the_same_order(scale: int) -> None:
    options = SuperResOptions(scale=scale, patch=16, drawn=1, text=1, batch=3)
    patches = Patches(groups_of([Source([field_picture(1, 200, 260)], shrink=(1.0, 1.5))], options), options)
    first = list(islice(patches.batches(0), 4))
    for (small, sharp), (again, _) in zip(first[2:], patches.batches(2), strict=False):
        assert torch.equal(small, again)
        assert sharp.shape == (3, 3, 16 * scale, 16 * scale)
        means = torch.nn.functional.avg_pool2d(sharp, scale)
        assert (means - small).abs().mean() < 0.03  # a place off by one pixel of the small picture is above
        assert (means.roll(1, dims=3) - small).abs().mean() > (means - small).abs().mean()


def test_places_where_bicubic_loses_much_come_oftener() -> None:
    picture = np.full((400, 400, 3), 128, np.uint8)
    picture[:, 200:] = np.random.default_rng(0).integers(0, 256, (400, 200, 3), np.uint8)
    options = SuperResOptions(patch=16, drawn=0, text=0, drawn_share=0, text_share=0)
    patches = Patches(groups_of([Source([picture])], options), options)
    busy = [float(sharp.std()) > 0.1 for _, sharp in islice(patches.batches(0), 20)]
    assert sum(busy) >= 18


def test_a_real_degradation_spoils_and_keeps_the_place() -> None:
    sharp = drawn(3)
    rng = np.random.default_rng(0)
    plain = resampled(sharp, (64, 64)).astype(int)
    for _ in range(5):
        small = spoilt(sharp, (64, 64), rng)
        assert (small.shape, small.dtype) == ((64, 64, 3), np.uint8)
        assert 0 < np.abs(small - plain).mean() < 20


def test_drawn_pictures_are_the_same_for_the_same_seed_and_full_of_detail() -> None:
    for draw in (lambda rng: leaves(rng, 96, [field_picture()]), lambda rng: text_block(rng, 96)):
        one, same, other = (draw(np.random.default_rng(seed)) for seed in (4, 4, 5))
        assert one.shape == (96, 96, 3)
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)
        assert one.std() > 8


def test_figures_are_of_y_and_zero_gain_for_a_network_that_learnt_nothing() -> None:
    picture = field_picture(3, 80, 120)
    assert np.allclose(luma(picture), rgb2ycbcr(picture)[..., 0], atol=1e-6)
    for scale in (2, 4):
        figures = evaluation([picture], scale)(SuperRes(scale, 8, 1).eval())
        assert figures["gain_db"] == pytest.approx(0, abs=0.1)


def test_pictures_too_small_to_learn_from_are_told() -> None:
    options = SMALL.model_copy(update={"drawn": 0, "text": 0})
    with pytest.raises(ConfigurationError, match="no picture"):
        Patches(groups_of([Source([np.zeros((40, 40, 3), np.uint8)])], options), options)
