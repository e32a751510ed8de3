"""Real, tiny models: what `classify` says is what torch and ONNX Runtime say when asked by hand."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from swath.operators.core.base import Pixels, Reject
from swath.operators.image.classification import Classify
from swath.operators.models.files import file_digest
from swath.operators.models.info import IMAGENET_MEAN, IMAGENET_STD
from swath.schemas.errors import ConfigurationError, ModelError
from swath.schemas.items import Reason

SIDE = 32


@pytest.fixture(scope="module")
def picture() -> Pixels:
    """A photo-like (90, 120, 3) picture: smooth colours with some noise."""
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(smooth + random.integers(-9, 9, smooth.shape), 0, 255).astype(np.uint8)


def linear_onnx(
    path: Path, classes: int = 6, layout: str = "nchw", softmax: bool = False, batch: Any = "N", channels: int = 3
) -> np.ndarray:
    """Writes a one-layer classifier over the mean colour; returns its (channels, classes) weights."""
    weights = np.random.default_rng(1).normal(size=(channels, classes)).astype(np.float32)
    shape = [batch, channels, SIDE, SIDE] if layout == "nchw" else [batch, SIDE, SIDE, channels]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["scores"], axis=-1))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores" if softmax else "logits", TensorProto.FLOAT, [batch, classes])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([2, 3] if layout == "nchw" else [1, 2]), "axes"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return weights


def exactly(model: Path, **config: Any) -> Classify:
    """By the backend that computes it in single precision everywhere."""
    told = {"classes": "indices", "backend": "onnxruntime" if model.suffix == ".onnx" else "torch"}
    return Classify(model=str(model), **told | config)


def labels(operator: Classify, *pictures: Pixels) -> list:
    prepared = [operator.prepare({"pixels": pixels}) for pixels in pictures]
    return operator.run({"prepared": prepared}, operator.load())["labels"]


def normalised(prepared: Pixels) -> np.ndarray:
    """(1, 3, H, W) float32"""
    return ((prepared / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32).transpose(2, 0, 1)[None]


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum()


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("with_softmax", [False, True])
@pytest.mark.parametrize("batch", ["N", 1])
def test_onnx_scores_are_those_computed_by_hand(
    tmp_path: Path, picture: Pixels, layout: str, with_softmax: bool, batch: Any
) -> None:
    weights = linear_onnx(tmp_path / "m.onnx", layout=layout, softmax=with_softmax, batch=batch)
    operator = exactly(tmp_path / "m.onnx", size=SIDE, top_k=3)
    operator.check()
    for pixels, found in zip((picture, 255 - picture), labels(operator, picture, 255 - picture), strict=True):
        expected = softmax(normalised(operator.prepare({"pixels": pixels})).mean(axis=(2, 3))[0] @ weights)
        best = np.argsort(-expected)[:3]
        assert [label["label"] for label in found] == [str(i) for i in best]
        assert [label["score"] for label in found] == pytest.approx(expected[best], abs=1e-5)


def test_scores_as_they_are_when_told(tmp_path: Path, picture: Pixels) -> None:
    weights = linear_onnx(tmp_path / "m.onnx")
    operator = exactly(tmp_path / "m.onnx", size=SIDE, scores="as_is", top_k=1)
    logits = normalised(operator.prepare({"pixels": picture})).mean(axis=(2, 3))[0] @ weights
    assert labels(operator, picture)[0][0]["score"] == pytest.approx(logits.max(), abs=1e-5)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_torchvision_weights_give_what_the_model_gives(tmp_path: Path, picture: Pixels, suffix: str) -> None:
    import torch
    from safetensors import torch as tensors
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(3)
    model = mobilenet_v3_small(num_classes=7)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # so that one pass settles its statistics, and pictures come out apart
    model(torch.randn(16, 3, SIDE, SIDE))
    model.eval()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        tensors.save_file(model.state_dict(), path)
    names = tuple("abcdefg")
    told = {"architecture": "mobilenet_v3_small", "size": SIDE, "classes": names, "sha256": file_digest(path)}
    operator = Classify(model=path.as_uri(), backend="torch", **told)
    operator.check()
    three = (picture, 255 - picture, picture[:, ::-1])
    for pixels, found in zip(three, labels(operator, *three), strict=True):
        with torch.inference_mode():
            logits = model(torch.from_numpy(normalised(operator.prepare({"pixels": pixels}))))
        expected = logits.softmax(1)[0].numpy()
        assert np.ptp(expected) > 0.01
        assert {label["label"]: label["score"] for label in found} == pytest.approx(
            {names[i]: expected[i] for i in np.argsort(-expected)[:5]}, abs=1e-4
        )
    with pytest.raises(ModelError, match="2 outputs that `classes` names"):
        operator.model_copy(update={"classes": ("a", "b")}).check()
    with pytest.raises(ModelError, match="do not fit torchvision's 'resnet18'"):
        operator.model_copy(update={"architecture": "resnet18"}).load()
    with pytest.raises(ModelError, match="no model 'mobilnet'"):
        operator.model_copy(update={"architecture": "mobilnet"}).load()


class Bomb:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_with_code_is_refused_and_its_code_not_run(tmp_path: Path) -> None:
    import torch

    trace, plain, zipped = tmp_path / "was-run", tmp_path / "plain.pth", tmp_path / "zipped.pth"
    plain.write_bytes(pickle.dumps({"weight": Bomb(trace)}))
    torch.save({"weight": Bomb(trace)}, zipped)
    for path in (plain, zipped):
        with pytest.raises(ModelError, match="cannot be read as weights"):
            Classify(model=str(path), architecture="resnet18").check()
    torch.save({"epoch": 3}, plain)
    with pytest.raises(ModelError, match="no state dict"):
        Classify(model=str(plain), architecture="resnet18").load()
    assert not trace.exists()


def test_only_the_middle_of_the_picture_is_seen() -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 200
    operator = Classify(model="unused.onnx", size=50, resize=50)
    prepared = operator.prepare({"pixels": pixels})
    assert prepared.shape == (50, 50, 3)
    assert prepared.dtype == np.uint8
    assert (prepared == 200).all()
    assert operator.needs_pixels() == 50
    assert Classify(model="unused.onnx").needs_pixels() == 256


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (33, 7), (31, 32)])
def test_pictures_of_any_shape_become_the_square_the_model_wants(shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 9, np.uint8)
    assert Classify(model="unused.onnx", size=32, resize=32).prepare({"pixels": pixels}).shape == (32, 32, 3)


def test_a_score_that_is_no_number_rejects_its_picture_alone(tmp_path: Path, picture: Pixels) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["colour"], keepdims=0),
            helper.make_node("Sqrt", ["colour"], ["scores"]),  # of what is below zero: no number
        ],
        "roots",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    operator = Classify(model=str(tmp_path / "m.onnx"), size=SIDE)
    black, white = np.zeros_like(picture), np.full_like(picture, 255)
    bad, good = labels(operator, black, white)
    assert isinstance(bad, Reject)
    assert bad.reason is Reason.OPERATOR_ERROR
    assert len(good) == 3


def test_class_names_come_from_a_file_and_must_be_as_many_as_the_classes(tmp_path: Path, picture: Pixels) -> None:
    linear_onnx(tmp_path / "m.onnx", classes=3)
    (tmp_path / "names.txt").write_text("ash\nbeech\nçam\n", encoding="utf-8")
    operator = Classify(model=str(tmp_path / "m.onnx"), size=SIDE, classes=str(tmp_path / "names.txt"))
    operator.check()
    assert {label["label"] for label in labels(operator, picture)[0]} == {"ash", "beech", "çam"}
    with pytest.raises(ModelError, match="3 classes but `classes` names 2"):
        operator.model_copy(update={"classes": ("a", "b")}).check()
    with pytest.raises(ConfigurationError, match=r"none\.txt"):
        operator.model_copy(update={"classes": str(tmp_path / "none.txt")}).check()


def test_the_digest_is_of_the_content_and_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    linear_onnx(path)
    operator = Classify(model=str(path), size=SIDE)
    first = operator.model_digest()
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    Classify(model=str(path), size=SIDE, sha256=first, classes="indices").check()
    linear_onnx(path, classes=9)
    assert operator.model_digest() != first
    with pytest.raises(ModelError, match="has sha256"):
        Classify(model=str(path), size=SIDE, sha256=first, classes="indices").check()


def two_inputs(path: Path) -> None:
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 8, 8]) for name in ("a", "b")]
    out = helper.make_tensor_value_info("c", TensorProto.FLOAT, ["N", 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "two", given, [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def test_models_that_cannot_work_are_refused_with_a_remedy(tmp_path: Path) -> None:
    linear_onnx(tmp_path / "m.onnx")
    linear_onnx(tmp_path / "four.onnx", channels=4)
    two_inputs(tmp_path / "two.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    (tmp_path / "m.h5").write_bytes(b"keras")
    save_file({"weight": np.zeros((3, 3), np.float32)}, tmp_path / "bare.safetensors")
    for name, config, message in (
        ("none.onnx", {}, "not found; give the path"),
        ("m.onnx", {}, "does not say what its classes are called; give `classes`"),
        ("m.h5", {}, "unknown kind; use one of .onnx"),
        ("m.onnx", {"size": 64}, "32x32; set `size`"),
        ("two.onnx", {}, "one float image tensor of 4 axes"),
        ("four.onnx", {}, "takes pictures of 4 x 32 x 32 and is given 3 x 32 x 32; export it for RGB"),
        ("bare.safetensors", {"architecture": "resnet18"}, "weights do not fit torchvision's 'resnet18'"),
        ("bare.safetensors", {"architecture": "resnet1"}, "torchvision has no model 'resnet1'"),
        ("broken.onnx", {}, "cannot be read as ONNX"),
        ("bare.safetensors", {}, "in `architecture`"),
        ("broken.safetensors", {"architecture": "resnet18"}, "cannot be read as safetensors"),
    ):
        with pytest.raises(ModelError, match=message):
            Classify(model=str(tmp_path / name), **config).check()


def test_a_crop_larger_than_the_resized_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller than size"):
        Classify(model="m.onnx", size=224, resize=200)


def said_of_itself(path: Path, bias: tuple[float, ...], temperature: float = 1.0) -> np.ndarray:
    """Writes a one-layer classifier of the mean colour that says what it takes and what it knows; its logits for
    grey 128, normalised to 0."""
    import torch

    from swath.operators.models.info import ModelInfo, write_weights
    from swath.operators.models.modules import build

    info = ModelInfo(
        architecture="swath.image_kind",
        arguments={"num_classes": len(bias)},
        classes=tuple("abcdefgh"[: len(bias)]),
        size=SIDE,
        resize=SIDE,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        temperature=temperature,
    )
    weights = {name: torch.zeros_like(tensor) for name, tensor in build(info).state_dict().items()}
    weights["classifier.bias"] = torch.tensor(bias)
    write_weights(path, weights, info)
    return np.array(bias)


def test_what_a_model_says_of_itself_need_not_be_told(tmp_path: Path, picture: Pixels) -> None:
    path = tmp_path / "m.safetensors"
    bias = said_of_itself(path, (0.0, 2.0, 1.0))
    operator = Classify(model=str(path))
    operator.check()
    settled = operator.settled()
    assert (settled.size, settled.resize, settled.mean, settled.std) == (SIDE, SIDE, (0.5,) * 3, (0.25,) * 3)
    assert settled.classes == ("a", "b", "c")
    for one in (operator, settled):
        assert one.needs_pixels() == SIDE
        found = labels(one, picture)[0]
        assert [label["label"] for label in found] == ["b", "c", "a"]
        assert [label["score"] for label in found] == pytest.approx(softmax(bias)[[1, 2, 0]], abs=1e-6)
    told = operator.model_copy(update={"size": 64, "classes": ("x", "y", "z")})
    assert told.needs_pixels() == 73
    assert labels(told, picture)[0][0]["label"] == "y"


def test_an_onnx_file_of_one_size_need_not_be_told_it(tmp_path: Path, picture: Pixels) -> None:
    linear_onnx(tmp_path / "m.onnx")
    operator = Classify(model=str(tmp_path / "m.onnx"), classes="indices").settled()
    operator.check()
    assert operator.size == SIDE
    assert len(labels(operator, picture)[0]) == 5


@pytest.mark.parametrize("told", [None, 4.0])
def test_scores_are_cooled_by_the_temperature(tmp_path: Path, picture: Pixels, told: float | None) -> None:
    bias = said_of_itself(tmp_path / "m.safetensors", (0.0, 2.0, 1.0), temperature=2.0)
    found = labels(exactly(tmp_path / "m.safetensors", temperature=told), picture)[0]
    assert found[0]["score"] == pytest.approx(softmax(bias / (told or 2.0))[1], abs=1e-6)
    weights = linear_onnx(tmp_path / "m.onnx", softmax=True)
    operator = exactly(tmp_path / "m.onnx", temperature=3.0, top_k=1)
    logits = normalised(operator.prepare({"pixels": picture})).mean(axis=(2, 3))[0] @ weights
    assert labels(operator, picture)[0][0]["score"] == pytest.approx(softmax(logits / 3).max(), abs=1e-5)


@pytest.mark.parametrize("probabilities", [False, True])
def test_several_labels_are_those_above_the_threshold(tmp_path: Path, picture: Pixels, probabilities: bool) -> None:
    weights = linear_onnx(tmp_path / "m.onnx")
    if probabilities:
        model = onnx.load(tmp_path / "m.onnx")
        model.graph.node.append(helper.make_node("Sigmoid", ["logits"], ["scores"]))
        model.graph.output[0].name = "scores"
        onnx.save(model, tmp_path / "m.onnx")
    operator = exactly(tmp_path / "m.onnx", multi_label=True)
    operator.check()
    logits = normalised(operator.prepare({"pixels": picture})).mean(axis=(2, 3))[0] @ weights
    expected = 1 / (1 + np.exp(-logits))
    for threshold in (None, 0.2, 1.0):
        found = labels(operator.model_copy(update={"threshold": threshold, "top_k": 9}), picture)[0]
        kept = [i for i in np.argsort(-expected) if expected[i] >= (0.5 if threshold is None else threshold)]
        assert [label["label"] for label in found] == [str(i) for i in kept]
        assert [label["score"] for label in found] == pytest.approx(expected[kept], abs=1e-5)
    assert len(labels(operator, picture)[0]) not in (0, 6)
    with pytest.raises(ValueError, match="softmax does not fit"):
        Classify(model="m.onnx", multi_label=True, scores="softmax")
