"""SQL over published tables: names, nulls, formats, and nothing but reading."""

from __future__ import annotations

import contextlib
import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.faults.proxy import Proxy
from tests.flows.small_lake import photo, publish

from swath.flows.ask.query import connect, describe, open_session, sql, tables, write_result
from swath.infra import storage
from swath.infra.s3server import SeaweedFS
from swath.schemas.checks import CHECKS, AuditReport, Check
from swath.schemas.columns import schema_of
from swath.schemas.errors import ConfigurationError, QueryError, WarehouseError
from swath.schemas.items import MANIFEST, VERDICT
from swath.schemas.pipeline import RESERVED, Pipeline
from swath.schemas.runs import RUNS


def fetch(warehouse: str, query: str) -> list[dict[str, Any]]:
    return sql(warehouse, query).read_all().to_pylist()


def local_files(warehouse: str) -> dict[str, bytes]:
    root = storage.local_path(warehouse).parent
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "catalog.db"}


def test_items_labels_and_rejects_are_found_under_plain_and_qualified_names(any_warehouse: str) -> None:
    publish(any_warehouse)
    counted = "SELECT count(*) AS n, count(DISTINCT item_id) AS ids FROM "
    assert (
        fetch(any_warehouse, counted + "items")
        == fetch(any_warehouse, counted + "photos.items")
        == [{"n": 5, "ids": 5}]
    )
    labels = fetch(any_warehouse, "SELECT source_uri, step, rank, label FROM labels ORDER BY source_uri, rank")
    assert [(r["source_uri"][-5:], r["step"], r["rank"], r["label"]) for r in labels] == [
        ("a.jpg", "classify", 1, "cow"),
        ("a.jpg", "classify", 2, "dog"),
        ("c.jpg", "classify", 1, "cow"),
    ]
    (reject,) = fetch(any_warehouse, "FROM rejects")
    assert (reject["pipeline"], reject["reject_reason"]) == ("photos", "truncated")
    (first,) = fetch(any_warehouse, "SELECT processed_at FROM items WHERE source_uri LIKE '%a.jpg'")
    assert first["processed_at"] == datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_of_several_pipelines_a_plain_name_is_refused_with_the_qualified_ones(warehouse: str) -> None:
    publish(warehouse)
    publish(warehouse, "survey", [photo("z.jpg", status="rejected", reject_reason="empty")])
    for attempt in (lambda: fetch(warehouse, "SELECT * FROM items"), lambda: describe(warehouse, "items")):
        with pytest.raises(QueryError, match=r"several pipelines.*photos\.items or survey\.items"):
            attempt()
    assert fetch(warehouse, "SELECT count(*) AS n FROM survey.items") == [{"n": 1}]
    assert fetch(warehouse, "SELECT pipeline, reject_reason FROM rejects ORDER BY 1") == [
        {"pipeline": "photos", "reject_reason": "truncated"},
        {"pipeline": "survey", "reject_reason": "empty"},
    ]


@pytest.mark.parametrize("name", ["memory", "runs", "items", "local"])
def test_a_pipeline_may_be_called_what_duckdb_or_a_view_is_called(warehouse: str, name: str) -> None:
    publish(warehouse)
    publish(warehouse, name, [photo("z.jpg")])
    assert fetch(warehouse, "SELECT count(*) AS n FROM photos.items") == [{"n": 5}]
    assert fetch(warehouse, f"SELECT count(*) AS n FROM {name}.items") == [{"n": 1}]


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_pipeline_may_not_be_called_what_means_something_else_in_sql(name: str) -> None:
    with pytest.raises(ValueError, match="taken in SQL"):
        Pipeline.model_validate({"name": name, "steps": ["decode"]})
    assert Pipeline.model_validate({"name": name, "table": {"name": "photos"}, "steps": ["decode"]}).name == name


def test_files_from_before_a_column_was_added_give_nulls(warehouse: str) -> None:
    old = schema_of((*MANIFEST, *VERDICT))
    publish(warehouse, rows=[photo("old.jpg", "p=1")], schema=old, run_id="r1")
    publish(warehouse, rows=[photo("new.jpg", "p=2", labels=[{"label": "cow", "score": 1.0}])], run_id="r2")
    rows = fetch(warehouse, "SELECT source_uri, latitude, labels FROM stored ORDER BY source_uri DESC")
    assert [(row["latitude"], row["labels"]) for row in rows] == [
        (None, None),
        (None, [{"label": "cow", "score": 1.0}]),
    ]
    assert fetch(warehouse, "SELECT label FROM labels") == [{"label": "cow"}]


def test_a_new_table_and_a_new_warehouse_are_empty_and_reading_makes_nothing(warehouse: str) -> None:
    with pytest.raises(QueryError, match="holds no table yet"):
        fetch(warehouse, "SELECT * FROM items")
    assert fetch(warehouse, "SELECT * FROM runs") == []
    assert not storage.local_path(warehouse).exists()
    publish(warehouse, rows=[])
    assert fetch(warehouse, "SELECT * FROM items") == []
    assert {one.name: one.rows for one in tables(warehouse)}["words"] == 0


def test_runs_and_checks_come_from_the_records_of_the_runs(any_warehouse: str) -> None:
    folder = storage.join(any_warehouse, "_swath", "runs")
    record = {
        "run_id": "r1",
        "pipeline": "photos",
        "status": "published",
        "started_at": "2026-05-01T12:00:00Z",
        "ok": 4,
        "operators": {"decode": 3.0},
        "stage_times": [{"stage": "decode", "workers": 2, "items": 4, "rate": 1.5, "work": 0.9, "store": 0.1}],
    }
    check = Check("ids are unique", True, "5", "5", "reconciliation")
    report = AuditReport("r1", 0, True, (check,), 1.5)
    storage.write(storage.join(folder, "r1", "run.json"), json.dumps({**record, "seconds": 2, "new": [1]}).encode())
    storage.write(storage.join(folder, "r1", "checks", "0.json"), report.to_json().encode())
    storage.write(storage.join(folder, "r2", "run.json"), b'{"run_id": "r')
    storage.write(storage.join(folder, "r3", "lock"), b"")
    (run,) = fetch(any_warehouse, "SELECT * FROM runs")
    assert list(run) == [column.name for column in RUNS]
    assert (run["ok"], run["seconds"], run["error"]) == (4, 2.0, None)
    assert run["started_at"] == datetime(2026, 5, 1, 12, tzinfo=UTC)
    (stage,) = run["stage_times"]
    assert (stage["workers"], stage["work"], stage["seconds"]) == (2, 0.9, None)
    assert fetch(any_warehouse, "SELECT operators['decode'] AS decode FROM runs") == [{"decode": 3.0}]
    (found,) = fetch(any_warehouse, "SELECT * FROM checks")
    assert list(found) == [column.name for column in CHECKS]
    assert (found["run_id"], found["name"], found["success"]) == ("r1", "ids are unique", True)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT status, count(*) FROM items GROUP BY ALL ORDER BY ALL",
        "WITH bad AS (FROM rejects) SELECT count(*) FROM bad JOIN items USING (item_id)",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 3) FROM t",
        "FROM labels SELECT label UNION SELECT status FROM items",
        "VALUES (1), (2)",
        "DESCRIBE items",
        "SHOW ALL TABLES",
        "SUMMARIZE labels",
        "EXPLAIN SELECT * FROM items",
        "EXPLAIN ANALYZE SELECT count(*) FROM items",
        "-- how many\nSELECT count(*) FROM items;",
        'SELECT unnest(labels).label, "window" FROM stored',
        "SELECT * FROM (PIVOT items ON status IN ('ok', 'gone') USING count(*))",
        "SELECT r FROM range(3) AS t(r), unnest([1, 2])",
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'labels'",
    ],
)
def test_whatever_reads_is_answered(warehouse: str, query: str) -> None:
    publish(warehouse)
    assert fetch(warehouse, query)


def test_whatever_writes_or_reaches_outside_is_refused_and_changes_nothing(
    warehouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(warehouse)
    (tmp_path / "private.csv").write_text("a\n1\n")
    monkeypatch.chdir(tmp_path)
    data = next(storage.local_path(warehouse).rglob("*.parquet"))
    before = local_files(warehouse)
    out = tmp_path / "out.csv"
    overwrite = f"COPY (SELECT 1) TO '{data}' (FORMAT parquet, USE_TMP_FILE false)"
    queries = [
        "INSERT INTO items VALUES (1)",
        "UPDATE items SET status = 'ok'",
        "DELETE FROM items",
        "DROP VIEW items",
        "CREATE TABLE t (i INT)",
        "CREATE TABLE t AS FROM items",
        "CREATE OR REPLACE VIEW items AS SELECT 1",
        "CREATE SECRET s (TYPE s3)",
        "ALTER VIEW items RENAME TO x",
        f"COPY items TO '{out}'",
        overwrite,
        f"EXPLAIN ANALYZE {overwrite}",
        f"EXPLAIN ANALYZE\n(FORMAT json) {overwrite}",
        f"WITH x AS ({overwrite}) FROM x",
        f"SELECT (WITH x AS ({overwrite}) SELECT count(*) FROM x)",
        f"SELECT * FROM query('WITH x AS ({overwrite.replace(chr(39), chr(39) * 2)}) FROM x')",
        "WITH x AS (INSERT INTO items VALUES (1) RETURNING 1) FROM x",
        f"EXPORT DATABASE '{tmp_path}/dump'",
        f"ATTACH '{tmp_path}/new.db'",
        "DETACH _warehouse",
        "USE photos",
        "PRAGMA version",
        "SET threads = 1",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "SET VARIABLE a = 1",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CALL enable_logging()",
        "CHECKPOINT",
        "BEGIN TRANSACTION",
        "PREPARE p AS SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW items",
        "",
        "-- nothing",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv_auto('private.csv')",
        "SELECT * FROM sniff_csv('private.csv')",
        "SELECT * FROM read_json('/etc/passwd')",
        f"SELECT * FROM read_parquet('{data}')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'private.csv'",
        'SELECT * FROM "private.csv"',
        "SELECT * FROM (SELECT * FROM (SELECT count(*) FROM read_text('/etc/passwd')))",
        "SELECT (SELECT content FROM read_text('/etc/passwd'))",
        "SELECT * FROM enable_logging()",
        "SELECT * FROM seq_scan('items')",
        "SELECT * FROM ROWS",
        "SELECT * FROM warehouse",
    ]
    session = open_session(warehouse)
    for query in queries:
        with pytest.raises(QueryError) as refused:
            session.stream(session.checked(query)).read_all()
        assert refused.value.exit_code == 2
        assert "Traceback" not in str(refused.value)
    assert local_files(warehouse) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"private.csv", "warehouse", "home"}


def test_the_connection_itself_reads_nothing_but_the_tables(warehouse: str) -> None:
    publish(warehouse)
    connection = connect(warehouse)
    assert connection.sql("SELECT count(*) FROM photos.items").fetchall() == [(5,)]
    for query in ("FROM read_text('/etc/passwd')", "SET enable_external_access = true", "COPY items TO '/tmp/x.csv'"):
        with pytest.raises(Exception, match=r"disabled by configuration|locked"):
            connection.execute(query)


def test_a_wrong_query_is_told_in_the_words_of_the_database(warehouse: str) -> None:
    publish(warehouse)
    for query, words in [
        ("SELEC 1", "syntax error"),
        ("SELECT itm_id FROM items", "item_id"),
        ("SELECT * FROM lables", "labels"),
        ("SELECT CAST(status AS INTEGER) FROM items", "Could not convert"),
    ]:
        with pytest.raises(QueryError, match=words):
            fetch(warehouse, query)


def test_describe_gives_types_units_and_docs_and_names_what_was_meant(warehouse: str) -> None:
    publish(warehouse)
    columns = {column.name: column for column in describe(warehouse, "items").columns}
    assert (columns["latitude"].doc, columns["latitude"].unit) == ("Where the camera was", "degrees")
    assert columns["size_bytes"].unit == "bytes"
    assert [column.name for column in describe(warehouse, "photos.labels").columns][-2:] == ["label", "score"]
    with pytest.raises(QueryError, match="did you mean labels"):
        describe(warehouse, "label")


def test_tables_counts_the_rows_of_every_view(warehouse: str) -> None:
    publish(warehouse)
    counted = {one.name: one for one in tables(warehouse)}
    filled = {name: one.rows for name, one in counted.items() if one.rows}
    assert filled == {"items": 5, "labels": 3, "stored": 5, "rejects": 1}
    assert {"segments", "lines", "words", "regions", "codes", "runs", "checks"} <= counted.keys()
    assert all(one.doc for one in counted.values())


def test_json_has_iso_times_nested_values_and_no_nan(warehouse: str, tmp_path: Path) -> None:
    publish(warehouse)
    query = """SELECT processed_at, seconds, labels, sum(1) OVER () AS n, 'nan'::DOUBLE AS x, DATE '2026-05-01' AS d
               FROM stored WHERE source_uri LIKE '%a.jpg'"""
    assert write_result(sql(warehouse, query), "json", str(tmp_path / "o.json")) == 1
    (row,) = json.loads((tmp_path / "o.json").read_text())
    assert row["processed_at"] == "2026-05-01T12:00:00+00:00"
    assert (row["seconds"], row["n"], row["x"], row["d"]) == ({"decode": 0.5}, 1, None, "2026-05-01")
    assert row["labels"][0] == {"label": "cow", "score": 0.75}


def test_columns_of_one_name_are_all_kept(warehouse: str, capsys: pytest.CaptureFixture[str]) -> None:
    publish(warehouse)
    write_result(sql(warehouse, "SELECT 1 AS a, 2 AS a, 3 AS a_2"), "json")
    assert json.loads(capsys.readouterr().out) == [{"a": 1, "a_2": 2, "a_2_2": 3}]


def test_csv_and_parquet_hold_the_rows(warehouse: str, tmp_path: Path) -> None:
    publish(warehouse)
    query = "SELECT source_uri, latitude, labels, latitude IS NULL AS missing FROM stored ORDER BY source_uri"
    assert write_result(sql(warehouse, query), "csv", str(tmp_path / "new" / "o.csv")) == 5
    with (tmp_path / "new" / "o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["latitude"], rows[1]["latitude"], rows[1]["missing"]) == ("46.5", "", "true")
    assert json.loads(rows[0]["labels"])[1]["label"] == "dog"
    write_result(sql(warehouse, query), "parquet", str(tmp_path / "o.parquet"))
    assert pq.read_table(tmp_path / "o.parquet").column("latitude").to_pylist() == [46.5, None, -33.5, None, None]
    with pytest.raises(ConfigurationError, match="-o"):
        write_result(sql(warehouse, query), "parquet")


def test_a_query_that_fails_half_way_leaves_the_file_as_it_was(warehouse: str, tmp_path: Path) -> None:
    publish(warehouse)
    (tmp_path / "o.csv").write_text("before")
    query = "SELECT CASE WHEN r = 90000 THEN error('broken') ELSE r END AS r FROM range(100000) AS t(r)"
    with pytest.raises(QueryError, match="broken"):
        write_result(sql(warehouse, query), "csv", str(tmp_path / "o.csv"))
    assert (tmp_path / "o.csv").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_table_for_people_says_how_much_it_left_out_and_hides_control_characters(
    warehouse: str, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(warehouse, rows=[photo(f"{number}\x1b[31m{'x' * 300}[bold].jpg") for number in range(150)])
    assert (
        write_result(sql(warehouse, "SELECT source_uri, 1.5 AS x, 16918912.4::DOUBLE AS m2 FROM items"), "table") == 150
    )
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[31m" in out
    assert "150 rows; the first 100 shown" in out
    assert "16918912" in out
    assert max(len(line) for line in out.splitlines()) < 120


def test_a_store_that_stops_answering_is_told_in_one_sentence(
    s3_server: SeaweedFS, s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SWATH_STORAGE_PATIENCE_S", "1")
    warehouse = s3.bucket("lake") + "/w"
    publish(warehouse)
    with Proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with contextlib.closing(open_session(warehouse)) as session:
            assert session.stream("SELECT * FROM items").read_all().num_rows == 5
            proxy.weather = "gone"
            with pytest.raises(WarehouseError, match="a table's file cannot be read") as failure:
                session.stream("SELECT * FROM items").read_all()
    assert len(str(failure.value).splitlines()) == 1
