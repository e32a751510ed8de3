"""`swath plan`: right, honest, and without a trace."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from swath.flows.console.preview import preview, print_preview
from swath.flows.demo.photos import draw_photos
from swath.flows.pipelines.binding import load, override, parse
from swath.flows.run import process
from swath.flows.run.records import Request
from swath.infra import storage
from swath.schemas.errors import ConfigurationError, SourceError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    draw_photos(folder, 5)
    (folder / "notes.txt").write_text("no image")
    return folder


def request_of(photos: Path, **values: object) -> Request:
    warehouse = storage.normalize(str(photos.parent / "warehouse"))
    return Request(
        pipeline=load("photos").pipeline, source=storage.normalize(str(photos)), warehouse=warehouse, ray="off"
    ).model_copy(update=values)


def test_a_plan_says_what_a_run_would_do_and_leaves_no_trace(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(photos.parent / "home"))
    found = preview(request_of(photos))
    assert (found.objects, found.items, found.pending, found.unchanged, found.waves, found.cells) == (5, 5, 5, 0, 1, 1)
    assert found.left_aside == {"txt": 1}
    assert found.why == {"new": 5}
    assert [stage.steps for stage in found.parts[0].stages] == [["exif", "decode", "assess_quality", "perceptual_hash"]]
    assert {"item_id", "sharpness", "phash", "status"} <= set(found.columns)
    assert found.seconds is None
    assert sorted(path.name for path in photos.parent.iterdir()) == ["photos"]


def test_after_a_run_nothing_is_pending_and_new_files_have_a_prediction(photos: Path) -> None:
    record = process.start(request_of(photos), prefect=False)
    again = preview(request_of(photos))
    assert (again.pending, again.unchanged, again.seconds) == (0, 5, 0.0)
    (photos / "new.jpg").write_bytes((photos / "photo_000000.jpg").read_bytes())
    more = preview(request_of(photos))
    assert (more.pending, more.unchanged) == (1, 5)
    assert more.seconds is not None
    assert 0 < more.seconds <= record.seconds * 1.5


def test_the_printed_plan_names_stages_and_the_time_it_does_not_know(photos: Path) -> None:
    file = io.StringIO()
    print_preview(Console(file=file, width=80), preview(request_of(photos)))
    for said in ("5 objects, 5 items", "1 .txt", "exif → decode", "1 worker of 1 CPU", "unknown until a first run"):
        assert said in file.getvalue(), file.getvalue()


def test_what_no_machine_can_hold_is_refused_with_the_arithmetic(photos: Path) -> None:
    greedy = override(load("photos"), ["decode.resources={cpus: 5000}"])
    with pytest.raises(ConfigurationError, match=r"wants 500\d CPUs .*5000 for decode"):
        preview(request_of(photos, pipeline=greedy.pipeline, ray="local"))


def test_a_source_that_is_not_there_is_said(photos: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        preview(request_of(photos, source=storage.normalize(str(photos / "nowhere"))))


def test_a_pipeline_of_ones_own_is_planned_with_its_columns(photos: Path) -> None:
    own = parse("name: own\nsteps:\n - decode\n - perceptual_hash\n").pipeline
    assert "phash" in preview(request_of(photos, pipeline=own)).columns
