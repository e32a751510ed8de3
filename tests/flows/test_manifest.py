import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pypdfium2
import pytest
import tifffile
from tests.children import children

from swath.flows.source import manifest as module
from swath.flows.source.manifest import ManifestSummary, build_manifest
from swath.flows.source.pages import PageCounter
from swath.infra import storage
from swath.schemas.columns import schema_of
from swath.schemas.errors import ConfigurationError, SourceError
from swath.schemas.items import MANIFEST, item_id, object_id
from swath.schemas.pipeline import Pipeline

READABLE = frozenset({"jpg", "png", "tif", "tiff", "pdf"})


def pipeline(**sections: Any) -> Pipeline:
    return Pipeline.model_validate({"name": "photos", "steps": ["decode"], **sections})


def pdf(pages: int) -> bytes:
    document = pypdfium2.PdfDocument.new()
    for _ in range(pages):
        document.new_page(100, 100)
    sink = io.BytesIO()
    document.save(sink)
    return sink.getvalue()


def tiff(pages: int) -> bytes:
    sink = io.BytesIO()
    with tifffile.TiffWriter(sink) as writer:
        for page in range(pages):
            writer.write(np.full((8, 8), page, np.uint8))
    return sink.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., tuple[ManifestSummary, list[dict[str, Any]]]]:
    """Summary and rows of the manifest of a source."""

    def run(source: object, work: Pipeline | None = None, **options: Any) -> tuple[ManifestSummary, list[dict]]:
        destination = f"file://{tmp_path}/manifest"
        options = {"readable": READABLE, **options}
        summary = build_manifest(str(source), work or pipeline(), destination, **options)
        tables = [pq.read_table(storage.local_path(uri)) for uri in summary.files]
        assert all(table.schema.equals(schema_of(MANIFEST), check_metadata=True) for table in tables)
        return summary, pa.concat_tables(tables).to_pylist()

    return run


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["source_uri"].rpartition("/")[2] for row in rows]


def test_a_row_says_where_the_item_is_and_what_is_in_it(tmp_path: Path, build: Any) -> None:
    source = fill(tmp_path / "in", {"a b/x#1.jpg": b"123"})
    summary, [row] = build(source)
    uri = f"file://{source}/a b/x#1.jpg"
    etag = next(storage.list_objects(uri)).etag
    assert row == {
        "item_id": item_id(uri),
        "object_id": object_id(uri),
        "source_uri": uri,
        "etag": etag,
        "size_bytes": 3,
        "partition": "all",
        "bucket": 0,
        "page": None,
        "window": None,
        "assets": [{"role": "image", "uri": uri, "etag": etag, "bytes": 3}],
    }
    assert summary == ManifestSummary(
        source=f"file://{source}",
        files=summary.files,
        objects=1,
        items=1,
        bytes=3,
        listed=1,
        left_aside={},
        unopened=0,
        complete=True,
    )


def test_readable_extensions_are_taken_in_any_case_and_the_rest_is_counted(tmp_path: Path, build: Any) -> None:
    source = fill(tmp_path / "in", dict.fromkeys(["a.jpg", "B.JPG", "c.Png", "d.txt", "e.TXT", "f", "g.xml"], b"x"))
    summary, rows = build(source)
    assert names(rows) == ["B.JPG", "a.jpg", "c.Png"]
    assert summary.left_aside == {"txt": 2, "": 1, "xml": 1}
    assert summary.listed == 7


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        (["*.DAT"], [], ["a.dat", "deep/down/B.Dat"]),
        (["site=a/*.jpg"], [], ["site=a/x.jpg"]),
        (["site=a/**/*.jpg"], [], ["site=a/deep/y.jpg", "site=a/x.jpg"]),
        (["site=A/"], [], ["site=a/deep/y.jpg", "site=a/notes", "site=a/x.jpg"]),
        ([], ["deep"], ["site=a/x.jpg", "z.jpg"]),
        (["*.jpg"], ["/z.*"], ["site=a/deep/y.jpg", "site=a/x.jpg"]),
    ],
)
def test_globs_choose_by_the_path_below_the_source(
    tmp_path: Path, build: Any, include: list[str], exclude: list[str], taken: list[str]
) -> None:
    files = ["a.dat", "deep/down/B.Dat", "site=a/x.jpg", "site=a/deep/y.jpg", "site=a/notes", "z.jpg"]
    source = fill(tmp_path / "in", dict.fromkeys(files, b"x"))
    summary, rows = build(source, include=include, exclude=exclude)
    assert [row["source_uri"].removeprefix(f"file://{source}/") for row in rows] == taken
    assert not summary.complete, "what was not asked for this time is not gone"
    by_pipeline, same = build(source, pipeline(source={"include": include, "exclude": exclude}))
    assert same == rows
    assert by_pipeline.complete


def test_pages_become_items_with_stable_names(tmp_path: Path, build: Any) -> None:
    files = {"a.pdf": pdf(3), "b.PDF": pdf(1), "c.tif": tiff(2), "d.tiff": tiff(1), "e.jpg": b"x"}
    source = fill(tmp_path / "in", files)
    summary, rows = build(source)
    assert [(name, row["page"]) for name, row in zip(names(rows), rows, strict=True)] == [
        ("a.pdf", 1),
        ("a.pdf", 2),
        ("a.pdf", 3),
        ("b.PDF", 1),
        ("c.tif", 1),
        ("c.tif", 2),
        ("d.tiff", None),
        ("e.jpg", None),
    ]
    assert [row["item_id"] for row in rows] == [item_id(row["source_uri"], row["page"]) for row in rows]
    assert len({row["item_id"] for row in rows}) == 8
    assert (summary.objects, summary.items, summary.unopened) == (5, 8, 0)
    first_only, rows = build(source, pipeline(source={"pages": False}))
    assert [row["page"] for row in rows] == [None] * 5
    assert (first_only.items, first_only.unopened) == (5, 0)


def test_a_container_that_cannot_be_opened_is_one_item_and_its_neighbours_keep_their_pages(
    tmp_path: Path, build: Any
) -> None:
    files = {
        "a.pdf": pdf(2),
        "b.pdf": b"%PDF-1.7 broken",
        "c.pdf": b"",
        "d.tif": b"II*\0\xff\xff\xff\xff",
        "e.pdf": pdf(2),
    }
    source = fill(tmp_path / "in", files)
    summary, rows = build(source)
    pages = [(name, row["page"]) for name, row in zip(names(rows), rows, strict=True)]
    assert pages == [
        ("a.pdf", 1),
        ("a.pdf", 2),
        ("b.pdf", None),
        ("c.pdf", None),
        ("d.tif", None),
        ("e.pdf", 1),
        ("e.pdf", 2),
    ]
    assert summary.unopened == 3


def test_a_container_over_the_limit_or_known_already_is_not_opened(tmp_path: Path, build: Any) -> None:
    source = fill(tmp_path / "in", {"large.pdf": pdf(2) + b" " * 100_000, "known.pdf": b"not opened"})

    def known(uri: str, etag: str) -> int | None:
        return 2 if uri.endswith("known.pdf") and etag else None

    summary, rows = build(source, pipeline(limits={"max_bytes": 50_000}), known_pages=known)
    assert [(name, row["page"]) for name, row in zip(names(rows), rows, strict=True)] == [
        ("known.pdf", 1),
        ("known.pdf", 2),
        ("large.pdf", None),
    ]
    assert summary.unopened == 1


def test_a_page_count_that_must_be_forged_makes_one_item(tmp_path: Path, build: Any) -> None:
    source = fill(tmp_path / "in", {"a.pdf": b"x"})
    summary, rows = build(source, known_pages=lambda uri, etag: 2**31 - 1)
    assert [row["page"] for row in rows] == [None]
    assert summary.unopened == 1


def test_a_counting_process_that_is_killed_costs_no_file_its_pages(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {f"{number}.pdf": pdf(3) for number in range(200)})
    uris = [f"file://{source}/{number}.pdf" for number in range(200)]
    with PageCounter(2, memory_bytes=2 << 30) as counter:
        assert counter.count(uris[0]).result() == 3
        counts = [counter.count(uri) for uri in uris]
        for child in children("swath.flows.source.pages"):
            child.kill()
        assert [count.result() for count in counts] == [3] * 200


def test_a_file_that_is_too_slow_to_count_is_given_up_and_the_next_one_is_counted(tmp_path: Path) -> None:
    offsets = np.arange(8, 8 + 6 * 3_000_000, 6, dtype="<u4")  # three million empty directories, each after the other
    chain = np.zeros(len(offsets), [("entries", "<u2"), ("next", "<u4")])
    chain["next"][:-1] = offsets[1:]
    source = fill(tmp_path / "in", {"endless.tif": b"II*\0\x08\0\0\0" + chain.tobytes(), "good.pdf": pdf(2)})
    with PageCounter(1, memory_bytes=2 << 30, seconds=0.5) as counter:
        counts = [counter.count(f"file://{source}/{name}") for name in ("good.pdf", "endless.tif", "good.pdf")]
        assert [count.result(30) for count in counts] == [2, None, 2]


def test_closing_the_counter_drops_what_waits_and_leaves_no_process(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a.pdf": pdf(1)})
    counter = PageCounter(1, memory_bytes=2 << 30)
    counter.count(f"file://{source}/a.pdf").result()
    [child] = children("swath.flows.source.pages")
    child.suspend()
    waiting = [counter.count(f"file://{source}/a.pdf") for _ in range(3)]
    started = time.monotonic()
    counter.close()
    assert time.monotonic() - started < 10
    assert not child.is_running()
    assert waiting[-1].cancelled()


RULE = r"(?P<key>IMG_\d+)_(?P<role>[a-z]+)\.tif$"


def test_files_with_one_key_in_one_folder_are_one_object(tmp_path: Path, build: Any) -> None:
    captures = ["000/IMG_1_red.tif", "000/IMG_2_nir.tif", "000/IMG_1_nir.tif", "001/IMG_1_red.tif", "000/panorama.tif"]
    source = fill(tmp_path / "in", {name: tiff(2) for name in captures})
    work = pipeline(source={"group": RULE})
    summary, rows = build(source, work)
    found = {
        row["source_uri"].removeprefix(f"file://{source}/"): [asset["role"] for asset in row["assets"]] for row in rows
    }
    assert found == {
        "000/IMG_1_nir.tif": ["nir", "red"],
        "000/IMG_2_nir.tif": ["nir"],
        "000/panorama.tif": ["image"],
        "001/IMG_1_red.tif": ["red"],
    }
    capture = next(row for row in rows if len(row["assets"]) == 2)
    assert capture["size_bytes"] == sum(asset["bytes"] for asset in capture["assets"])
    assert summary.bytes == 5 * len(tiff(2))
    assert (summary.objects, summary.items) == (4, 5), "only a file of its own has pages"

    (source / "000/IMG_1_red.tif").write_bytes(b"changed")
    _, again = build(source, work)
    changed = {row["source_uri"] for row in again} - {
        row["source_uri"] for row in again if row["etag"] in {before["etag"] for before in rows}
    }
    assert changed == {f"file://{source}/000/IMG_1_nir.tif"}


def test_what_tells_of_a_scenes_bands_belongs_to_it_whatever_its_extension(tmp_path: Path, build: Any) -> None:
    scene = "LC08_L1TP_140041_20130503_20190828_02_T1"
    names = [f"{scene}_B4.TIF", f"{scene}_B5.TIF", f"{scene}_MTL.txt", "notes.txt"]
    source = fill(tmp_path / "in", {name: tiff(1) for name in names})
    summary, [row] = build(source, pipeline(source={"group": "landsat"}))
    assert [asset["role"] for asset in row["assets"]] == ["nir", "red", "metadata"]
    assert row["source_uri"].endswith("_B5.TIF")
    assert summary.left_aside == {"txt": 1}
    _, [row] = build(source, pipeline(source={"group": "landsat", "exclude": ["*_MTL.txt"]}))
    assert [asset["role"] for asset in row["assets"]] == ["nir", "red"]


@pytest.mark.parametrize("rule", ["(", r"(?P<key>.*)\.tif", r".*"])
def test_a_wrong_grouping_rule_is_refused(tmp_path: Path, build: Any, rule: str) -> None:
    with pytest.raises(ConfigurationError, match="group"):
        build(fill(tmp_path / "in", {"a.jpg": b"x"}), pipeline(source={"group": rule}))


@pytest.mark.parametrize(
    ("pattern", "path", "partition"),
    [
        (None, "a/x.jpg", "all"),
        ("site={site}/dt={date}", "site=a/dt=2026-01-01/x.jpg", "site=a/dt=2026-01-01"),
        ("site={site}/dt={date}/", "site=a/dt=2026-01-01/deep/x.jpg", "site=a/dt=2026-01-01"),
        ("{site}/{date}", "a/2026/x.jpg", "site=a/date=2026"),
        ("raw/{site}", "raw/a/x.jpg", "site=a"),
        ("{site}_{year}", "a_2026/x.jpg", "site=a/year=2026"),
        ("{site}/{date}", "a/x.jpg", "none"),
        ("site={site}", "SITE=a/x.jpg", "none"),
        ("site={site}", "deep/site=a/x.jpg", "none"),
    ],
)
def test_folders_decide_the_partition(
    tmp_path: Path, build: Any, pattern: str | None, path: str, partition: str
) -> None:
    source = fill(tmp_path / "in", {path: b"x"})
    assert [row["partition"] for row in build(source, partition_by=pattern)[1]] == [partition]
    assert [row["partition"] for row in build(source, pipeline(table={"partition_by": pattern}))[1]] == [partition]


@pytest.mark.parametrize("pattern", ["site={site", "site={}", "{a}/{a}", "site", "{a b}", "{a}//{b}", "{{a}}", "x}"])
def test_a_wrong_partition_pattern_is_refused(tmp_path: Path, build: Any, pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="partition pattern"):
        build(fill(tmp_path / "in", {"a.jpg": b"x"}), partition_by=pattern)


def test_a_limit_takes_the_first_objects_and_makes_nothing_gone(tmp_path: Path, build: Any) -> None:
    source = fill(tmp_path / "in", {"a.pdf": pdf(2), "b.jpg": b"x", "c.jpg": b"x"})
    summary, rows = build(source, limit=2)
    assert names(rows) == ["a.pdf", "a.pdf", "b.jpg"]
    assert (summary.objects, summary.complete) == (2, False)
    with pytest.raises(ConfigurationError, match="limit"):
        build(source, limit=0)


def test_a_source_of_which_nothing_is_taken_says_what_there_is(tmp_path: Path, build: Any) -> None:
    source = fill(tmp_path / "in", {"a.txt": b"x", "b.txt": b"x", "c": b"x"})
    with pytest.raises(SourceError, match=r"3 files .*2 \.txt, 1 without extension.*--include"):
        build(source)
    (tmp_path / "bare").mkdir()
    with pytest.raises(SourceError, match="no files"):
        build(tmp_path / "bare")
    with pytest.raises(SourceError, match="no such file or folder"):
        build(tmp_path / "nowhere")


def test_one_file_and_a_percent_encoded_name_are_sources_too(tmp_path: Path, build: Any) -> None:
    source = fill(tmp_path / "my photos", {"a.jpg": b"x", "b.jpg": b"x"})
    assert names(build(source / "a.jpg")[1]) == ["a.jpg"]
    summary, rows = build(f"file://{source}".replace(" ", "%20"))
    assert names(rows) == ["a.jpg", "b.jpg"]
    assert summary.source == f"file://{source}"


def test_names_that_are_no_utf8_get_a_row(tmp_path: Path, build: Any) -> None:
    source = fill(tmp_path / "my photos", {"site=a/x.jpg": b"x"})
    with open(os.fsencode(source) + b"/site=a/\xff.jpg", "wb") as file:
        file.write(b"x")
    summary, rows = build(source, partition_by="site={site}")
    assert len({row["item_id"] for row in rows}) == summary.objects == 2
    assert all(storage.read(row["source_uri"]) == b"x" for row in rows)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_files_takes_the_place_of_listing(tmp_path: Path, build: Any, kind: str) -> None:
    source = fill(tmp_path / "in", {"site=a/x.jpg": b"12345", "site=b/y.jpg": b"1", "not listed.jpg": b"1"})
    table = {
        "uri": [f"file://{source}/site=b/y.jpg", f"{source}/site=a/x.jpg", f"file://{source}/site=a/x.jpg"],
        "etag": ["v2", None, None],
        "size": [77, None, None],
    }
    if kind == "parquet":
        pq.write_table(pa.table(table), tmp_path / "files.parquet")
    else:
        lines = [",".join(str(v or "") for v in row) for row in zip(*table.values(), strict=True)]
        (tmp_path / "files.csv").write_text("\n".join(["uri,etag,size", *lines]))
    summary, rows = build(tmp_path / f"files.{kind}", partition_by="site={site}")
    assert [row["source_uri"] for row in rows] == [f"file://{source}/site=a/x.jpg", f"file://{source}/site=b/y.jpg"]
    assert [(row["size_bytes"], row["partition"]) for row in rows] == [(5, "site=a"), (77, "site=b")]
    assert rows[0]["etag"] == next(storage.list_objects(f"{source}/site=a/x.jpg")).etag
    assert rows[1]["etag"] == "v2"
    assert not summary.complete, "a list says nothing about what it does not name"


def test_a_named_file_that_is_not_there_is_still_an_item(tmp_path: Path, build: Any) -> None:
    (tmp_path / "files.csv").write_text(f"uri\n{tmp_path}/missing.jpg\n")
    assert names(build(tmp_path / "files.csv")[1]) == ["missing.jpg"]


@pytest.mark.parametrize("content", ["name\na.jpg\n", "uri\n", "uri\nftp://somewhere/a.jpg\n", ""])
def test_a_table_that_names_no_files_is_refused(tmp_path: Path, build: Any, content: str) -> None:
    (tmp_path / "files.csv").write_text(content)
    with pytest.raises(SourceError, match=r"files\.csv"):
        build(tmp_path / "files.csv")
    with pytest.raises(SourceError, match="no such file"):
        build(tmp_path / "no.csv")


def test_a_bucket_is_listed_opened_and_written_like_a_folder(s3: Any, build: Any) -> None:
    bucket = s3.bucket()
    for name, content in {"site=a/a.pdf": pdf(2), "site=b/b.jpg": b"x", "c.txt": b"x"}.items():
        storage.write(f"{bucket}/in/{name}", content)
    work = pipeline(table={"partition_by": "site={site}"})
    summary = build_manifest(f"{bucket}/in/", work, f"{bucket}/run/manifest", readable=READABLE)
    assert summary.source == f"{bucket}/in"
    [file] = summary.files
    rows = pq.read_table(io.BytesIO(storage.read(file))).to_pylist()
    assert [(row["source_uri"], row["page"], row["partition"]) for row in rows] == [
        (f"{bucket}/in/site=a/a.pdf", 1, "site=a"),
        (f"{bucket}/in/site=a/a.pdf", 2, "site=a"),
        (f"{bucket}/in/site=b/b.jpg", None, "site=b"),
    ]
    assert all(row["etag"] for row in rows)
    storage.write(f"{bucket}/files.csv", f"uri\n{bucket}/in/site=b/b.jpg\n".encode())
    assert build_manifest(f"{bucket}/files.csv", work, f"{bucket}/run/two", readable=READABLE).bytes == 1


def test_many_rows_go_into_several_files_in_order(tmp_path: Path, build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 10)
    source = fill(tmp_path / "in", {f"{number:03}.jpg": b"" for number in range(25)})
    seen: list[int] = []
    summary, rows = build(source, progress=seen.append)
    assert len(summary.files) == 3
    assert names(rows) == [f"{number:03}.jpg" for number in range(25)]
    assert seen[-1] == 25


def test_a_slow_container_does_not_change_the_order(tmp_path: Path, build: Any) -> None:
    source = fill(tmp_path / "in", {"a.pdf": pdf(1), **{f"b{n}.jpg": b"" for n in range(9)}, "c.pdf": pdf(1)})
    assert names(build(source)[1]) == ["a.pdf", *(f"b{n}.jpg" for n in range(9)), "c.pdf"]
    assert threading.active_count() < 50
