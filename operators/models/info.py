"""What is known of a model beside its weights: kept in the file itself, so that a path is all a user needs to give."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swath.operators.models.files import WEIGHTS
from swath.schemas.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

Task = Literal["classification", "detection", "instance", "segmentation", "super_resolution", "denoising", "embedding"]
Three = tuple[float, float, float]
IMAGENET_MEAN: Three = (0.485, 0.456, 0.406)
IMAGENET_STD: Three = (0.229, 0.224, 0.225)
KEY = "swath"
"""The metadata entry of a .safetensors or .onnx file that holds a `ModelInfo` as JSON."""


class ModelInfo(BaseModel):
    """What a model does, what builds it, what it takes and what its outputs mean."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    task: Task | None = None
    architecture: str | None = None
    """Name of a torchvision builder (`mobilenet_v3_small`), or of one of ours (`swath.super_res`)."""
    arguments: dict[str, Any] = {}
    """The builder's keyword arguments: `{"num_classes": 2}`."""
    classes: tuple[str, ...] | None = None
    """Class names in the order of the outputs."""
    size: int | None = Field(default=None, ge=1, le=16384)
    """Side in pixels of the square that it takes; None: any."""
    resize: int | None = Field(default=None, ge=1, le=16384)
    """Length in pixels to which the shorter side is brought before the square is cut out."""
    mean: Three = IMAGENET_MEAN
    std: Three = IMAGENET_STD
    """Of red, green and blue on a scale of 0 to 1."""
    temperature: float = Field(default=1.0, gt=0)
    """What logits are divided by, so that scores are how often it is right (Guo et al. 2017)."""
    licence: str | None = None
    trained_on: str | None = None
    date: str | None = None
    figures: dict[str, float] = {}
    """Measured on what it never saw: `{"psnr_db": 32.9}`."""


def read_info(path: Path) -> ModelInfo:
    """What a file says of itself; all unknown where it says nothing. Raises ModelError where it is no such file."""
    kind = path.suffix.lower()
    if kind == ".safetensors":
        return _parsed(path, _safetensors_metadata(path).get(KEY))
    if kind == ".onnx":
        said = _onnx_metadata(path)
        return _parsed(path, said[KEY]) if KEY in said else ModelInfo(classes=_listed(said.get("names")))
    beside = path.with_suffix(".json")  # the other kinds have no place for it
    return (
        _parsed(path, beside.read_text(encoding="utf-8")) if kind not in WEIGHTS and beside.is_file() else ModelInfo()
    )


def write_weights(path: Path, tensors: Mapping[str, Tensor], info: ModelInfo) -> None:
    """A .safetensors file that says what it is; the same bytes for the same tensors."""
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    said = json.dumps(info.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    temporary = path.with_suffix(".part")
    save_file(whole, temporary, {KEY: said})
    temporary.chmod(0o644)  # safetensors leaves it to its owner alone
    temporary.replace(path)


def _parsed(path: Path, said: str | None) -> ModelInfo:
    try:
        return ModelInfo.model_validate_json(said) if said else ModelInfo()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"model {str(path)!r} says of itself what cannot be: {where}: {first['msg']}") from error


def _safetensors_metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ModelError(f"model {str(path)!r} cannot be read as safetensors: {error}") from error


def _onnx_metadata(path: Path) -> dict[str, str]:
    from swath.operators.models.networks import onnx_session

    return dict(onnx_session(path).get_modelmeta().custom_metadata_map)


def _listed(names: str | None) -> tuple[str, ...] | None:
    """Class names as Ultralytics' exports have them: `{0: 'person', 1: 'bicycle'}`."""
    try:
        found = ast.literal_eval(names or "")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(found, dict) and sorted(found) == list(range(len(found))):
        return tuple(str(found[index]) for index in range(len(found)))
    return None
