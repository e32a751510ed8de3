"""Whatever runs a model, it answers the same; what cannot run it says so."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from swath.operators.models.info import ModelInfo, write_weights
from swath.operators.models.modules import build, torch_module
from swath.operators.models.networks import MEASURED, Fitted, _runs_here, choose, open_network
from swath.operators.models.reference import ModelFile, find_model
from swath.schemas.errors import MissingDependency, ModelError

INFO = ModelInfo(architecture="shufflenet_v2_x0_5", arguments={"num_classes": 5}, size=32)
here = importlib.util.find_spec


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    torch.manual_seed(4)
    module = build(INFO)
    module.train()
    module(torch.randn(16, 3, 32, 32))  # settles the batch norms, so that pictures come out apart
    path = tmp_path_factory.mktemp("models") / "net.safetensors"
    write_weights(path, module.state_dict(), INFO)
    return find_model(str(path))


@pytest.mark.parametrize("backend", ["torch", "torch-bf16", "openvino"])
def test_all_backends_answer_the_same(file: ModelFile, backend: str) -> None:
    if backend == "openvino" and not here("openvino"):
        pytest.skip("openvino is not installed")
    images = np.random.default_rng(1).normal(size=(6, 32, 32, 3)).astype(np.float32)
    module = torch_module(file)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    network = open_network(file, backend=backend)
    (given,) = network(images)
    assert given.dtype == np.float32
    within = 0.05 * float(np.ptp(wanted)) if "bf16" in backend else 1e-4
    assert given == pytest.approx(wanted, abs=within)
    assert (network.backend, network.sha256) == (backend, file.sha256)
    (one,) = network(images[:1])
    assert one == pytest.approx(given[:1], abs=within)


def test_what_cannot_run_a_file_is_told(file: ModelFile) -> None:
    with pytest.raises(ModelError, match="cannot be run by onnxruntime; use torch or openvino"):
        choose(file, "onnxruntime")
    onnx = ModelFile("a.onnx", Path("a.onnx"), "0", ModelInfo())
    with pytest.raises(ModelError, match="cannot be run by torch; use onnxruntime or openvino"):
        choose(onnx, "torch")
    if not here("openvino"):
        with pytest.raises(MissingDependency, match="pip install openvino"):
            choose(onnx, "openvino")
    assert choose(onnx) in ("onnxruntime", "openvino")


@pytest.mark.parametrize("kind", ["onnx", "weights"])
def test_half_precision_is_chosen_only_where_it_is_fast_and_the_order_of_classes_counts(
    kind: str, file: ModelFile
) -> None:
    asked = ModelFile("a.onnx", Path("a.onnx"), "0", ModelInfo()) if kind == "onnx" else file
    table = json.loads(MEASURED.read_text())
    usable = [one for one in table["default"][kind] if _runs_here(one)]
    assert choose(asked, ranks=True) == usable[0]
    assert choose(asked) == next(one for one in usable if "bf16" not in one)
    rates = [table["measured"][f"mobilenet_v3_small.{kind}"][one] for one in table["default"][kind]]
    assert all(one["top1_agreement"] >= table["top1_agreement_at_least"] for one in rates)
    assert sorted(rates, key=lambda one: -one["images_per_second"]) == rates


def test_a_batch_that_is_too_large_for_the_card_is_halved_until_it_fits_and_that_is_remembered() -> None:
    tried: list[int] = []

    def compute(parts: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
        for part in parts:
            tried.append(len(part))
            if len(part) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield [part * 2]

    fitted = Fitted(compute, lambda one: 12, torch.OutOfMemoryError, torch.cuda.empty_cache)
    images = np.arange(20, dtype=np.float32).reshape(20, 1, 1, 1)
    for _ in range(2):
        (doubled,) = fitted(images)
        assert (doubled == images * 2).all()
    assert tried[:3] == [12, 6, 3]
    assert max(tried[2:]) == 3


def test_one_picture_that_is_too_large_for_the_card_is_out_of_memory() -> None:
    def too_much(parts: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    fitted = Fitted(too_much, lambda one: 8, torch.OutOfMemoryError, torch.cuda.empty_cache)
    with pytest.raises(MemoryError, match="CUDA out of memory"):
        fitted(np.zeros((4, 1, 1, 3), np.float32))


def test_the_order_of_axes_can_be_told_where_the_file_does_not_say_it(tmp_path: Path) -> None:
    sizes = ["n", "a", "b", "c"]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0)],
        "means",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", "c"])],
        [numpy_helper.from_array(np.array([1, 2]), "axes")],
    )
    path = tmp_path / "means.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    images = np.random.default_rng(2).random((2, 8, 9, 3), np.float32)
    (given,) = open_network(find_model(str(path)), backend="onnxruntime", axes="nhwc")(images)
    assert given == pytest.approx(images.mean((1, 2)), abs=1e-6)
