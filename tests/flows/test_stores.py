"""The same life of a table in every store, and in every catalog: put, run, change, ask, export, tidy, undo, forget.

`pytest tests/flows/test_stores.py -s` prints a line for each: rows in, rows out, seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers.postgres import Postgres
from typer.testing import CliRunner

from swath.flows.cli import app
from swath.flows.demo.photos import draw_photos
from swath.flows.local import services
from swath.infra import storage

slow = pytest.mark.slow
PLACES = [
    pytest.param("local", "sqlite", marks=slow),
    pytest.param("local", "postgres", marks=slow),
    pytest.param("s3", "sqlite", marks=slow),
    pytest.param("s3", "postgres"),
    pytest.param("azure", "sqlite"),
    pytest.param("azure", "postgres", marks=slow),
    pytest.param("google", "sqlite", marks=slow),
    pytest.param("google", "postgres", marks=slow),
]


class Place:
    """A source and a warehouse in one store, and the command there."""

    def __init__(self, root: str) -> None:
        self.source, self.warehouse = storage.join(root, "in"), storage.join(root, "lake")

    def command(self, *words: str) -> Any:
        """What `swath WORDS` prints there, as JSON."""
        json_of = ("--format", "json") if words[0] == "sql" else () if words[0] == "export" else ("--json",)
        done = CliRunner().invoke(app, [*words, "--warehouse", self.warehouse, *json_of])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if json_of else done.stdout

    def run(self, *options: str) -> dict[str, Any]:
        return dict(self.command("run", "photos", self.source, "--ray", "off", *options))

    def ask(self, query: str) -> list[dict[str, Any]]:
        return list(self.command("sql", query))

    def uri(self, name: str) -> str:
        return storage.join(self.source, name)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Twelve drawn photos by name; two are broken."""
    drawn = [path.read_bytes() for path in draw_photos(tmp_path_factory.mktemp("drawn"), 12, size=(200, 150))]
    drawn[3], drawn[7] = drawn[3][:2000], b"no image at all"
    return {f"site=a/photo {number:02}.jpg": content for number, content in enumerate(drawn)}


@pytest.fixture
def place(
    store: str, catalog: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """An empty place, with a warm audit worker that sees it."""
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    root = f"file://{tmp_path}" if store == "local" else request.getfixturevalue(store).bucket("place")
    if catalog == "postgres":
        in_postgres(request.getfixturevalue("postgres"), monkeypatch)
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        command = [sys.executable, "-P", "-m", "swath.flows.audit.worker", "--socket", f"{folder}/s"]
        with subprocess.Popen([*command, "--parent", str(os.getpid())], env=os.environ) as worker:
            monkeypatch.setattr(services, "audit_socket", lambda: Path(folder) / "s")
            yield Place(root)
            worker.kill()


def in_postgres(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of its own as the catalog; the password is in the environment alone. Its name."""
    name = f"catalog_{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("SWATH_CATALOG", json.dumps({"type": "sql", "uri": server.create_database(name)}))
    for variable, value in server.environment().items():
        monkeypatch.setenv(variable, value)
    return name


@pytest.mark.parametrize(("store", "catalog"), PLACES)
def test_a_table_lives_there(store: str, catalog: str, place: Place, photos: dict[str, bytes], tmp_path: Path) -> None:
    started = time.monotonic()
    for name, content in photos.items():
        storage.write(place.uri(name), content)
    plan = place.command("plan", "photos", place.source, "--ray", "off")
    assert plan["items"] == 12
    first = place.run("--max-rejects", "1")
    assert (first["status"], first["items"], first["ok"], first["rejected"]) == ("published", 12, 10, 2)
    rows = place.ask("SELECT count(*) AS n, count(DISTINCT item_id) AS ids FROM photos.items")
    assert rows == [{"n": 12, "ids": 12}]
    rejects = place.ask("SELECT parse_filename(source_uri) AS file, reject_reason FROM rejects ORDER BY 1")
    assert [(one["file"], one["reject_reason"]) for one in rejects] == [
        ("photo 03.jpg", "truncated"),
        ("photo 07.jpg", "not_an_image"),
    ]
    assert place.run()["status"] == "nothing"

    good = next(iter(photos.values()))
    storage.write(place.uri("site=a/photo 03.jpg"), good)  # what was broken is mended
    storage.delete(place.uri("site=a/photo 11.jpg"))
    second = place.run("--max-rejects", "1")
    assert (second["items"], second["gone"]) == (1, 1)
    states = place.ask("SELECT status, count(*) AS n FROM photos.items GROUP BY ALL ORDER BY 1")
    assert states == [{"status": "gone", "n": 1}, {"status": "ok", "n": 10}, {"status": "rejected", "n": 1}]

    exported = storage.join(storage.parent(place.warehouse), "out")
    place.command("export", "photos.items", exported, "--format", "csv")
    text = b"".join(storage.read(one.uri) for one in storage.list_objects(exported)).decode()
    assert len(text.splitlines()) == 13
    place.command("maintain")
    undone = place.command("rollback", second["run_id"], "--yes", "--why", "test")
    assert undone["status"] == "rolled_back"
    assert place.ask("SELECT count(*) AS n FROM photos.items WHERE status = 'ok'") == [{"n": 10}]
    assert len(place.ask("FROM rejects")) == 2
    outcome = place.command("forget", place.uri("site=a/photo 05.jpg"), "--yes")
    assert outcome["done"], outcome
    assert place.ask("SELECT count(*) AS n FROM photos.items WHERE source_uri LIKE '%photo 05%'") == [{"n": 0}]
    (out,) = place.ask("SELECT count(*) AS n, count(DISTINCT item_id) AS ids FROM photos.items")
    assert out["n"] == out["ids"]
    print(f"\n{store:8}{catalog:10} rows in 12, rows out {rows[0]['n']}, after all {out['n']}, "
          f"{time.monotonic() - started:.1f} s")  # fmt: skip
