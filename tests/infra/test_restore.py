"""The runbook's ways back to a catalog that is lost, as it writes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Buckets
from tests.flows.small_lake import ROWS, photo, publish
from tests.servers.postgres import BINARIES, Postgres

from swath.flows.ask.query import sql
from swath.infra.lake import Lake

RUNBOOK = (Path(__file__).parents[2] / "infra" / "RUNBOOK.md").read_text()
SECTION = RUNBOOK.split("\n## Restore of the catalog\n")[1].split("\n## ")[0]


def written(language: str) -> str:
    """The section's first block of code in the language."""
    found = re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    assert found is not None
    return found[1]


def catalog_at(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_CATALOG", f'{{"type": "sql", "uri": "sqlite:///{database}?timeout=30"}}')


def register(warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_WAREHOUSE", warehouse)
    done = subprocess.run([sys.executable, "-c", written("python")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("photos ")


def counted(warehouse: str) -> tuple[int, int]:
    answer = sql(warehouse, "SELECT count(*) AS n, count(DISTINCT item_id) AS items FROM photos.items").read_all()
    return answer.column("n").to_pylist()[0], answer.column("items").to_pylist()[0]


def test_tables_are_registered_again_from_their_metadata(
    s3: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = s3.bucket("lake") + "/warehouse"
    catalog_at(tmp_path / "one.db", monkeypatch)
    publish(warehouse)
    catalog_at(tmp_path / "empty.db", monkeypatch)
    assert Lake(warehouse).snapshot("photos") is None
    register(warehouse, monkeypatch)
    assert counted(warehouse) == (len(ROWS),) * 2


def test_an_old_catalog_learns_what_was_published_since(
    warehouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog_at(tmp_path / "one.db", monkeypatch)
    publish(warehouse)
    old = (tmp_path / "one.db").read_bytes()
    publish(warehouse, rows=[photo("new.jpg", "site=c/dt=2026-05-03")], run_id="r2")
    before = Lake(warehouse).snapshot("photos")
    (tmp_path / "one.db").write_bytes(old)
    assert Lake(warehouse).snapshot("photos") != before
    register(warehouse, monkeypatch)
    assert Lake(warehouse).snapshot("photos") == before
    assert counted(warehouse) == (len(ROWS) + 1,) * 2
    publish(warehouse, rows=[photo("newer.jpg", "site=c/dt=2026-05-04")], run_id="r3")
    assert counted(warehouse) == (len(ROWS) + 2,) * 2


def test_a_dump_of_postgres_brings_the_catalog_back(
    warehouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    """The roles are those of a cloud: `iceberg` makes no databases, who makes them is no superuser."""
    environment = postgres.environment() | {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for statement in (
        f"CREATE ROLE postgres LOGIN CREATEDB CREATEROLE PASSWORD '{postgres.password}'",
        f"CREATE ROLE iceberg LOGIN PASSWORD '{postgres.password}'",
        "GRANT iceberg TO postgres",
        "CREATE DATABASE iceberg OWNER iceberg",
        "REVOKE ALL ON DATABASE iceberg FROM PUBLIC",
    ):
        postgres.execute("postgres", statement)
    uri = f"postgresql+psycopg://iceberg@127.0.0.1:{postgres.port}/iceberg"
    monkeypatch.setenv("SWATH_CATALOG", f'{{"type": "sql", "uri": "{uri}"}}')
    publish(warehouse)
    dump, restore = (line.partition("#")[0] for line in written("").splitlines())
    paths = {"PATH": f"{BINARIES}:{os.environ['PATH']}"}
    try:
        subprocess.run(["bash", "-ec", dump], check=True, cwd=tmp_path, env=os.environ | paths)
        postgres.execute("postgres", "DROP DATABASE iceberg WITH (FORCE)")
        subprocess.run(["bash", "-ec", restore], check=True, cwd=tmp_path, env=os.environ | paths)
        assert counted(warehouse) == (len(ROWS),) * 2
    finally:
        postgres.execute("postgres", "DROP DATABASE IF EXISTS iceberg WITH (FORCE)")
        postgres.execute("postgres", "DROP ROLE iceberg, postgres")
