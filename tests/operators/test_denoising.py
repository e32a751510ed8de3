"""Noise is found as strong as it is, and taken out tile by tile as at once; clean pictures stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tests.operators.kit import field_picture, item, page_picture, png, through

from swath.flows.train.denoise import psnr, with_noise
from swath.operators.core.base import Pixels, Reject
from swath.operators.image.codec import Decode
from swath.operators.image.denoising import Denoise
from swath.operators.image.noise import noise_sigma
from swath.operators.models.info import ModelInfo, write_weights
from swath.operators.models.nets.denoise import Denoise as Network
from swath.schemas.errors import ModelError

ARGUMENTS: dict[str, Any] = {"channels": 8, "pairs": 2}


def network(path: Path, spread: float = 0.1, bias: float = 0.0, task: Any = "denoising") -> str:
    """Weights that change a picture by much, drawn at random."""
    torch.manual_seed(3)
    net = Network(**ARGUMENTS)
    torch.nn.init.normal_(net.tail.weight, std=spread)
    torch.nn.init.constant_(net.tail.bias, bias)  # type: ignore[arg-type]
    write_weights(path, net.state_dict(), ModelInfo(task=task, architecture="swath.denoise", arguments=ARGUMENTS))
    return str(path)


def photo(name: str) -> Pixels:
    import skimage.data

    pixels: Pixels = getattr(skimage.data, name)()
    return pixels if pixels.ndim == 3 else np.ascontiguousarray(np.repeat(pixels[..., None], 3, axis=2))


def noisy(pixels: Pixels, sigma: float) -> Pixels:
    return with_noise(np.random.default_rng(0), pixels, sigma)


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
@pytest.mark.parametrize("sigma", [5, 15, 25, 50, 60])
def test_the_noise_of_a_photo_is_found_within_a_tenth(name: str, sigma: int) -> None:
    assert noise_sigma(noisy(photo(name), sigma)) == pytest.approx(sigma, rel=0.1, abs=0.6)


def test_the_same_noise_in_all_channels_is_found_also_after_jpeg_and_in_grey() -> None:
    clean, grey = photo("chelsea"), photo("camera")
    grain = np.random.default_rng(0).normal(0, 15, (512, 512, 1))

    def grainy(pixels: Pixels) -> Pixels:
        noise = grain[: pixels.shape[0], : pixels.shape[1]]
        return np.asarray(np.rint(pixels + noise).clip(0, 255), np.uint8)

    assert noise_sigma(grainy(clean)) == pytest.approx(15, rel=0.15)
    assert noise_sigma(grainy(grey)) == pytest.approx(15, rel=0.15)
    # Of noise that was another in every channel JPEG leaves about what they have in common: 0.66 of it.
    compressed = cv2.imdecode(cv2.imencode(".jpg", noisy(clean, 15), [cv2.IMWRITE_JPEG_QUALITY, 90])[1], 1)
    assert noise_sigma(np.asarray(compressed, np.uint8)) == pytest.approx(10, rel=0.15)


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket", "grass", "brick", "camera", "page"])
def test_texture_and_print_are_no_noise(name: str) -> None:
    assert noise_sigma(photo(name)) < Denoise().least_sigma


def test_a_large_picture_is_sampled() -> None:
    whole = np.tile(photo("chelsea"), (8, 5, 1))  # 2400 x 2255
    assert noise_sigma(whole) < 2
    assert noise_sigma(noisy(whole, 20)) == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 3), (20, 40), (64, 64)])
def test_the_noise_of_a_picture_without_any_is_none_whatever_its_size(shape: tuple[int, int]) -> None:
    assert noise_sigma(np.full((*shape, 3), 128, np.uint8)) == 0


def test_a_clean_picture_stays_as_it_is_and_the_row_says_so(tmp_path: Path) -> None:
    operator = Denoise(model=network(tmp_path / "drawn.safetensors"))
    answer = operator.process({"pixels": page_picture()}, operator.load())
    assert answer == {"noise_sigma": pytest.approx(0, abs=0.1), "denoised": False}


def test_a_noisy_picture_is_replaced_where_it_is(tmp_path: Path) -> None:
    operator = Denoise(model=network(tmp_path / "drawn.safetensors"))
    row = through([item(0, png(noisy(field_picture(), 20)))], Decode(), operator)[0]
    assert (row["status"], row["denoised"]) == ("ok", True), row["reject_message"]
    assert row["noise_sigma"] == pytest.approx(20, rel=0.1)
    answer = operator.process({"pixels": noisy(field_picture(), 20)}, operator.load())
    assert np.array_equal(answer["to_input"], np.eye(3))
    assert answer["pixels"].shape == field_picture().shape


@pytest.mark.parametrize("shape", [(150, 211), (64, 301), (40, 31), (1, 1), (1, 200)])
@pytest.mark.parametrize("backend", ["torch", "torch-bf16"])
def test_tile_by_tile_is_as_at_once(tmp_path: Path, shape: tuple[int, int], backend: Any) -> None:
    operator = Denoise(model=network(tmp_path / "drawn.safetensors"), backend=backend, tile=512)
    loaded = operator.load()
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    whole = operator.cleaned(pixels, 25, loaded)
    tiled = operator.model_copy(update={"tile": 64}).cleaned(pixels, 25, loaded)
    assert whole.shape == pixels.shape
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert np.abs(whole.astype(int) - pixels).max() > 10  # the network does something that could go wrong


def test_with_less_halo_than_the_network_sees_tiles_show(tmp_path: Path) -> None:
    operator = Denoise(model=network(tmp_path / "drawn.safetensors"), tile=512, halo=0)
    loaded = operator.load()
    pixels = np.random.default_rng(0).integers(0, 256, (150, 211, 3), np.uint8)
    tiled = operator.model_copy(update={"tile": 64}).cleaned(pixels, 25, loaded)
    assert np.abs(operator.cleaned(pixels, 25, loaded).astype(int) - tiled).max() > 1


def test_an_untrained_network_leaves_a_picture_as_it_is(tmp_path: Path) -> None:
    operator = Denoise(model=network(tmp_path / "none.safetensors", spread=0), sigma=25, backend="torch")
    pixels = field_picture(1, 61, 83)
    assert np.array_equal(operator.process({"pixels": pixels}, operator.load())["pixels"], pixels)


def test_sigma_and_strength_are_what_the_network_is_told(tmp_path: Path) -> None:
    model = network(tmp_path / "drawn.safetensors")
    pixels = noisy(field_picture(), 20)

    def cleaned(**options: Any) -> Pixels:
        operator = Denoise(model=model, **options)
        found: Pixels = operator.process({"pixels": pixels}, operator.load())["pixels"]
        return found

    assert np.array_equal(cleaned(sigma=10, strength=2), cleaned(sigma=20))
    assert not np.array_equal(cleaned(sigma=10), cleaned(sigma=20))


def test_levels_that_are_no_numbers_are_a_reject(tmp_path: Path) -> None:
    operator = Denoise(model=network(tmp_path / "broken.safetensors", bias=float("nan")), sigma=25)
    with pytest.raises(Reject, match="no numbers"):
        operator.process({"pixels": field_picture()}, operator.load())


def test_a_model_that_cannot_be_it_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="super_resolution"):
        Denoise(model=network(tmp_path / "other.safetensors", task="super_resolution")).check()
    model = network(tmp_path / "drawn.safetensors")
    with pytest.raises(ModelError, match="nothing but halo"):
        Denoise(model=model, tile=64, halo=40).load()
    with pytest.raises(ModelError, match="run by torch"):
        Denoise(model=model, backend="onnxruntime").check()
    grey = tmp_path / "grey.onnx"
    torch.onnx.export(torch.nn.Conv2d(1, 1, 1), (torch.zeros(1, 1, 64, 64),), grey, dynamo=False)
    with pytest.raises(ModelError, match="takes pictures of 1 x 64 x 64 and is given 3 x 64 x 64; export it for RGB"):
        Denoise(model=str(grey), tile=64, halo=2).check()
    fixed = tmp_path / "fixed.onnx"
    torch.onnx.export(torch.nn.Conv2d(3, 3, 1), (torch.zeros(1, 3, 64, 64),), fixed, dynamo=False)
    with pytest.raises(ModelError, match="is given 3 x 128 x 128; set `size`, or `tile`"):
        Denoise(model=str(fixed), tile=128, halo=2).check()


def test_a_denoiser_of_somebody_else_is_told_nothing(tmp_path: Path) -> None:
    class Blur(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)

    path = tmp_path / "blur.onnx"
    torch.onnx.export(Blur(), (torch.zeros(1, 3, 64, 64),), path, input_names=["x"], dynamo=False)
    operator = Denoise(model=str(path), tile=64, halo=2, sigma=25)
    operator.check()
    pixels = noisy(field_picture(1, 100, 71), 25)
    found = operator.process({"pixels": pixels}, operator.load())["pixels"]
    assert np.abs(found[1:-1, 1:-1].astype(int) - cv2.blur(pixels, (3, 3))[1:-1, 1:-1]).max() <= 1


@pytest.mark.parametrize("sigma", [15, 50])
def test_the_shipped_weights_take_noise_out_of_a_photo_better_than_non_local_means(sigma: int) -> None:
    operator = Denoise()
    operator.check()
    clean = photo("chelsea")[:160, 120:300]
    given = noisy(clean, sigma)
    answer = operator.process({"pixels": given}, operator.load())
    h = 0.6 * sigma  # the best for this photo
    theirs = np.asarray(cv2.fastNlMeansDenoisingColored(given, None, h, h, 7, 21), np.uint8)
    assert psnr(answer["pixels"], clean) > psnr(theirs, clean) + 1.5
