"""Views as plain files: everything arrives, in its folder, or nothing does."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from tests.flows.small_lake import photo, publish

from swath.flows.ask import export as module
from swath.flows.ask.export import export
from swath.infra import storage
from swath.infra.lake import Lake
from swath.schemas.columns import doc_and_unit
from swath.schemas.errors import ConfigurationError, QueryError, SwathError


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_parquet_stands_in_the_folders_of_the_partitions_and_keeps_docs(warehouse: str, tmp_path: Path) -> None:
    publish(warehouse)
    done = export(warehouse, "items", str(tmp_path / "out"))
    assert names(tmp_path / "out") == [
        "site=__HIVE_DEFAULT_PARTITION__/dt=__HIVE_DEFAULT_PARTITION__/part-00000.parquet",
        "site=a/dt=2026-05-01/part-00000.parquet",
        "site=b c/dt=2026-05-02/part-00000.parquet",
    ]
    assert (done.files, done.rows) == (3, 5)
    assert done.bytes == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.parquet"))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    read = ds.dataset(tmp_path / "out", format="parquet", partitioning="hive").to_table().to_pylist()
    assert {(row["site"], row["source_uri"]) for row in read} >= {
        ("b c", "s3://photos/c.jpg"),
        (None, "s3://photos/e.jpg"),
    }
    (found,) = duckdb.sql(
        f"SELECT count(*) FROM read_parquet('{tmp_path}/out/**', hive_partitioning = true) WHERE site = 'b c'"
    ).fetchall()
    assert found == (2,)
    schema = pq.read_schema(tmp_path / "out/site=a/dt=2026-05-01/part-00000.parquet")
    assert doc_and_unit(schema.field("latitude")) == ("Where the camera was", "degrees")


def test_a_table_of_one_partition_is_flat_and_an_empty_view_is_one_file_with_its_columns(
    warehouse: str, tmp_path: Path
) -> None:
    publish(warehouse, rows=[photo("a.jpg"), photo("b.jpg")])
    assert export(warehouse, "photos.items", str(tmp_path / "items")).rows == 2
    assert names(tmp_path / "items") == ["part-00000.parquet"]
    assert export(warehouse, "words", str(tmp_path / "words")).rows == 0
    assert pq.read_schema(tmp_path / "words" / "part-00000.parquet").names[-1] == "y_max"
    assert export(warehouse, "runs", str(tmp_path / "runs"), "csv").rows == 0
    assert (tmp_path / "runs" / "part-00000.csv").read_text().startswith("run_id,pipeline")


def test_large_partitions_are_cut_into_files(warehouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_ROWS", 10_000)
    publish(warehouse, rows=[photo(f"{number}.jpg", f"site={number % 2}") for number in range(50_000)])
    done = export(warehouse, "items", str(tmp_path / "out"))
    assert done.rows == 50_000
    assert {name.partition("/")[0] for name in names(tmp_path / "out")} == {"site=0", "site=1"}
    read = ds.dataset(tmp_path / "out", format="parquet").to_table(columns=["item_id", "partition"])
    assert len(set(read.column("item_id").to_pylist())) == 50_000
    for name in names(tmp_path / "out"):
        part = pq.read_table(tmp_path / "out" / name, columns=["partition"])
        assert part.num_rows <= 20_000
        assert set(part.column("partition").to_pylist()) == {name.partition("/")[0]}


def test_csv_as_one_file_named_by_its_suffix(warehouse: str, tmp_path: Path) -> None:
    publish(warehouse)
    done = export(warehouse, "labels", str(tmp_path / "labels.csv"), "csv")
    assert (done.files, done.rows) == (1, 3)
    with (tmp_path / "labels.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["cow", "dog", "cow"]


def test_geojson_points_have_longitude_first_and_items_without_a_position_are_counted(
    warehouse: str, tmp_path: Path
) -> None:
    publish(warehouse)
    done = export(warehouse, "items", str(tmp_path / "out"), "geojson")
    assert (done.files, done.rows, done.without_position) == (1, 2, 3)
    collection = json.loads((tmp_path / "out" / "items.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    first = next(f for f in collection["features"] if f["properties"]["source_uri"].endswith("a.jpg"))
    assert first["geometry"] == {"type": "Point", "coordinates": [7.25, 46.5]}
    assert first["properties"]["processed_at"] == "2026-05-01T12:00:00+00:00"
    assert "latitude" not in first["properties"]


def test_a_view_without_positions_names_the_one_that_has_them(warehouse: str, tmp_path: Path) -> None:
    publish(warehouse)
    with pytest.raises(QueryError, match=r"photos\.labels has no positions; `photos\.items` has them"):
        export(warehouse, "photos.labels", str(tmp_path / "out"), "geojson")
    with pytest.raises(QueryError, match="did you mean labels"):
        export(warehouse, "lables", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_replaced_only_on_purpose_and_only_where_it_is_an_export(
    warehouse: str, tmp_path: Path
) -> None:
    publish(warehouse)
    out = tmp_path / "out"
    export(warehouse, "items", str(out))
    with pytest.raises(ConfigurationError, match="not empty"):
        export(warehouse, "labels", str(out))
    export(warehouse, "labels", str(out), "csv", overwrite=True)
    assert {Path(name).suffix for name in names(out)} == {".csv"}
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("mine")
    with pytest.raises(ConfigurationError, match="more than an export"):
        export(warehouse, "labels", str(out), overwrite=True)
    assert (out / ".git" / "HEAD").read_text() == "mine"
    (tmp_path / "one.csv").write_text("mine")
    with pytest.raises(ConfigurationError, match="file already"):
        export(warehouse, "labels", str(tmp_path / "one.csv"), "csv")
    for place in (storage.local_path(warehouse) / "exports", storage.local_path(warehouse).parent):
        with pytest.raises(ConfigurationError, match="overlap"):
            export(warehouse, "labels", str(place), overwrite=True)


def test_an_export_that_fails_leaves_nothing_and_keeps_what_was_there(warehouse: str, tmp_path: Path) -> None:
    publish(warehouse)
    out = tmp_path / "out"
    export(warehouse, "labels", str(out))
    before = {name: (out / name).read_bytes() for name in names(out)}
    last = storage.local_path(Lake(warehouse).files("photos")[-1].path)
    last.write_bytes(last.read_bytes()[:-200])
    with pytest.raises(SwathError):
        export(warehouse, "items", str(out), overwrite=True)
    assert {name: (out / name).read_bytes() for name in names(out)} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_partition_texts_cannot_lead_out_of_the_destination(warehouse: str, tmp_path: Path) -> None:
    publish(
        warehouse, rows=[photo("a.jpg", "site=../dt=.."), photo("b.jpg", "site=a%2Fb/dt=x?*"), photo("c.jpg", "../..")]
    )
    export(warehouse, "items", str(tmp_path / "out"))
    assert len(names(tmp_path / "out")) == 3
    assert {path.name for path in tmp_path.iterdir()} - {"home"} == {"out", "warehouse"}
    read = ds.dataset(tmp_path / "out", format="parquet", partitioning="hive").to_table().to_pylist()
    assert {(row["site"], row["dt"]) for row in read} == {("..", ".."), ("a%2Fb", "x?*"), (None, None)}


def test_to_s3_and_from_s3(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    warehouse, target = f"{s3.bucket('warehouse')}/lake", f"{s3.bucket('export')}/out"
    publish(warehouse)
    done = export(warehouse, "items", target)
    files = list(storage.list_objects(target))
    assert (len(files), sum(one.size for one in files)) == (done.files, done.bytes) == (3, done.bytes)
    with pytest.raises(ConfigurationError, match="not empty"):
        export(warehouse, "items", target)
    export(warehouse, "labels", target, "csv", overwrite=True)
    assert storage.list_names(f"{target}/site=a/dt=2026-05-01") == ["part-00000.csv"]
