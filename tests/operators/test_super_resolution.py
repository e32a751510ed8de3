"""Enlarging by a network: in tiles as at once, within its limits, with every pixel still found in the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.operators.kit import field_picture, item, page_picture, png, through

from swath.operators.core.base import Artifact, Pixels, Reject
from swath.operators.image.codec import Decode
from swath.operators.image.super_resolution import SuperResolve
from swath.operators.models.info import ModelInfo, write_weights
from swath.operators.models.nets.super_res import SuperRes
from swath.schemas.errors import ModelError

ARGUMENTS: dict[str, Any] = {"scale": 2, "channels": 8, "blocks": 2}


def network(path: Path, spread: float = 0.05, **arguments: Any) -> str:
    """Weights that change what a bicubic enlargement would be by much, drawn at random."""
    torch.manual_seed(3)
    net = SuperRes(**{**ARGUMENTS, **arguments})
    torch.nn.init.normal_(net.tail.weight, std=spread)
    info = ModelInfo(
        task="super_resolution",
        architecture="swath.super_res",
        arguments={**ARGUMENTS, **arguments},
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    write_weights(path, net.state_dict(), info)
    return str(path)


def enlarged(operator: SuperResolve, pixels: Pixels) -> dict[str, Any]:
    return operator.process({"pixels": pixels}, operator.load())


@pytest.mark.parametrize("scale", [2, 4])
def test_a_network_that_learnt_nothing_enlarges_bicubically(tmp_path: Path, scale: int) -> None:
    model = network(tmp_path / "none.safetensors", spread=0, scale=scale)
    pixels = field_picture(1, 60, 80)
    found = enlarged(SuperResolve(model=model, scale=scale, tile=64), pixels)["pixels"]
    expected = np.asarray(Image.fromarray(pixels).resize((80 * scale, 60 * scale), Image.Resampling.BICUBIC))
    edge = 3 * scale  # Pillow's kernel is cut off there
    difference = np.abs(found.astype(int) - expected)[edge:-edge, edge:-edge]
    assert difference.max() <= 1


@pytest.mark.parametrize("shape", [(150, 210), (64, 301), (40, 30), (1, 1), (1, 200)])
def test_tile_by_tile_is_as_at_once(tmp_path: Path, shape: tuple[int, int]) -> None:
    model = network(tmp_path / "drawn.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    whole = enlarged(SuperResolve(model=model, tile=512), pixels)["pixels"]
    tiled = enlarged(SuperResolve(model=model, tile=64), pixels)["pixels"]
    assert whole.shape == (2 * shape[0], 2 * shape[1], 3)
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    plain = np.asarray(Image.fromarray(pixels).resize((2 * shape[1], 2 * shape[0]), Image.Resampling.BICUBIC))
    assert np.abs(whole.astype(int) - plain).max() > 10  # the network does something that could go wrong


def test_a_model_for_two_used_twice_makes_four(tmp_path: Path) -> None:
    model, pixels = network(tmp_path / "drawn.safetensors"), field_picture(1, 40, 50)
    twice = SuperResolve(model=model, tile=64, scale=4)
    twice.check()
    once = SuperResolve(model=model, tile=64)
    expected = enlarged(once, enlarged(once, pixels)["pixels"])["pixels"]
    answer = enlarged(twice, pixels)
    assert np.array_equal(answer["pixels"], expected)
    assert answer["enlarged_times"] == 4
    assert np.allclose(answer["to_input"] @ (200, 160, 1), (50, 40, 1))


def test_with_less_halo_than_the_network_sees_tiles_show(tmp_path: Path) -> None:
    model = network(tmp_path / "drawn.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (150, 210, 3), np.uint8)
    whole = enlarged(SuperResolve(model=model, tile=512), pixels)["pixels"]
    tiled = enlarged(SuperResolve(model=model, tile=64, halo=1), pixels)["pixels"]
    assert np.abs(whole.astype(int) - tiled).max() > 1


def test_an_enlarged_pixel_is_still_found_in_the_source(tmp_path: Path) -> None:
    operator = SuperResolve(model=network(tmp_path / "drawn.safetensors"), tile=64)
    rows = through([item(0, png(page_picture()))], Decode(), operator)
    assert rows[0]["status"] == "ok", rows[0]["reject_message"]
    assert rows[0]["enlarged_times"] == 2
    answer = enlarged(operator, page_picture())
    assert np.allclose(answer["to_input"] @ (1280, 480, 1), (640, 240, 1))


def test_what_would_be_too_large_is_rejected(tmp_path: Path) -> None:
    operator = SuperResolve(model=network(tmp_path / "drawn.safetensors"), tile=64, max_pixels=240 * 320 * 4 - 1)
    rows = through([item(0, png(field_picture()))], Decode(), operator)
    assert (rows[0]["status"], rows[0]["reject_reason"]) == ("rejected", "too_large")
    assert "640 x 480" in rows[0]["reject_message"]


def test_the_enlarged_picture_is_kept_where_asked_for(tmp_path: Path) -> None:
    import io

    operator = SuperResolve(model=network(tmp_path / "drawn.safetensors"), tile=64, keep=True)
    answer = enlarged(operator, field_picture(1, 30, 40))
    kept = answer["enlarged_picture"]
    assert isinstance(kept, Artifact)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(kept.content))), answer["pixels"])
    assert [column.name for column in operator.outputs()] == ["enlarged_times", "enlarged_picture"]


def test_a_model_that_cannot_be_it_is_refused_before_the_run(tmp_path: Path) -> None:
    model = network(tmp_path / "drawn.safetensors")
    with pytest.raises(ModelError, match="set `scale: 2`"):
        SuperResolve(model=model, scale=3).check()
    with pytest.raises(ModelError, match="nothing but halo"):
        SuperResolve(model=model, tile=64, halo=40).load()
    other = tmp_path / "other.safetensors"
    write_weights(
        other, SuperRes(**ARGUMENTS).state_dict(), ModelInfo(task="denoising", architecture="swath.super_res")
    )
    with pytest.raises(ModelError, match="denoising"):
        SuperResolve(model=str(other)).check()


def test_levels_that_are_no_numbers_are_a_reject(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = SuperRes(**ARGUMENTS)
    torch.nn.init.constant_(net.tail.bias, float("nan"))  # type: ignore[arg-type]
    path = tmp_path / "broken.safetensors"
    write_weights(path, net.state_dict(), ModelInfo(architecture="swath.super_res", arguments=ARGUMENTS))
    with pytest.raises(Reject, match="no numbers"):
        enlarged(SuperResolve(model=str(path), tile=64), field_picture())


def test_a_model_of_somebody_else_is_tried_before_the_run(tmp_path: Path) -> None:
    class Repeat(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(images, scale_factor=3.0, mode="nearest")

    path = tmp_path / "repeat.onnx"
    torch.onnx.export(Repeat(), (torch.zeros(1, 3, 64, 64),), path, input_names=["x"], dynamo=False)
    with pytest.raises(ModelError, match="set `scale`"):
        SuperResolve(model=str(path), tile=64).check()
    operator = SuperResolve(model=str(path), scale=3, tile=64, halo=0)
    operator.check()
    pixels = field_picture(1, 100, 70)
    assert np.array_equal(enlarged(operator, pixels)["pixels"], pixels.repeat(3, axis=0).repeat(3, axis=1))


def test_what_gives_no_numbers_for_a_grey_tile_is_refused_before_the_run(tmp_path: Path) -> None:
    class Logarithm(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.log(torch.nn.functional.interpolate(images, scale_factor=2.0, mode="nearest") - 1)

    path = tmp_path / "logarithm.onnx"
    torch.onnx.export(Logarithm(), (torch.zeros(1, 3, 64, 64),), path, input_names=["x"], dynamo=False)
    with pytest.raises(ModelError, match="fails on a grey tile of 64 pixels: the model gave levels that are no"):
        SuperResolve(model=str(path), tile=64).check()


def test_the_scale_names_the_shipped_model() -> None:
    assert SuperResolve.model_validate({"scale": 4}).model == "swath:super_res_x4"
    assert SuperResolve.model_validate({}).model == "swath:super_res_x2"
    assert SuperResolve.model_validate({"scale": 4, "model": "mine.onnx"}).model == "mine.onnx"
