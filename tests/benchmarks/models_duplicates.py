"""Near duplicates: the pairs of SROIE receipts, and receipts as if scanned anew, against all other pairs."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from typing import Any

import cv2
import duckdb
import numpy as np
import pyarrow as pa
from tests.benchmarks.machine import REPOSITORY
from tests.benchmarks.report import Bar, Options, Result, say

from swath.operators.core.base import Pixels
from swath.operators.image.embedding import Embed
from swath.operators.image.hashing import phash
from swath.schemas.columns import Column, schema_of
from swath.schemas.items import MANIFEST, VERDICT
from swath.schemas.types import EMBEDDING
from swath.schemas.views import views

DATA = REPOSITORY.parent / "shared" / "data"
COLUMNS = (Column("phash", pa.string(), "Perceptual hash"), Column("embedding", EMBEDDING, "Features"))
COSINE = 0.99


def duplicates(options: Options) -> Result:
    """Precision and recall of the view `duplicates`, alone and with a least cosine, on real pairs and on made ones."""
    receipts = _pictures("receipts_sroie_near_duplicates", "*.jpg")
    others = _pictures("receipts_sroie", "**/*.jpg")
    if not receipts or not others:
        return Result(skipped=f"{DATA} has no receipts_sroie_near_duplicates and receipts_sroie")
    with (DATA / "receipts_sroie_near_duplicates" / "pairs.csv").open() as file:
        listed = [tuple(sorted((row["a"], row["b"]))) for row in csv.DictReader(file) if "different" not in row["kind"]]
    # Receipts that the list does not pair are different, whichever of the two folders they are from.
    figures: dict[str, Any] = {"listed": _scored({**others, **receipts}, set(listed))}
    chosen = dict(itertools.islice(others.items(), 10 if options.quick else None))
    made = {f"{name}+": _again(np.random.default_rng(number), one) for number, (name, one) in enumerate(chosen.items())}
    figures["scanned_anew"] = _scored({**others, **made}, {(name, f"{name}+") for name in chosen})
    for name, one in figures.items():
        say(f"{name}: {one}")
    bars = [
        Bar("recall of listed pairs", figures["listed"]["hash"]["recall"], 1.0, "share", least=True),
        Bar("precision of listed pairs", figures["listed"]["hash"]["precision"], 0.9, "share", least=True),
    ]
    return Result(figures, bars)


def _pictures(folder: str, pattern: str) -> dict[str, Pixels]:
    paths = sorted((DATA / folder).glob(pattern))
    return {path.stem: np.asarray(cv2.imread(str(path)), np.uint8)[..., ::-1] for path in paths}


def _again(random: np.random.Generator, pixels: Pixels) -> Pixels:
    """The same paper on another day: smaller, a little askew, darker or lighter, compressed more."""
    height, width = pixels.shape[:2]
    scale = random.uniform(0.5, 0.9)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), random.normal(0, 0.7), scale)
    turn[:, 2] += np.array([width, height]) * (scale - 1) / 2
    size = (int(width * scale), int(height * scale))
    seen = cv2.warpAffine(pixels, turn, size, flags=cv2.INTER_AREA, borderValue=(255, 255, 255))
    lit = np.clip(seen * random.uniform(0.8, 1.1) + random.normal(0, 4, seen.shape), 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(35, 80))]
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", lit, quality)[1], cv2.IMREAD_COLOR), np.uint8)


def _scored(pictures: dict[str, Pixels], truth: set[tuple[str, ...]]) -> dict[str, Any]:
    rows = list(_rows(pictures))
    schema = schema_of((*MANIFEST, *COLUMNS, *VERDICT))
    view = next(view for view in views(schema, {}) if view.name == "duplicates")
    with duckdb.connect() as connection:
        connection.register("items", pa.Table.from_pylist(rows, schema))
        found = connection.sql(view.over("items")).to_arrow_table().to_pylist()
    pairs = {tuple(sorted((one["item_id"], one["other_item_id"]))): one["similarity"] for one in found}
    alike = {pair for pair, cosine in pairs.items() if cosine >= COSINE}
    vectors = {row["item_id"]: np.array(row["embedding"]) for row in rows}
    cosines = {
        tuple(sorted(pair)): float(vectors[pair[0]] @ vectors[pair[1]]) for pair in itertools.combinations(vectors, 2)
    }
    by_cosine = {pair for pair, cosine in cosines.items() if cosine >= COSINE}
    return {
        "pictures": len(rows),
        "pairs": len(truth),
        "hash": _precision_recall(set(pairs), truth),
        f"hash_and_cosine_{COSINE}": _precision_recall(alike, truth),
        f"cosine_{COSINE}": _precision_recall(by_cosine, truth),
        "cosine_average_precision": round(_average_precision(cosines, truth), 4),
        "nearest_is_its_pair": round(float(np.mean([_nearest(vectors, pair) for pair in truth])), 4),
    }


def _average_precision(cosines: dict[tuple[str, ...], float], truth: set[tuple[str, ...]]) -> float:
    """Mean over the true pairs of the precision among all pairs that are at least as alike."""
    ranked = [pair in truth for pair in sorted(cosines, key=cosines.__getitem__, reverse=True)]
    right = np.cumsum(ranked)
    return float(np.mean([right[place] / (place + 1) for place, true in enumerate(ranked) if true]))


def _nearest(vectors: dict[str, Any], pair: tuple[str, ...]) -> bool:
    """Whether of all others the second looks most like the first."""
    one, other = pair
    cosines = {name: float(vectors[one] @ vector) for name, vector in vectors.items() if name != one}
    return cosines[other] >= max(cosines.values())


def _rows(pictures: dict[str, Pixels]) -> Iterator[dict[str, Any]]:
    embed = Embed().settled()
    network = embed.load()
    for name, pixels in pictures.items():
        (vector,) = embed.run({"prepared": [embed.prepare({"pixels": pixels})]}, network)["embedding"]
        yield {"item_id": name, "source_uri": name, "status": "ok", "phash": phash(pixels), "embedding": vector}


def _precision_recall(found: set[tuple[str, ...]], truth: set[tuple[str, ...]]) -> dict[str, float]:
    right = len(found & truth)
    return {
        "found": len(found),
        "precision": round(right / len(found), 4) if found else 1.0,
        "recall": round(right / len(truth), 4),
    }
