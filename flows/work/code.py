"""The user's own modules that workers need and no machine has installed, which are shipped to a cluster's nodes."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import swath
from swath.schemas.errors import ConfigurationError

MOST_BYTES = 100 << 20
LEFT_OUT = (".git", ".venv", "venv", "__pycache__", "*.pyc", "node_modules")
"""Patterns of files and folders of a package that do not travel."""


def own_modules(modules: Mapping[str, ModuleType] | None = None) -> list[Path]:
    """The packages (folders) and modules (.py files) which a process has imported from anywhere but an installation:
    the operators of a pipeline, and what they import, from the working folder or an editable install.

    Raises ConfigurationError where they are too large to be shipped.
    """
    given = dict(sys.modules if modules is None else modules)
    found = {place for name, module in given.items() if (place := _place(name, module)) is not None}
    sizes = {place: sum(size for _, size in _files(place)) for place in found}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda place: sizes[place])
        file, bytes_ = max(_files(largest), key=lambda one: one[1])
        raise ConfigurationError(
            f"{largest} has {sizes[largest] / 1e6:,.0f} MB, the largest of which is {file.relative_to(largest.parent)} "
            f"({bytes_ / 1e6:,.0f} MB), and what is shipped to a cluster's nodes may have {MOST_BYTES / 1e6:,.0f} MB "
            "in all; keep models and data in object storage, or install the package on every node"
        )
    return sorted(found)


@cache
def swath_digest() -> str:
    """12 hex digits that stand for the code of this package as it is installed here."""
    hashed = hashlib.blake2b(digest_size=6)
    for root in sorted(path for path in Path(swath.__path__[0]).iterdir() if path.is_dir()):
        for path in sorted(root.rglob("*.py")):
            hashed.update(f"{root.name}/{path.relative_to(root)}\n".encode() + path.read_bytes())
    return hashed.hexdigest()


def _place(name: str, module: ModuleType) -> Path | None:
    """The folder or file of a top-level module that is neither installed, nor this package, nor the program itself."""
    if "." in name or name in ("swath", "__main__", "__mp_main__"):
        return None
    folders, file = list(getattr(module, "__path__", ())), getattr(module, "__file__", None)
    if not folders and not (file and file.endswith(".py")):
        return None
    place = Path(str(folders[0] if folders else file)).absolute()
    return place if place.exists() and not _installed(place) else None


def _installed(place: Path) -> bool:
    library = [Path(str(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib")]
    return bool({"site-packages", "dist-packages"} & {*place.parts}) or any(map(place.is_relative_to, library))


def _files(place: Path) -> Iterator[tuple[Path, int]]:
    """What of a module travels, with its size in bytes."""
    if place.is_file():
        yield place, place.stat().st_size
        return
    for path in sorted(place.iterdir()):
        if not any(path.match(pattern) for pattern in LEFT_OUT) and path.exists():
            yield from _files(path)
