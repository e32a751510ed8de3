"""What a run needs of the machines of a cluster, and how the driver's own files get there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import Buckets

from swath.flows.pipelines.binding import bind
from swath.flows.work.files import at_hand, keep, local_files
from swath.flows.work.nodes import needs_of
from swath.flows.work.stages import fuse
from swath.infra import storage
from swath.schemas.pipeline import Pipeline

S3_CATALOG = '{"type": "sql", "uri": "postgresql+psycopg://catalog.example/swath"}'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWATH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_node_that_has_all_lacks_nothing_and_each_thing_hidden_from_it_is_told(folder: Path) -> None:
    here = {name: folder / name for name in ("lake/run.json", "in/a.jpg", "lake/catalog.db", "model.onnx")}
    for path in here.values():
        path.parent.mkdir(exist_ok=True)
        path.touch()
    needs = needs_of(
        storage.normalize(folder / "lake"),
        storage.normalize(here["lake/run.json"]),
        storage.normalize(here["in/a.jpg"]),
        [str(here["model.onnx"])],
    )
    assert needs.lacking() is None
    sentences = {
        "lake/run.json": "does not see the warehouse",
        "in/a.jpg": "does not see the source",
        "lake/catalog.db": "does not see the catalog, a SQLite file",
        "model.onnx": f"does not see {here['model.onnx']}, a file of the driver's machine",
    }
    for name, sentence in sentences.items():
        hidden = here[name].rename(folder / "hidden")
        assert sentence in (needs.lacking() or "")
        hidden.rename(here[name])
    assert "has another swath (0.1.0, " in (replace(needs, digest="0" * 12).lacking() or "")
    assert "than the driver of the run (9.9," in (replace(needs, version="9.9").lacking() or "")


def test_what_is_in_object_storage_and_behind_a_server_needs_no_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_CATALOG", S3_CATALOG)
    assert needs_of("s3://shop/lake", "s3://shop/lake/run.json", "s3://shop/in/a.jpg", ()).seen == ()


def test_a_table_that_only_the_driver_has_reaches_a_worker_through_the_warehouse(folder: Path, s3: Buckets) -> None:
    table = folder / "ordered.csv"
    table.write_text("invoice,amount\nA-1,3.50\n")
    config = {"reference": str(table), "key": "invoice", "numbers": {"document_number": "invoice"}}
    steps = ["decode", "ocr", "document_type", "extract_fields", {"match_reference": config}]
    bound = bind(Pipeline.model_validate({"name": "payables", "steps": steps}))
    named = local_files(step.operator for step in bound.steps)
    assert named == [str(table)]
    bucket = s3.bucket()
    kept = keep(named, f"{bucket}/files")
    assert kept == keep(named, f"{bucket}/files"), "stored once for its content"
    table.unlink()
    links = at_hand([link for stage in fuse(bound.steps) for link in stage.links], dict(kept))
    (matching,) = [link.step for link in links if link.step.name == "match_reference"]
    assert Path(matching.operator.reference).read_text().startswith("invoice,amount")
    assert matching.operator.load().by_number("document_number", "A1")
    others = [link.step.operator for link in links if link.step.name != "match_reference"]
    assert others == [link.step.operator for stage in fuse(bound.steps[:-1]) for link in stage.links]


def test_plain_words_are_no_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "auto").touch()  # `backend: auto`, say
    bound = bind(Pipeline.model_validate({"name": "plain", "steps": ["decode", "denoise"]}))
    assert local_files(step.operator for step in bound.steps) == []
