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
import numpy as np

from swath.operators.core.base import Matrix, Pixels
from swath.operators.documents.codes import ReadCodes
from swath.operators.documents.layout import Layout
from swath.operators.documents.ocr import Ocr
from swath.operators.image.codec import Decode
from swath.operators.image.formats import EXTENSIONS

COLOURS = {
    **{"header": (200, 0, 200), "paragraph": (0, 150, 0), "table": (0, 0, 255), "cell": (255, 140, 0)},
    **{"totals_block": (220, 170, 0), "signature": (255, 0, 0), "stamp": (150, 0, 90), "logo": (0, 150, 150)},
    **{"checkbox": (220, 60, 0), "line": (170, 200, 255), "code": (90, 90, 90), "field": (255, 0, 120)},
}
"""RGB."""
LONGEST_SIDE = 1800


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
        shown, counts = drawn(row, pixels, to_source)
        cv2.imwrite(str(arguments.out / name), shown[..., ::-1])
        print(f"{name}: {', '.join(f'{count} {kind}' for kind, count in sorted(counts.items()))}")


def drawn(row: dict[str, Any], pixels: Pixels, to_source: Matrix) -> tuple[Pixels, Counter[str]]:
    """The page with its boxes, and how many of each kind; those of `row` are in source pixels."""
    shown, back = np.ascontiguousarray(pixels).copy(), np.linalg.inv(to_source)
    weight = max(1, max(shown.shape) // 1200)
    counts: Counter[str] = Counter()
    boxes = [("line", "", one["box"]) for one in row.get("lines") or []]
    boxes += [(one["kind"], _label(one), one["box"]) for one in row.get("regions") or []]
    boxes += [("code", one["format"], one["box"]) for one in row.get("codes") or []]
    boxes += [("field", one["name"], one["box"]) for one in row.get("fields") or [] if one["box"]]
    for kind, label, box in boxes:
        counts[kind] += 1
        ends = np.array([(box["x_min"], box["y_min"], 1), (box["x_max"], box["y_max"], 1)]) @ back.T
        (x, y), (right, bottom) = (ends[:, :2] / ends[:, 2:]).round().astype(int).tolist()
        cv2.rectangle(shown, (x, y), (right, bottom), COLOURS[kind], weight if kind in ("line", "cell") else 2 * weight)
        cv2.putText(shown, label, (x, y - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.45 * weight, COLOURS[kind], weight)
    scale = LONGEST_SIDE / max(shown.shape)
    if scale < 1:
        shown = np.asarray(cv2.resize(shown, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return shown, counts


def _label(region: dict[str, Any]) -> str:
    return "" if region["kind"] == "cell" else f"{region['kind']} {region['state'] or ''} {region['confidence']:.2f}"


Found = Iterator[tuple[dict[str, Any], Pixels, Matrix]]


def _read(source: Path) -> Found:
    """The first page of every file, read now."""
    ocr = Ocr()
    model = ocr.load()
    known = {extension for extensions in EXTENSIONS.values() for extension in extensions}
    for path in sorted(
        path for path in source.rglob("*") if path.suffix.lower().lstrip(".") in {e.lstrip(".") for e in known}
    ):
        row: dict[str, Any] = {"source_uri": path.as_uri(), "page": None, "bytes": path.read_bytes(), "window": None}
        pixels, to_source, format = _decoded(row)
        given = {**row, "pixels": pixels, "to_source": to_source, "format": format}
        yield _found({**given, **ocr.process(given, model)}), pixels, to_source


def _stored(warehouse: str, source: Path) -> Found:
    """The pages of a warehouse's documents that stand below the source."""
    files = f"{warehouse.removeprefix('file://')}/tables/*/data/**/*.parquet"
    table = duckdb.sql(f"FROM read_parquet('{files}') WHERE status = 'ok' ORDER BY source_uri, page").to_arrow_table()
    for row in table.to_pylist():
        path = Path(row["source_uri"].removeprefix("file://"))
        if path.is_relative_to(source.resolve()) and path.exists():
            pixels, to_source, _ = _decoded({**row, "bytes": path.read_bytes()})
            yield _found({**row, "pixels": pixels, "to_source": to_source}), pixels, to_source


def _decoded(row: dict[str, Any]) -> tuple[Pixels, Matrix, str]:
    decode = Decode(dpi=200)
    done = decode.process({column.name: row.get(column.name) for column in decode.inputs()}, decode.load())
    return done["pixels"], done["to_input"], done["format"]


def _found(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **ReadCodes().process(row, None), **Layout().process(row, None)}


if __name__ == "__main__":
    main()
