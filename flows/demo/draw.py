"""Draws the demo's input and says what must come out of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from swath.flows.demo import documents, files, paper, photos, rasters, survey
from swath.flows.demo.files import write
from swath.flows.demo.photos import draw_photos

__all__ = ["draw", "draw_photos"]

FOLDERS = {
    "survey": survey.draw_folder,
    "rasters": rasters.draw_folder,
    "documents": documents.draw_folder,
    "photos": photos.draw_folder,
}


def draw(destination: Path, seed: int = 7) -> dict[str, Any]:
    """Draws `survey/`, `rasters/`, `documents/`, `photos/`, `expected.csv` (the invoices that were ordered),
    `fields.geojson` (what the rasters show) and `truth.json` below `destination`; the same seed, the same bytes.

    Files that are there and right are left untouched. Returns what `truth.json` holds: for each folder `files`,
    `items` (pages counted), `rejects` (path in the folder to reason), `reasons` (reason to number of rejects),
    `digests` (path to BLAKE2b of the file), and what its draw_folder adds.
    """
    drawn_by = {"seed": seed, "version": _version()}
    earlier = _earlier(destination)
    truth: dict[str, Any] = {"drawn_by": drawn_by}
    for name, draw_folder in FOLDERS.items():
        folder = destination / name
        if earlier.get("drawn_by") == drawn_by and earlier[name]["digests"].items() <= _digests(folder).items():
            truth[name] = earlier[name]  # drawing takes ten seconds, looking none
            continue
        said = draw_folder(folder, seed)
        truth[name] = said | {"reasons": dict(Counter(said["rejects"].values())), "digests": _digests(folder)}
    write(destination / "expected.csv", documents.expected(truth["documents"]["documents"]).encode())
    write(destination / "fields.geojson", rasters.outlines())
    write(destination / "truth.json", json.dumps(truth, indent=1).encode())
    return truth


def _earlier(destination: Path) -> dict[str, Any]:
    """The truth of an earlier draw, if there was one."""
    try:
        return dict(json.loads((destination / "truth.json").read_bytes()))
    except (OSError, ValueError):
        return {}


def _digests(folder: Path) -> dict[str, str]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path.read_bytes()) for path in found}


def _version() -> str:
    """Digest of the code that draws."""
    modules = (documents, files, paper, photos, rasters, survey)
    return _digest(b"".join(Path(str(module.__file__)).read_bytes() for module in modules))


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
