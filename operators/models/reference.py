"""A model by its reference: `swath:NAME`, `torchvision:NAME[@WEIGHTS]`, or the path or URI of a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from swath.operators.models.files import SUFFIXES, file_digest, verify
from swath.operators.models.info import ModelInfo, read_info
from swath.schemas.errors import ModelError

SHIPPED = Path(__file__).parent / "weights"
Fetch = Callable[[str, Path], Path]
"""From the URI of a model in an object store, and the folder for such files, to the file here."""


@dataclass(frozen=True)
class ModelFile:
    """A model's file on this machine."""

    name: str
    """The reference it was found by."""
    path: Path
    sha256: str
    info: ModelInfo


def models_home() -> Path:
    """The folder of fetched models: SWATH_MODELS, or `swath/models` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("SWATH_MODELS") or f"{cache}/swath/models").expanduser()


def find_model(model: str, *, sha256: str | None = None, architecture: str | None = None) -> ModelFile:
    """The file behind a reference, fetched if it must be, and verified.

    Raises ModelError where there is none, it is of an unknown kind, or not the one with that digest.
    """
    scheme, _, rest = model.partition(":")
    if scheme == "swath":
        path, info = _shipped(rest), None
    elif scheme == "torchvision":
        path, info = _of_torchvision(rest)
    else:
        path, info = _file(model), None
    verify(path, sha256)
    digest = file_digest(path)
    found = info or _info(path, digest)
    if architecture:
        found = found.model_copy(update={"architecture": architecture})
    return ModelFile(model, path, digest, found)


def shipped() -> list[str]:
    """The references of the models in this package."""
    return [f"swath:{path.stem}" for path in sorted(SHIPPED.glob("*.safetensors"))]


def use_fetch(fetch: Fetch) -> None:
    """Tells how models in object stores are fetched; operators know no store."""
    global _fetch
    _fetch = fetch


def torchvision_weights(reference: str) -> tuple[str, Any]:
    """The architecture and torchvision's weights entry behind `NAME[@WEIGHTS]`; ModelError where it has none."""
    from torchvision.models import get_model_weights

    name, _, which = reference.partition("@")
    try:
        entries = get_model_weights(name)
    except ValueError as error:
        raise ModelError(f"torchvision has no model {name!r}; see torchvision.models.list_models()") from error
    try:
        return name, entries[which or "DEFAULT"]
    except KeyError:
        there = ", ".join(entry.name for entry in entries)
        raise ModelError(f"torchvision has no weights {which!r} of {name}; there are {there or 'none'}") from None


def _shipped(name: str) -> Path:
    path = SHIPPED / f"{name}.safetensors"
    if path.parent != SHIPPED or not path.is_file():
        raise ModelError(f"there is no shipped model {name!r}; there are {', '.join(shipped()) or 'none'}")
    return path


def _of_torchvision(reference: str) -> tuple[Path, ModelInfo]:
    name, entry = torchvision_weights(reference)
    path = _downloaded(f"torchvision:{reference}", entry.url)
    transforms: Any = entry.transforms()

    def side(value: Any) -> int | None:
        return value[0] if isinstance(value, list | tuple) else value if isinstance(value, int) else None

    wanted = {
        "size": side(getattr(transforms, "crop_size", None)),
        "resize": side(getattr(transforms, "resize_size", None)),
        "mean": getattr(transforms, "mean", None),
        "std": getattr(transforms, "std", None),
        "classes": entry.meta.get("categories"),
    }
    given = {key: value for key, value in wanted.items() if value is not None}
    return path, ModelInfo(architecture=name, licence="see torchvision", **given)


def _downloaded(model: str, url: str) -> Path:
    """A file of torchvision's, from where torchvision itself keeps it, our own folder, or the network."""
    import torch

    name = url.rpartition("/")[2]
    path = models_home() / "torchvision" / name
    for place in (path, Path(torch.hub.get_dir(), "checkpoints", name)):
        if place.is_file():
            return place
    prefix = name.rpartition(".")[0].rpartition("-")[2]  # the first digits of its sha256, as torch.hub has it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"{model!r} could not be fetched ({_reason(error)}); fetch {url} where there is a network and put it at "
            f"{path}, or set SWATH_MODELS to a folder that has it as torchvision/{name}"
        ) from error
    return path


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error).splitlines()[0][:200]


def _file(model: str) -> Path:
    parts = urlsplit(model)
    suffix = Path(parts.path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelError(
            f"model {model!r} is of an unknown kind; use one of {', '.join(SUFFIXES)}, or swath:NAME, torchvision:NAME"
        )
    if "://" in model and parts.scheme != "file":
        return _fetch(model, models_home() / "fetched")
    path = Path(unquote(parts.path) if parts.scheme == "file" else model).expanduser()
    if not path.is_file():
        raise ModelError(f"model {model!r} not found; give the path of an existing file")
    return path


def _nowhere(model: str, folder: Path) -> Path:
    raise ModelError(f"model {model!r} is not on this machine; copy it and give its path, or a file:// URI")


_fetch: Fetch = _nowhere


@lru_cache(maxsize=64)
def _info(path: Path, digest: str) -> ModelInfo:
    return read_info(path)
