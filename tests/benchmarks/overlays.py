"""Pages with what was found on them drawn in: lines, regions, codes, fields; for people to look at.

`python -m tests.benchmarks.overlays SOURCE OUT [--warehouse W] [--limit N]`: SOURCE is a folder of pages. With a
warehouse, the lines and fields that a run has stored for those files are taken, and nothing is read again.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import duckdb

from swath.operators.core.base import Matrix, Pixels
from swath.operators.documents.codes import ReadCodes
from swath.operators.documents.layout import Layout
from swath.operators.documents.ocr import Ocr
from swath.operators.image.codec import Decode
from swath.operators.image.formats import EXTENSIONS
from swath.operators.image.overlay import Overlay

DRAW = Overlay(draw=("lines", "regions", "codes", "fields"), longest_side=1800)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--warehouse", help="take what a run has stored there")
    parser.add_argument("--limit", type=int, default=10)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = _stored(arguments.warehouse, arguments.source) if arguments.warehouse else _read(arguments.source)
    for _, (row, pixels, to_source) in zip(range(arguments.limit), rows, strict=False):
        name = f"{Path(row['source_uri']).name}-{row.get('page') or 1}.png"
        given = {column: row.get(column) for column in ("item_id", *DRAW.draw)}
        shown = DRAW.drawn({**given, "pixels": pixels, "to_source": to_source})
        cv2.imwrite(str(arguments.out / name), shown[..., ::-1])
        kinds = Counter(one["kind"] for one in row.get("regions") or [])
        counts = {column: len(row.get(column) or []) for column in ("lines", "codes", "fields")} | kinds
        print(f"{name}: {', '.join(f'{count} {kind}' for kind, count in sorted(counts.items()))}")


Found = Iterator[tuple[dict[str, Any], Pixels, Matrix]]


def _read(source: Path) -> Found:
    """The first page of every file, read now."""
    ocr = Ocr()
    model = ocr.load()
    known = {extension for extensions in EXTENSIONS.values() for extension in extensions}
    for path in sorted(
        path
        for path in source.resolve().rglob("*")
        if path.suffix.lower().lstrip(".") in {e.lstrip(".") for e in known}
    ):
        row: dict[str, Any] = {"source_uri": path.as_uri(), "page": None, "bytes": path.read_bytes(), "window": None}
        given = {**row, **_decoded(row)}
        yield _found({**given, **ocr.process(given, model)}), given["pixels"], given["to_source"]


def _stored(warehouse: str, source: Path) -> Found:
    """The pages of a warehouse's documents that stand below the source."""
    files = f"{warehouse.removeprefix('file://')}/tables/*/data/**/*.parquet"
    table = duckdb.sql(f"FROM read_parquet('{files}') WHERE status = 'ok' ORDER BY source_uri, page").to_arrow_table()
    for row in table.to_pylist():
        path = Path(row["source_uri"].removeprefix("file://"))
        if path.is_relative_to(source.resolve()) and path.exists():
            given = {**row, **_decoded({**row, "bytes": path.read_bytes()})}
            yield _found(given), given["pixels"], given["to_source"]


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    decode = Decode(dpi=200)
    done = decode.process({column.name: row.get(column.name) for column in decode.inputs()}, decode.load())
    return {**done, "to_source": done["to_input"]}


def _found(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **ReadCodes().process(row, None), **Layout().process(row, None)}


if __name__ == "__main__":
    main()
