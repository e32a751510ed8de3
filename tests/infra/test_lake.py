"""Cells and commits, on a real Iceberg catalog, on local disk and on a real S3 server, between real processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import signal
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from swath.infra import storage
from swath.infra.lake import Cell, DataFile, Lake, Stale
from swath.infra.settings import settings
from swath.schemas.columns import Column, list_of, schema_of, struct
from swath.schemas.errors import ConfigurationError, WarehouseError

SPAWN = multiprocessing.get_context("spawn")
BOX = struct(Column("x", pa.float32(), "Left edge", "pixels"))
LINES = list_of(Column("text", pa.string(), "The line"), Column("box", BOX, "Where it stands"))
COLUMNS = (
    Column("item_id", pa.string(), "The item"),
    Column("partition", pa.string(), "The partition"),
    Column("bucket", pa.int32(), "The bucket"),
    Column("score", pa.float32(), "How sure", "percent"),
    Column("lines", LINES, "Lines of text"),
    Column("seconds", pa.map_(pa.string(), pa.float32()), "Time of each step", "seconds"),
    Column("taken_at", pa.timestamp("us", tz="UTC"), "When"),
)
SCHEMA = schema_of(COLUMNS)
A, B = Cell("site=a", 0), Cell("site=b", 0)


@pytest.fixture
def lake(any_warehouse: str) -> Lake:
    lake = Lake(any_warehouse)
    lake.ensure("photos", SCHEMA, {"swath.pipeline": "photos"})
    return lake


def stage(lake: Lake, cell: Cell, *items: str, schema: pa.Schema = SCHEMA) -> DataFile:
    """A Parquet file of one cell, where the table may find it but nobody looks yet."""
    columns = {field.name: pa.nulls(len(items), field.type) for field in schema}
    columns["item_id"] = pa.array(items, pa.string())
    columns["partition"] = pa.array([cell.partition] * len(items), pa.string())
    columns["bucket"] = pa.array([cell.bucket] * len(items), pa.int32())
    if schema is SCHEMA:
        columns["lines"] = pa.array([[{"text": item, "box": {"x": 1.5}}] for item in items], LINES)
    uri = storage.join(lake.data_prefix("photos"), f"{uuid.uuid4().hex}.parquet")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=schema), sink)
    storage.write(uri, sink.getvalue().to_pybytes())
    return DataFile(uri, cell, len(items), sink.getvalue().size)


def rows(lake: Lake) -> list[str]:
    """The item ids of the table, by DuckDB over the planned files."""
    files = lake.files("photos")
    if not files:
        return []
    connection = duckdb.connect()
    storage.register(connection, lake.warehouse)
    paths = [file.path.removeprefix("file://") for file in files]
    found = connection.execute("SELECT item_id FROM read_parquet(?, union_by_name=true)", [paths]).fetchall()
    return sorted(item for (item,) in found)


def in_order(files: Iterable[DataFile]) -> list[DataFile]:
    return sorted(files, key=lambda file: (file.cell, file.path))


def basis(*files: DataFile) -> dict[Cell, frozenset[str]]:
    cells = {file.cell for file in files}
    return {cell: frozenset(file.path for file in files if file.cell == cell) for cell in cells}


def test_a_wave_is_visible_when_it_is_published_and_not_before(lake: Lake) -> None:
    add = stage(lake, A, "1", "2")
    assert rows(lake) == []
    assert lake.snapshot("photos") is None
    snapshot = lake.publish("photos", "r1", 0, [add], {})
    assert snapshot == lake.snapshot("photos")
    assert lake.files("photos") == [add]
    assert rows(lake) == ["1", "2"]
    assert lake.published("photos", "r1") == {0}
    assert lake.published("photos", "r2") == set()


def test_publishing_a_wave_twice_changes_nothing(lake: Lake) -> None:
    add = stage(lake, A, "1")
    assert lake.publish("photos", "r1", 0, [add], {}) is not None
    snapshot = lake.snapshot("photos")
    assert lake.publish("photos", "r1", 0, [add], {}) is None
    storage.delete_prefix(storage.join(lake.warehouse, "_swath"))
    assert lake.publish("photos", "r1", 0, [add], {}) is None, "found in the snapshots, without its marker"
    assert lake.snapshot("photos") == snapshot
    assert rows(lake) == ["1"]


def test_cells_are_replaced_as_a_whole_in_one_snapshot_and_others_stay(lake: Lake) -> None:
    first, other = stage(lake, A, "1", "2"), stage(lake, B, "3")
    before = lake.publish("photos", "r1", 0, [first, other], {})
    again = [stage(lake, A, "1"), stage(lake, A, "4")]
    lake.publish("photos", "r2", 0, again, basis(first))
    assert rows(lake) == ["1", "3", "4"]
    assert lake.files("photos", partitions=["site=a"]) == in_order(again)
    assert lake.files("photos", cells=[B, Cell("site=a", 1)]) == [other]
    assert lake.files("photos", snapshot_id=before) == in_order([first, other]), "last week's numbers"
    lake.publish("photos", "r3", 0, [], basis(other))
    assert rows(lake) == ["1", "4"]


def test_a_cell_that_changed_since_is_refused(lake: Lake) -> None:
    first = stage(lake, A, "1")
    lake.publish("photos", "r1", 0, [first], {})
    late, later = stage(lake, A, "1", "2"), stage(lake, A, "1", "3")
    with pytest.raises(Stale) as raised:
        lake.publish("photos", "r2", 0, [late], {})
    assert raised.value.cells == {A}
    lake.publish("photos", "r3", 0, [later], basis(first))
    with pytest.raises(Stale):
        lake.publish("photos", "r2", 0, [late], basis(first))
    assert rows(lake) == ["1", "3"]


def test_a_staged_file_that_is_not_what_was_audited_is_refused(lake: Lake) -> None:
    add = stage(lake, A, "1", "2")
    for wrong in [add._replace(rows=3), add._replace(cell=B), add._replace(path=add.path + ".gone")]:
        with pytest.raises(WarehouseError, match="run the wave again"):
            lake.publish("photos", "r1", 0, [wrong], {})
    assert lake.snapshot("photos") is None


def test_the_schema_comes_back_with_its_docs_nested_too_and_grows(lake: Lake) -> None:
    assert lake.schema("photos").equals(SCHEMA, check_metadata=False)
    lake.publish("photos", "r1", 0, [stage(lake, A, "1")], {})
    box = struct(
        Column("x", pa.float64(), "Left edge, exact", "pixels"), Column("y", pa.float32(), "Top edge", "pixels")
    )
    lines = list_of(Column("text", pa.string(), "The line as read"), Column("box", box, "Where it stands"))
    grown = schema_of([
        *COLUMNS[:2],
        Column("bucket", pa.int64(), "The bucket"),
        Column("score", pa.float64(), "How sure", "share"),
        Column("lines", lines, "Lines of text"),
        Column("labels", LINES, "New"),
    ])  # fmt: skip
    lake.ensure("photos", grown, {"owner": "us"})
    found = lake.schema("photos")
    assert found.field("score").type == pa.float64()
    assert found.field("score").metadata == {b"doc": b"How sure [share]"}
    assert found.field("seconds").type == SCHEMA.field("seconds").type, "columns that a pipeline lost stay"
    inner = found.field("lines").type.value_type
    assert inner.field("text").metadata == {b"doc": b"The line as read"}
    assert inner.field("box").type.field("x").type == pa.float64()
    assert inner.field("box").type.field("y").metadata == {b"doc": b"Top edge [pixels]"}
    assert found.field("labels").type.value_type.field("text").metadata == {b"doc": b"The line"}
    assert {"swath.pipeline": "photos", "owner": "us"}.items() <= lake.properties("photos").items()
    lake.publish("photos", "r2", 0, [stage(lake, B, "2")], {})
    assert rows(lake) == ["1", "2"]


def test_ensuring_what_is_there_commits_nothing(lake: Lake) -> None:
    def metadata_files() -> int:
        return sum(name.endswith(".json") for name in storage.list_names(f"{lake.warehouse}/tables/photos/metadata"))

    before = metadata_files()
    lake.ensure("photos", SCHEMA, {"swath.pipeline": "photos"})
    assert metadata_files() == before


@pytest.mark.parametrize(
    "impossible",
    [Column("score", pa.string(), "x"), Column("lines", pa.string(), "x"), Column("score", LINES, "x")],
    ids=["number to text", "list to text", "number to list"],
)
def test_a_change_that_is_impossible_says_what_to_do(warehouse: str, impossible: Column) -> None:
    lake = Lake(warehouse)
    lake.ensure("photos", SCHEMA)
    kept = [column for column in COLUMNS if column.name != impossible.name]
    with pytest.raises(ConfigurationError, match=r"table photos cannot take .* another name"):
        lake.ensure("photos", schema_of([*kept, impossible]))
    assert lake.schema("photos").equals(SCHEMA)


def test_a_table_without_its_cell_columns_is_refused(warehouse: str) -> None:
    with pytest.raises(ConfigurationError, match="partition, bucket"):
        Lake(warehouse).ensure("photos", pa.schema([("x", pa.string())]))


def test_what_is_not_there_is_empty(any_warehouse: str) -> None:
    lake = Lake(any_warehouse)
    assert (lake.tables(), lake.files("photos"), lake.snapshot("photos")) == ([], [], None)
    assert (lake.schema("photos"), lake.properties("photos"), lake.published("photos", "r")) == (None, {}, set())


def test_many_cells_with_odd_names_in_one_commit(lake: Lake) -> None:
    cells = [Cell(f"größe={n % 7}/day=2026-0{n % 9 + 1} '%'", n) for n in range(-1, 30)]
    adds = [stage(lake, cell, str(n)) for n, cell in enumerate(cells)]
    lake.publish("photos", "r1", 0, adds, {})
    assert lake.files("photos") == in_order(adds)
    some = set(cells[::5])
    replaced = [add for add in adds if add.cell in some]
    new = [stage(lake, cell, "new") for cell in sorted(some)]
    lake.publish("photos", "r2", 0, new, basis(*replaced))
    assert {file.path for file in lake.files("photos", cells=some)} == {add.path for add in new}
    assert len(lake.files("photos")) == len(adds)


def test_manifests_are_merged_while_waves_are_added_and_replaced(warehouse: str) -> None:
    lake = Lake(warehouse)
    lake.ensure("photos", SCHEMA, {"commit.manifest.min-count-to-merge": "5"})
    held: dict[Cell, DataFile] = {}
    for wave in range(18):
        cell = Cell("all", wave % 6)
        add = stage(lake, cell, f"{wave}")
        lake.publish("photos", "r1", wave, [add], basis(held[cell]) if cell in held else {})
        held[cell] = add
    assert lake.files("photos") == in_order(held.values())
    table = lake._table("photos")
    assert len(table.current_snapshot().manifests(table.io)) <= 8


def _create(lake: Lake, start: float) -> str:
    time.sleep(max(0.0, start - time.time()))
    lake.ensure("photos", SCHEMA)
    return "ok"


def _publish(lake: Lake, run: str, wave: int, adds: list[DataFile], start: float) -> bool:
    lake.tables()
    time.sleep(max(0.0, start - time.time()))
    return lake.publish("photos", run, wave, adds, {}) is not None


def test_two_processes_create_a_table_at_once(any_warehouse: str) -> None:
    with SPAWN.Pool(2) as pool:
        assert pool.starmap(_create, [(Lake(any_warehouse), time.time() + 4)] * 2) == ["ok", "ok"]
    assert Lake(any_warehouse).tables() == ["photos"]


def test_two_processes_that_publish_the_same_wave_at_once_double_no_row(lake: Lake) -> None:
    add = stage(lake, A, *map(str, range(20)))
    with SPAWN.Pool(2) as pool:
        committed = pool.starmap(_publish, [(lake, "r1", 0, [add], time.time() + 5)] * 2)
    assert sorted(committed) == [False, True]
    assert len(rows(lake)) == 20
    assert lake.files("photos") == [add]


def test_processes_that_publish_different_waves_at_once_all_land(lake: Lake) -> None:
    adds = [stage(lake, Cell("all", wave), str(wave)) for wave in range(3)]
    start = time.time() + 5
    with SPAWN.Pool(3) as pool:
        calls = [(lake, f"run{wave}", wave, [add], start) for wave, add in enumerate(adds)]
        assert pool.starmap(_publish, calls) == [True, True, True]
    assert rows(lake) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("point", "visible"),
    [("publish.before_commit", False), ("publish.after_commit", True), ("publish.after_marker", True)],
)
def test_a_process_killed_anywhere_in_publish_leaves_a_wave_that_can_be_published_again(
    warehouse: str, monkeypatch: pytest.MonkeyPatch, point: str, visible: bool
) -> None:
    lake = Lake(warehouse)
    lake.ensure("photos", SCHEMA)
    add = stage(lake, A, "1", "2")
    monkeypatch.setenv("SWATH_CRASH_AT", point)
    process = SPAWN.Process(target=_publish, args=(lake, "r1", 0, [add], 0.0))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.delenv("SWATH_CRASH_AT")
    assert rows(lake) == (["1", "2"] if visible else [])
    assert lake.published("photos", "r1") == ({0} if visible else set())
    assert (lake.publish("photos", "r1", 0, [add], {}) is None) == visible
    assert rows(lake) == ["1", "2"]
    assert storage.exists(storage.join(warehouse, "_swath/runs/r1/published/photos/0.json"))


def test_a_lake_can_be_sent_to_workers(lake: Lake) -> None:
    lake.publish("photos", "r1", 0, [stage(lake, A, "1")], {})
    assert pickle.loads(pickle.dumps(lake)).files("photos") == lake.files("photos")


def test_a_warehouse_that_cannot_be_used_is_told_in_one_sentence(tmp_path: Path, s3, monkeypatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WarehouseError, match=re.escape(str(tmp_path / "file"))):
        Lake(f"{tmp_path}/file/warehouse").ensure("photos", SCHEMA)
    with pytest.raises(ConfigurationError, match="rename"):
        Lake(f"{tmp_path}/why?")
    lake = Lake(s3.bucket() + "/lake")
    lake.ensure("photos", SCHEMA)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with pytest.raises(WarehouseError, match="credentials") as raised:
        Lake(lake.warehouse).snapshot("photos")
    assert "hunter2" not in str(raised.value)


def test_a_broken_catalog_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(os.urandom(4096))
    with pytest.raises(WarehouseError, match="its catalog cannot be used"):
        Lake(str(tmp_path)).tables()


def test_the_catalog_of_a_remote_warehouse_stands_in_our_home(s3, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    Lake(s3.bucket() + "/lake").ensure("photos", SCHEMA)
    assert len(list((settings().home_path() / "catalogs").glob("*.db"))) == 1


def test_who_waits_until_another_has_published_is_told_so_once(lake: Lake) -> None:
    told: list[str] = []

    def second() -> None:
        with lake.publishing("photos", "second", lambda: told.append("waits")):
            told.append("publishes")

    waiting = threading.Thread(target=second)
    with lake.publishing("photos", "first", lambda: told.append("first waits")):
        waiting.start()
        time.sleep(1.5)
        assert told == ["waits"]
    waiting.join(timeout=60)
    assert told == ["waits", "publishes"]
