"""The same life of a table in every store, and in every catalog: put, run, change, ask, export, tidy, undo, forget.

`pytest tests/flows/test_stores.py -s` prints a line for each: rows in, rows out, seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.flows.living import House
from tests.servers.postgres import Postgres
from tests.servers.process import free_port, listens, start
from typer.testing import CliRunner

from swath.flows.cli import app
from swath.flows.demo.photos import draw_photos
from swath.flows.local import services
from swath.flows.run.records import State
from swath.infra import storage
from swath.infra.lake import Lake
from swath.infra.s3server import SeaweedFS
from swath.schemas.errors import SwathError, WarehouseError

slow = pytest.mark.slow
PLACES = [
    pytest.param("local", "sqlite", marks=slow),
    pytest.param("local", "postgres", marks=slow),
    pytest.param("s3", "sqlite", marks=slow),
    pytest.param("s3", "postgres"),
    pytest.param("s3", "rest", marks=slow),
    pytest.param("s3", "glue", marks=slow),
    pytest.param("azure", "sqlite", marks=slow),
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
    if catalog == "rest":
        server = request.getfixturevalue("rest_server")
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SWATH_CATALOG", json.dumps(in_seaweed(server)))
        root = server.create_bucket("place")
    else:
        root = f"file://{tmp_path}" if store == "local" else request.getfixturevalue(store).bucket("place")
    if catalog == "postgres":
        in_postgres(request.getfixturevalue("postgres"), monkeypatch)
    if catalog == "glue":
        endpoint = request.getfixturevalue("glue_server")
        monkeypatch.setenv("SWATH_CATALOG", json.dumps({"type": "glue", "glue.endpoint": endpoint}))
    with auditing() as socket:
        monkeypatch.setattr(services, "audit_socket", lambda: socket)
        yield Place(root)


@pytest.fixture(scope="module")
def rest_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """An S3 server that is a REST catalog, too."""
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs"), catalog=True) as server:
        yield server


@pytest.fixture(scope="module")
def glue_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """AWS Glue by moto; its URL."""
    port = free_port()
    command = [sys.executable, "-P", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = start(command, lambda: listens(port), tmp_path_factory.mktemp("moto") / "log")
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait()


def in_seaweed(server: SeaweedFS) -> dict[str, str]:
    """A new bucket of tables as the catalog: SeaweedFS takes nothing into it but their data and metadata."""
    import botocore.session

    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    client = botocore.session.get_session().create_client("s3tables", "us-east-1", endpoint_url=server.endpoint, **keys)
    bucket = f"tables-{uuid.uuid4().hex[:8]}"
    client.create_table_bucket(name=bucket)
    return {
        "type": "rest",
        "uri": server.catalog,
        "warehouse": f"s3://{bucket}",
        "prefix": bucket,
        "credential": f"{server.access_key}:{server.secret_key}",
        "location": "catalog",
    }


@contextmanager
def auditing() -> Iterator[Path]:
    """A warm audit worker with the environment as it is now; its socket."""
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        command = [sys.executable, "-P", "-m", "swath.flows.audit.worker", "--socket", f"{folder}/s"]
        with subprocess.Popen([*command, "--parent", str(os.getpid())], env=os.environ) as worker:
            yield Path(folder) / "s"
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


@pytest.fixture
def house(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> Iterator[House]:
    """A warehouse whose catalog is in Postgres, in the store that the test is marked with."""
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    buckets = request.getfixturevalue(getattr(request, "param", "s3"))
    in_postgres(postgres, monkeypatch)
    root = buckets.bucket("house")
    with auditing() as socket:
        yield House(f"{root}/lake", f"{root}/in", socket)


def test_postgres_dies_in_the_middle_of_a_commit_and_the_run_goes_on(house: House, postgres: Postgres) -> None:
    house.put("a.txt", "b.txt")
    house.lake.ensure("toy", pa.schema([("partition", pa.string()), ("bucket", pa.int32())]))
    database = json.loads(os.environ["SWATH_CATALOG"])["uri"].rpartition("/")[2]
    holder = postgres.connect(database)
    holder.execute("BEGIN; LOCK TABLE iceberg_tables IN EXCLUSIVE MODE")  # others may read
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(house.run)
        try:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE%'"
            while postgres.execute(database, waiting) != [(1,)]:
                assert not run.done(), run.result()
                time.sleep(0.1)
        finally:
            postgres.kill()
            holder.close()
            time.sleep(2)  # nobody is there for a while
            postgres.start()
        record = run.result(timeout=120)
    assert (record.status, record.items) == (State.PUBLISHED, 2)
    assert len(house.names()) == 2
    house.check()
    assert house.run().status == State.NOTHING


def test_a_catalog_that_refuses_or_is_not_there_is_told_in_one_sentence(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = json.loads(os.environ["SWATH_CATALOG"])["uri"]
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    with pytest.raises(WarehouseError, match="password authentication failed") as told:
        house.lake.tables()
    assert "hunter2" not in str(told.value)
    monkeypatch.setenv("SWATH_STORAGE_PATIENCE_S", "1")
    for wrong, said in {
        re.sub(r":[0-9]+/", ":9/", uri): r"the catalog postgresql\+psycopg://127.0.0.1:9/.* tried for up to 1 s",
        uri.replace("psycopg", "nosuch"): "SWATH_CATALOG: ",
    }.items():
        monkeypatch.setenv("SWATH_CATALOG", json.dumps({"type": "sql", "uri": wrong}))
        with pytest.raises(SwathError, match=said):
            Lake(house.warehouse).tables()


def make(warehouse: str, catalog: str | None, at: float) -> list[str]:
    os.environ.update({"SWATH_CATALOG": catalog} if catalog else {})
    lake = Lake(warehouse)
    while time.time() < at:
        pass
    lake.ensure("toy", pa.schema([("partition", pa.string()), ("bucket", pa.int32())]))
    return lake.tables()


@pytest.mark.parametrize("server", ["file", "postgres"])
def test_a_new_catalog_is_made_by_many_at_once(
    server: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def new(name: str, pause: float) -> list[list[str]]:
        if server == "postgres":
            in_postgres(request.getfixturevalue("postgres"), monkeypatch)
        given = [str(tmp_path / name)], [os.environ.get("SWATH_CATALOG")], [time.time() + pause]
        return list(pool.map(make, *(one * 4 for one in given)))

    if server == "postgres":  # its variables are inherited by the processes
        in_postgres(request.getfixturevalue("postgres"), monkeypatch)
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        new("warm", 1)
        for trial in range(4):  # PyIceberg looks first and makes its own tables then: most trials collide
            assert new(f"lake{trial}", 0.05) == [["toy"]] * 4


def test_two_warehouses_of_one_catalog_are_kept_apart(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = pa.schema([("partition", pa.string()), ("bucket", pa.int32())])
    house.lake.ensure("toy", schema)
    other = Lake(house.warehouse + "-2")
    with pytest.raises(WarehouseError, match=r"table toy of its catalog is that of .*`namespace` in SWATH_CATALOG"):
        other.ensure("toy", schema)
    given = json.loads(os.environ["SWATH_CATALOG"])
    monkeypatch.setenv("SWATH_CATALOG", json.dumps({**given, "namespace": "second"}))
    other = Lake(house.warehouse + "-2")
    other.ensure("toy", schema)
    assert other.tables() == house.lake.tables() == ["toy"]


CHILD = """
import sys
from pathlib import Path
from swath.flows.audit.worker import AuditClient
from swath.flows.run import process
from swath.flows.run.records import Request
AuditClient.start = classmethod(lambda cls, socket: cls(socket))  # warm, though this environment has a variable more
process.start(Request.model_validate_json(sys.argv[1]), prefect=False, audit_socket=Path(sys.argv[2]))
"""


def child(house: House, variables: dict[str, str] | None = None, **changes: Any) -> subprocess.Popen[bytes]:
    """A process that drives a run."""
    environment = {
        **os.environ,
        **(variables or {}),
        "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path])),
    }
    command = [sys.executable, "-c", CHILD, house.request(**changes).model_dump_json(), str(house.audit_socket)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


@slow
@pytest.mark.parametrize("house", ["s3", "azure", "google"], indirect=True)
def test_two_runs_at_once_both_publish_or_one_is_told_why_not(house: House) -> None:
    house.put(*(f"{site}/{number}.txt" for site in "ab" for number in range(4)))
    runs = [child(house, include=(f"{site}/*.txt",), partition_by="{site}") for site in "ab"]
    said = [run.communicate(timeout=200)[1].decode() for run in runs]
    assert any(run.returncode == 0 for run in runs), said
    for run, text in zip(runs, said, strict=True):
        assert run.returncode == 0 or "Conflict" in text or "RunLocked" in text
    published = "ab" if all(run.returncode == 0 for run in runs) else "ab"[[run.returncode for run in runs].index(0)]
    assert len(house.names()) == 4 * len(published)


@slow
@pytest.mark.parametrize("point", ["executed", "publish.before_commit", "publish.after_commit"])
def test_a_driver_on_ray_is_killed_and_its_run_finished(house: House, point: str) -> None:
    house.put(*(f"{number}.txt" for number in range(20)))
    killed = child(house, {"SWATH_CRASH_AT": point}, ray="local")
    said = killed.communicate(timeout=200)[1].decode()
    assert killed.returncode == -signal.SIGKILL, said[-2000:]
    record = house.resume()
    assert (record.status, record.ok) == (State.PUBLISHED, 20)
    house.check()
    assert house.run().status == State.NOTHING
