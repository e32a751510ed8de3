"""`swath similar`: the nearest first, by what the table has, also for a file that is not in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.flows.small_lake import photo, publish
from tests.operators.kit import field_picture, jpeg
from typer.testing import CliRunner

from swath.flows.ask.similar import similar
from swath.flows.cli import app
from swath.flows.run.records import Request, Runs
from swath.operators.image.hashing import distance, phash
from swath.schemas.columns import Column, schema_of
from swath.schemas.errors import QueryError, SourceError
from swath.schemas.items import MANIFEST, VERDICT
from swath.schemas.pipeline import Pipeline
from swath.schemas.types import EMBEDDING

HASHED = Column("phash", pa.string(), "Perceptual hash")
EMBEDDED = Column("embedding", EMBEDDING, "Features")
PICTURES = {f"{seed}.jpg": field_picture(seed) for seed in range(4)}
HASHES = {name: phash(pixels) for name, pixels in PICTURES.items()}


def published(warehouse: str, *columns: Column, **values: Any) -> None:
    """The pictures as a table of a run that made these columns of them."""
    steps = [{"op": "decode"}, {"op": "perceptual_hash"}]
    pipeline = Pipeline.model_validate({"name": "photos", "steps": steps})
    run = Runs(warehouse).new(Request(pipeline=pipeline, source="in", warehouse=warehouse))
    rows = [photo(name, run_id=run.run_id, **{key: value[name] for key, value in values.items()}) for name in HASHES]
    publish(
        warehouse, rows=[*rows, photo("gone.jpg", status="gone")], schema=schema_of((*MANIFEST, *columns, *VERDICT))
    )


def names(found: pa.Table) -> list[str]:
    return [row["source_uri"].rpartition("/")[2] for row in found.to_pylist()]


def test_an_item_is_compared_by_embeddings_first(warehouse: str) -> None:
    angles = {"0.jpg": 0.0, "1.jpg": 1.2, "2.jpg": 0.4, "3.jpg": 0.8}
    vectors = {name: [float(np.cos(one)), float(np.sin(one))] for name, one in angles.items()}
    published(warehouse, HASHED, EMBEDDED, phash=HASHES, embedding=vectors)
    found = similar(warehouse, "s3://photos/0.jpg", 10)
    assert names(found) == ["2.jpg", "3.jpg", "1.jpg"]
    assert found["similarity"].to_pylist() == pytest.approx(np.cos([0.4, 0.8, 1.2]), abs=1e-6)
    assert found["differing_bits"].to_pylist() == [distance(HASHES["0.jpg"], HASHES[name]) for name in names(found)]
    assert names(similar(warehouse, photo("3.jpg")["item_id"], 1)) == ["2.jpg"]


def test_a_file_that_is_in_no_table_goes_through_the_steps_of_the_last_run(warehouse: str, tmp_path: Path) -> None:
    published(warehouse, HASHED, phash=HASHES)
    other = tmp_path / "other.jpg"
    other.write_bytes(jpeg(PICTURES["2.jpg"][::2, ::2]))
    found = similar(warehouse, str(other), 2)
    assert names(found)[0] == "2.jpg"
    assert len(found) == 2
    said = CliRunner().invoke(app, ["similar", str(other), "-k", "1", "--json", "--warehouse", warehouse])
    assert [row["source_uri"] for row in json.loads(said.stdout)] == ["s3://photos/2.jpg"]
    (tmp_path / "broken.jpg").write_bytes(other.read_bytes()[:500])
    with pytest.raises(SourceError, match="truncated"):
        similar(warehouse, str(tmp_path / "broken.jpg"), 1)
    with pytest.raises(SourceError, match="no item of photos, and no file"):
        similar(warehouse, str(tmp_path / "none.jpg"), 1)


def test_what_cannot_be_compared_is_refused_with_a_remedy(warehouse: str) -> None:
    with pytest.raises(QueryError, match="has no table"):
        similar(warehouse, "a.jpg", 1)
    publish(warehouse)
    with pytest.raises(QueryError, match="a step perceptual_hash or embed"):
        similar(warehouse, "s3://photos/a.jpg", 1)
    publish(warehouse, "survey")
    with pytest.raises(QueryError, match="name one with --pipeline"):
        similar(warehouse, "s3://photos/a.jpg", 1)
    with pytest.raises(QueryError, match="no table of a pipeline 'forms'; there are photos, survey"):
        similar(warehouse, "s3://photos/a.jpg", 1, "forms")
