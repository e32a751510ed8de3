"""Reading, writing and listing objects, on local disk and on a real S3 server."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.faults.proxy import Proxy

from swath.infra import filesystems, storage
from swath.infra.s3server import SeaweedFS
from swath.infra.uris import local_path, normalize, uri_of
from swath.schemas.errors import ConfigurationError, SourceError, StorageUnavailable, WarehouseError

ODD = [
    "plain.jpg",
    "two words.jpg",
    "größe.jpg",
    "日本.tif",
    "a#b.png",
    "100%.png",
    "what?.png",
    "a%20b.png",
    "sub dir/x+y&z.png",
]


@pytest.fixture(params=["local", "s3", "azure", "google"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder on local disk, and in each kind of store."""
    if request.param == "local":
        return f"file://{tmp_path}/root"
    return str(request.getfixturevalue(request.param).bucket()) + "/some folder"


def test_odd_names_are_written_listed_and_read_exactly(root: str) -> None:
    for name in ODD:
        storage.write(storage.join(root, name), name.encode())
    listed = list(storage.list_objects(root))
    assert sorted(storage.relative(one.uri, root) for one in listed) == sorted(ODD)
    if not root.startswith("gs"):  # SeaweedFS without a delimiter, and Azure's hierarchical accounts, go by folder
        assert [one.uri for one in listed] == sorted((one.uri for one in listed), key=str.encode)
    for one in listed:
        assert storage.read(one.uri).decode() == storage.relative(one.uri, root)
        assert one.size == len(storage.read(one.uri))
        assert one.modified.utcoffset() is not None


def test_listing_leaves_out_hidden_names_and_keeps_a_fixed_order_through_folders(root: str) -> None:
    names = ["a.jpg", "a/1.jpg", "a/b/2.jpg", "a0.jpg", "z/3.jpg"]
    for name in [*names, ".hidden/4.jpg", "a/.5.jpg", "a/.dir/6.jpg"]:
        storage.write(storage.join(root, name), b"x")
    listed = [storage.relative(one.uri, root) for one in storage.list_objects(root)]
    assert (sorted(listed) if root.startswith("gs") else listed) == names
    assert [storage.relative(one.uri, root) for one in storage.list_objects(root)] == listed


def test_a_single_object_is_a_source(root: str) -> None:
    uri = storage.join(root, "one only.jpg")
    storage.write(uri, b"abc")
    (listed,) = storage.list_objects(uri)
    assert (listed.uri, listed.size, listed.etag) == (uri, 3, storage.etag(uri))


def test_the_etag_changes_with_the_content(root: str) -> None:
    uri = storage.join(root, "x")
    storage.write(uri, b"one")
    (before,) = storage.list_objects(root)
    time.sleep(0.02)
    storage.write(uri, b"two")
    (after,) = storage.list_objects(root)
    assert before.etag != after.etag


def test_a_listing_that_is_abandoned_ends(root: str) -> None:
    for folder in range(12):
        storage.write(storage.join(root, f"{folder:02}/x"), b"x")
    assert len(list(islice(storage.list_objects(root), 3))) == 3


def test_nothing_there_is_told_in_one_sentence(root: str) -> None:
    with pytest.raises(SourceError, match=r"nowhere: .*check"):
        list(storage.list_objects(storage.join(root, "nowhere")))


def test_a_missing_bucket_is_named(s3) -> None:
    with pytest.raises(SourceError, match=r"bucket s3://no-such-bucket does not exist"):
        list(storage.list_objects("s3://no-such-bucket/photos"))
    with pytest.raises(WarehouseError, match=r"s3://no-such-bucket/lake: the bucket does not exist"):
        storage.check_writable("s3://no-such-bucket/lake")


def test_wrong_credentials_are_told_at_once_and_never_shown(s3, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.bucket()
    storage.write(f"{bucket}/x", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    started = time.monotonic()
    with pytest.raises(SourceError, match="refuses these credentials") as told:
        list(storage.list_objects(bucket))
    with pytest.raises(PermissionError, match="check the credentials"):
        storage.read(f"{bucket}/x")
    with pytest.raises(WarehouseError, match="cannot be written"):
        storage.check_writable(bucket)
    assert time.monotonic() - started < 10
    assert "hunter2" not in str(told.value)


def test_a_store_that_does_not_answer_is_tried_again_and_then_named(s3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SWATH_STORAGE_PATIENCE_S", "1")
    with pytest.raises(SourceError, match="AWS_ENDPOINT_URL"):
        list(storage.list_objects("s3://bucket"))
    with pytest.raises(StorageUnavailable, match=r"s3://bucket/x: .*tried for up to 1 s"):
        storage.read("s3://bucket/x")


def test_who_waits_for_a_store_is_told(s3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SWATH_STORAGE_PATIENCE_S", "4")
    monkeypatch.setattr(filesystems, "UNANSWERED_S", 1)
    heard: list[str] = []
    with storage.told_of_waiting(heard.append):
        outcomes = list(storage.read_many(f"s3://bucket/{number}" for number in range(8)))
    assert all(isinstance(outcome, StorageUnavailable) for outcome in outcomes)
    assert heard
    assert len(heard) <= 4, "threads that wait side by side say it once"
    assert all("a store has not answered for" in text and "s3://bucket/" in text for text in heard)


def test_a_connection_that_is_cut_anywhere_leaves_nothing_half_read_or_half_written(
    s3_server: SeaweedFS, s3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """pyarrow makes zeros of an answer that ends within its headers, and says of an upload that was cut that it is
    done; nobody else would notice."""
    bucket = s3.bucket()
    content, path = os.urandom(20_000), tmp_path / "file"
    path.write_bytes(content)
    reads = [f"{bucket}/{number}" for number in range(40)]
    for uri in reads:
        storage.write(uri, content)
    writes = [f"{bucket}/written/{number}" for number in range(40)]
    with Proxy(s3_server.endpoint) as proxy:
        budgets = chain(range(300, 2000, 15), repeat(1 << 62))
        proxy.cut, proxy.weather = partial(next, budgets), "cutting"
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert list(storage.read_many(reads, threads=40)) == [content] * 40
        assert next(budgets) == 1 << 62
        budgets = chain(range(300, 25_000, 400), repeat(1 << 62))
        proxy.cut, proxy.weather = partial(next, budgets), "cutting"
        with ThreadPoolExecutor(40) as pool:
            list(pool.map(storage.upload, [path] * 40, writes))
        assert next(budgets) == 1 << 62
        budgets = chain(range(300, 25_000, 400), repeat(1 << 62))
        proxy.cut, proxy.weather = partial(next, budgets), "cutting"
        fetched = storage.fetch(writes, tmp_path / "fetched", threads=40)
        assert next(budgets) == 1 << 62
    assert [local_path(uri).read_bytes() for uri in fetched] == [content] * 40


def test_fetched_files_are_on_disk_whole_and_in_order(root: str, tmp_path: Path) -> None:
    contents = {f"{number} {name}": os.urandom(number << 19) for number, name in enumerate(ODD)}
    for name, content in contents.items():
        storage.write(storage.join(root, name), content)
    uris = storage.fetch([storage.join(root, name) for name in contents], tmp_path / "here")
    assert [local_path(uri).read_bytes() for uri in uris] == list(contents.values())
    with pytest.raises(FileNotFoundError):
        storage.read(storage.fetch([storage.join(root, "gone")], tmp_path / "there")[0])


def test_a_key_with_empty_parts_is_read(s3) -> None:
    uri = f"{s3.bucket()}/a//b.jpg"
    storage.write(uri, b"content")
    assert storage.read(uri) == b"content"


def test_read_tells_gone_from_broken(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read(storage.join(root, "gone"))


def test_read_many_keeps_the_order_and_hands_errors_on(root: str) -> None:
    for number in range(60):
        storage.write(storage.join(root, str(number)), str(number).encode())
    uris = [storage.join(root, str(number)) for number in range(61)]
    contents = list(storage.read_many(uris, threads=8))
    assert contents[:60] == [str(number).encode() for number in range(60)]
    assert isinstance(contents[60], FileNotFoundError)


def test_read_many_holds_only_a_few_objects_ahead(tmp_path: Path) -> None:
    asked = []

    def uris():
        for number in range(1000):
            asked.append(number)
            yield f"file://{tmp_path}/{number}"

    assert len(list(islice(storage.read_many(uris(), threads=4), 5))) == 5
    assert len(asked) < 20


def test_names_can_be_listed_and_objects_deleted(root: str) -> None:
    for name in ["b", "a/x", "a/y", "c"]:
        storage.write(storage.join(root, name), b"x")
    assert storage.list_names(root) == ["a/", "b", "c"]
    assert storage.list_names(storage.join(root, "nowhere")) == []
    storage.delete(storage.join(root, "b"))
    storage.delete(storage.join(root, "b"))
    storage.delete_prefix(storage.join(root, "a"))
    storage.delete_prefix(storage.join(root, "a"))
    left = storage.list_names(root)
    assert left == ["c"] or (root.startswith("gs") and left == ["a/", "c"])  # of which SeaweedFS keeps the empty folder
    assert storage.exists(storage.join(root, "c"))
    assert not storage.exists(storage.join(root, "b"))


def test_create_and_replace_if_hold_their_conditions(root: str) -> None:
    uri = storage.join(root, "lock")
    assert not storage.replace_if(uri, b"thief", "0-0")
    assert storage.create(uri, b"first")
    assert not storage.create(uri, b"second")
    tag = storage.etag(uri)
    assert tag
    time.sleep(0.02)
    assert storage.replace_if(uri, b"third!", tag)
    assert not storage.replace_if(uri, b"fourth", tag)
    assert storage.read(uri) == b"third!"


def _contend(uri: str, name: str, start: float) -> bool:
    time.sleep(max(0.0, start - time.time()))
    return storage.create(uri, name.encode())


def test_of_many_processes_that_create_one_object_one_succeeds(root: str) -> None:
    uri = storage.join(root, "lock")
    start = time.time() + 2.5
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.starmap(_contend, [(uri, f"process {n}", start) for n in range(4)])
    assert sum(won) == 1
    assert storage.read(uri).decode() == f"process {won.index(True)}"


def test_duckdb_reads_parquet_where_it_stands(root: str, tmp_path: Path) -> None:
    uri = storage.join(root, "part=a b", "x.parquet")
    pq.write_table(pa.table({"n": list(range(10))}), tmp_path / "x.parquet")
    storage.write(uri, (tmp_path / "x.parquet").read_bytes())
    connection = duckdb.connect()
    storage.register(connection, uri)
    storage.register(connection, uri)
    name = uri.removeprefix("file://")
    assert connection.execute("SELECT sum(n) FROM read_parquet(?)", [[name]]).fetchone() == (45,)


def test_writing_leaves_nothing_else_behind(tmp_path: Path) -> None:
    storage.write(f"file://{tmp_path}/x", b"1")
    storage.check_writable(f"file://{tmp_path}")
    assert os.listdir(tmp_path) == ["x"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WarehouseError, match=r"/file/warehouse: cannot be written"):
        storage.check_writable(f"{tmp_path}/file/warehouse")


def test_links_in_a_circle_dangling_links_and_pipes_are_survived(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    names = [storage.relative(one.uri, f"file://{tmp_path}") for one in storage.list_objects(tmp_path.as_uri())]
    assert names == ["a/x.jpg", "linked/x.jpg"]


def test_a_name_that_is_no_utf8_can_be_listed_and_read(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"x")
    (listed,) = storage.list_objects(str(tmp_path))
    assert listed.uri.encode().endswith(b"caf%E9.jpg")
    assert storage.read(listed.uri) == b"x"


def test_uris_have_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert normalize("photos/") == f"file://{tmp_path}/photos"
    assert normalize(f"file://{tmp_path}/photos/") == normalize(f"{tmp_path}/./photos")
    assert normalize("S3A://bucket/a b/") == "s3://bucket/a b"
    assert local_path(uri_of("/a b")) == Path("/a b")
    for wrong in ["", "ftp://x/y", "s3://"]:
        with pytest.raises(ConfigurationError):
            normalize(wrong)


def test_azure_names_an_account_in_the_uri_or_a_connection_string(
    azure, azure_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = azure.bucket()
    storage.write(f"{container}/x", b"content")
    named = normalize(container.replace("az://", "abfss://") + f"@{azure_server.account}.dfs.core.windows.net/x")
    assert named.startswith("az://")
    assert storage.read(named) == b"content"
    for name in azure_server.environment():
        monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        storage.read(f"{container}/x")
    said = f"DefaultEndpointsProtocol=http;AccountName={azure_server.account};AccountKey={azure_server.key};"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"{said}BlobEndpoint={azure_server.endpoint};")
    assert storage.read(f"{container}/x") == b"content"


def test_google_without_credentials_says_so_and_an_emulator_needs_none(
    google, google_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = google.bucket()
    storage.write(f"{bucket}/x", b"content")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    with pytest.raises(SourceError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        list(storage.list_objects(bucket))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google_server.endpoint.removeprefix("http://"))
    with pytest.raises(PermissionError, match="the store refuses"):  # it is none: it wants a token
        storage.read(f"{bucket}/x")


@pytest.mark.parametrize(("kind", "remedy"), [("azure", "AZURE_STORAGE_ACCOUNT_KEY"), ("google", "GOOGLE_APPLICATION")])
def test_other_stores_tell_a_missing_bucket_and_refused_credentials_in_one_sentence(
    kind: str, remedy: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = request.getfixturevalue(kind).bucket()
    storage.write(f"{bucket}/x", b"x")
    missing = bucket.partition("://")[0] + "://no-such-bucket"
    with pytest.raises(SourceError, match=f"bucket {missing} does not exist"):
        list(storage.list_objects(f"{missing}/photos"))
    if kind != "google":  # SeaweedFS makes a bucket on the first write
        with pytest.raises(WarehouseError, match="the bucket does not exist"):
            storage.check_writable(f"{missing}/lake")
    storage.check_writable(bucket)
    if kind == "azure":
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "aHVudGVyMg==")
    else:
        account = json.loads(Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
        account["token_uri"] = account["token_uri"].replace("/token", "/x")  # which is refused
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    started = time.monotonic()
    with pytest.raises(SourceError, match=f"refuses these credentials.*{remedy}") as told:
        list(storage.list_objects(bucket))
    with pytest.raises(PermissionError, match="check the credentials"):
        storage.read(f"{bucket}/x")
    assert time.monotonic() - started < 10
    assert "aHVudGVyMg" not in str(told.value)


@pytest.mark.parametrize(
    ("kind", "variable"), [("azure", "AZURE_STORAGE_ENDPOINT"), ("google", "STORAGE_EMULATOR_HOST")]
)
def test_other_stores_that_do_not_answer_are_tried_again_and_then_named(
    kind: str, variable: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = request.getfixturevalue(kind).bucket()
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("SWATH_STORAGE_PATIENCE_S", "1")
    with pytest.raises(SourceError, match=variable):
        list(storage.list_objects(bucket))
    with pytest.raises(StorageUnavailable, match=r"bucket|test-.*tried for up to 1 s"):
        storage.read(f"{bucket}/x")


def test_functions_of_storage_can_be_sent_to_workers() -> None:
    assert pickle.loads(pickle.dumps(storage.read)) is storage.read
