"""Models as torch modules: built from what their files say, and filled with their weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from swath.operators.models.files import WEIGHTS, state_dict
from swath.operators.models.info import ModelInfo
from swath.operators.models.nets import OURS
from swath.operators.models.pt2 import load_pt2
from swath.operators.models.reference import ModelFile
from swath.schemas.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Build = Callable[..., Any]


def torch_module(file: ModelFile) -> Module:
    """The model in eval mode on the CPU. Raises ModelError where its weights fit no architecture that is known."""
    suffix = file.path.suffix.lower()
    if suffix == ".pt2":
        return load_pt2(file.path)
    if suffix not in WEIGHTS:
        raise ModelError(f"model {file.name!r} is no torch model; give .safetensors, .pth, .pt or .pt2")
    architecture_of(file)
    return build(file.info, state_dict(file.path))


def architecture_of(file: ModelFile) -> str:
    """What builds the network of a weights file; ModelError where nobody has said."""
    if file.info.architecture is None:
        raise ModelError(
            f"model {file.name!r} holds weights only; name its torchvision model in `architecture`, "
            "such as mobilenet_v3_small"
        )
    return file.info.architecture


def build(info: ModelInfo, weights: dict[str, Tensor] | None = None) -> Module:
    """The network that `info` names, in eval mode: with these weights, or with random ones.

    Raises ModelError where there is no such architecture, or the weights are another one's.
    """
    name = info.architecture or ""
    whose = "" if name in OURS else "torchvision's "
    make = _ours(name) if name in OURS else _torchvision(name)
    try:
        arguments = dict(info.arguments)
        if weights is not None and name not in OURS and "num_classes" not in arguments:
            arguments |= _num_classes(make, arguments, weights)
        module = make(**arguments)
        if weights is not None:
            module.load_state_dict(_of_its_types(module, weights))
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        what = "the weights do not fit" if weights is not None else "there is no such"
        raise ModelError(f"{what} {whose}{name!r}: {reason}") from error
    return module.eval()  # type: ignore[no-any-return]


def _ours(name: str) -> Build:
    module, _, kind = OURS[name].partition(":")
    made: Build = getattr(import_module(f"swath.operators.models.nets.{module}"), kind)
    return made


def _torchvision(name: str) -> Build:
    """Its builder, told to fetch no weights of its own."""
    from torchvision.models import get_model_builder

    try:
        builder = get_model_builder(name)
    except ValueError as error:
        raise ModelError(f"torchvision has no model {name!r}; see torchvision.models.list_models()") from error
    none = {key: None for key in ("weights", "weights_backbone") if key in inspect.signature(builder).parameters}
    return lambda **arguments: builder(**{**arguments, **none})


def _num_classes(make: Build, arguments: dict[str, Any], weights: dict[str, Tensor]) -> dict[str, int]:
    """How many classes the weights are for, from the layers that grow with them; none where they fit as they are."""
    import torch

    with torch.device("meta"):  # shapes only
        usual, few, many = (
            {name: tensor.shape for name, tensor in make(**arguments, **more).state_dict().items()}
            for more in ({}, {"num_classes": 10}, {"num_classes": 11})
        )
    if all(name in weights and weights[name].shape == shape for name, shape in usual.items()):
        return {}
    found = {
        10 + (weights[name].shape[0] - few[name][0]) / (many[name][0] - few[name][0])
        for name in few
        if name in weights and few[name][:1] != many[name][:1]
    }
    return {"num_classes": int(found.pop())} if len(found) == 1 else {}


def _of_its_types(module: Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights that are kept in half precision become what the network computes with."""
    own = module.state_dict()
    return {name: tensor.to(own[name].dtype) if name in own else tensor for name, tensor in weights.items()}
