"""A model is found by its reference, is what it should be, or the error says what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from swath.operators.models import reference
from swath.operators.models.info import ModelInfo, read_info, write_weights
from swath.operators.models.modules import build, torch_module
from swath.operators.models.reference import find_model, shipped
from swath.schemas.errors import ModelError

INFO = ModelInfo(task="classification", architecture="shufflenet_v2_x0_5", classes=("ash", "beech", "oak"), size=64)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "trees.safetensors"
    torch.manual_seed(1)
    module = build(INFO.model_copy(update={"arguments": {"num_classes": 3}}))
    write_weights(path, module.state_dict(), INFO)
    return path


def test_a_file_says_itself_what_it_is(weights: Path) -> None:
    file = find_model(str(weights), sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    assert file.info == INFO
    assert torch_module(file)(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    assert find_model(weights.as_uri()).sha256 == file.sha256


def test_the_same_tensors_make_the_same_file(weights: Path, tmp_path: Path) -> None:
    write_weights(tmp_path / "again.safetensors", load_file(weights), INFO)
    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()


def test_weights_in_half_precision_are_computed_with_in_full(weights: Path, tmp_path: Path) -> None:
    half = {name: one.half() if one.is_floating_point() else one for name, one in load_file(weights).items()}
    write_weights(tmp_path / "half.safetensors", half, INFO)
    module = torch_module(find_model(str(tmp_path / "half.safetensors")))
    assert {one.dtype for one in module.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('{"size": 0}', "says of itself what cannot be: size"),
        ('{"task": "magic"}', "says of itself what cannot be: task"),
        ("not json", "says of itself what cannot be"),
    ],
)
def test_a_description_that_cannot_be_is_refused(tmp_path: Path, said: str, message: str) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "m.safetensors", {"swath": said})
    with pytest.raises(ModelError, match=message):
        find_model(str(tmp_path / "m.safetensors"))


def test_wrong_references_say_what_there_is(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_fetch", reference._nowhere)  # as where operators are used without a run
    for model, message in (
        ("swath:nothing", "there is no shipped model 'nothing'"),
        ("swath:../info", "there is no shipped model"),
        ("torchvision:resnet19", "torchvision has no model 'resnet19'"),
        ("torchvision:resnet18@BEST", "no weights 'BEST' of resnet18; there are IMAGENET1K_V1"),
        ("models/net.h5", "unknown kind; use one of"),
        (str(tmp_path / "none.onnx"), "give the path of an existing file"),
        ("s3://bucket/net.onnx", "not on this machine"),
    ):
        with pytest.raises(ModelError, match=message):
            find_model(model)
    with pytest.raises(ModelError, match="has sha256"):
        find_model(str(weights), sha256="0" * 64)
    other = find_model(str(weights), architecture="mobilenet_v3_small")
    with pytest.raises(ModelError, match="weights do not fit torchvision's 'mobilenet_v3_small'"):
        torch_module(other)


def test_without_a_network_the_error_names_the_file_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(ModelError) as failure:
        find_model("torchvision:squeezenet1_1")
    place = tmp_path / "models" / "torchvision" / "squeezenet1_1-b8a52dc0.pth"
    assert f"put it at {place}" in str(failure.value)
    torch.save(build(ModelInfo(architecture="squeezenet1_1")).state_dict(), place)
    file = find_model("torchvision:squeezenet1_1")
    assert (file.path, file.info.architecture, file.info.size) == (place, "squeezenet1_1", 224)
    assert file.info.classes is not None
    assert len(file.info.classes) == 1000


def test_shipped_models_can_be_built_and_their_cards_state_their_digest() -> None:
    for name in shipped():
        file = find_model(name)
        torch_module(file)
        assert file.sha256 in file.path.with_suffix(".md").read_text(encoding="utf-8")
        assert read_info(file.path).licence
