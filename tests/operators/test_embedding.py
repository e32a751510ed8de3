"""Embeddings are what the model pools before its last layer, of length 1, and alike pictures have alike ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.operators.kit import field_picture, page_picture

from swath.operators.core.base import Pixels, Reject
from swath.operators.image.embedding import Embed
from swath.operators.models.info import ModelInfo, write_weights
from swath.operators.models.modules import build
from swath.schemas.errors import ModelError
from swath.schemas.items import Reason

SIDE = 64


def embedded(operator: Embed, *pictures: Pixels) -> list[np.ndarray]:
    prepared = [operator.prepare({"pixels": pixels}) for pixels in pictures]
    return [np.array(one) for one in operator.run({"prepared": prepared}, operator.load())["embedding"]]


@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "swath.image_kind"])
def test_weights_give_what_their_last_layer_would_have_read(tmp_path: Path, architecture: str) -> None:
    import torch

    torch.manual_seed(1)
    info = ModelInfo(architecture=architecture, arguments={"num_classes": 5}, size=SIDE, resize=SIDE)
    model = build(info)
    write_weights(tmp_path / "m.safetensors", model.state_dict(), info)
    read: list[torch.Tensor] = []
    last = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
    last.register_forward_hook(lambda layer, given, made: read.append(given[0]))
    operator = Embed(model=str(tmp_path / "m.safetensors")).settled()
    operator.check()
    pixels = field_picture(3, SIDE, SIDE)
    (found,) = embedded(operator, pixels)
    images = operator.normalised([operator.prepare({"pixels": pixels})])
    with torch.inference_mode():
        model(torch.from_numpy(images).permute(0, 3, 1, 2))
    expected = read[0][0].numpy() / np.linalg.norm(read[0][0].numpy())
    assert found == pytest.approx(expected, abs=2e-3)
    assert np.array_equal(found, found.astype(np.float16))
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-3)


def test_what_has_no_last_layer_of_that_kind_is_refused_with_a_remedy(tmp_path: Path) -> None:
    info = ModelInfo(architecture="squeezenet1_1", arguments={"num_classes": 3})
    write_weights(tmp_path / "m.safetensors", build(info).state_dict(), info)
    with pytest.raises(ModelError, match="no last linear layer; export its features as ONNX"):
        Embed(model=str(tmp_path / "m.safetensors")).load()


@pytest.mark.parametrize("operation", ["Identity", "Sqrt"])
def test_features_that_have_places_are_pooled_and_no_numbers_are_rejects(tmp_path: Path, operation: str) -> None:
    shape = ["N", 3, SIDE, SIDE]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "features"))
    graph = helper.make_graph([helper.make_node(operation, ["image"], ["features"])], "same", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    operator = Embed(model=str(tmp_path / "m.onnx"), mean=(0.5,) * 3, std=(1.0,) * 3, resize=SIDE).settled()
    assert operator.size == SIDE
    pixels = np.full((SIDE, SIDE, 3), (255, 51, 128), np.uint8)
    if operation == "Sqrt":  # of what is below zero
        (found,) = operator.run({"prepared": [pixels]}, operator.load())["embedding"]
        assert isinstance(found, Reject)
        assert found.reason is Reason.OPERATOR_ERROR
        return
    colour = np.array([255, 51, 128]) / 255 - 0.5
    assert embedded(operator, pixels)[0] == pytest.approx(colour / np.linalg.norm(colour), abs=1e-3)


def test_the_same_picture_made_smaller_stays_near_and_another_does_not() -> None:
    field, smaller, page = embedded(Embed(), field_picture(1), field_picture(1)[::2, ::2], page_picture())
    assert field @ smaller > 0.9 > field @ page
