"""Inventories and event lists in the place of a listing."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from swath.flows.source.manifest import ManifestSummary, build_manifest
from swath.infra import storage
from swath.schemas.errors import ConfigurationError, SourceError
from swath.schemas.items import object_id
from swath.schemas.pipeline import Pipeline

READABLE = frozenset({"jpg", "tif"})
Found = tuple[ManifestSummary, list[dict[str, Any]], list[str]]


def pipeline(**sections: Any) -> Pipeline:
    return Pipeline.model_validate({"name": "photos", "steps": ["decode"], **sections})


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Found]:
    """Summary and rows of the manifest of a source, and the ids of what was removed."""

    def run(source: object, work: Pipeline | None = None, **options: Any) -> Found:
        summary = build_manifest(
            str(source), work or pipeline(), f"file://{tmp_path}/manifest", readable=READABLE, **options
        )
        rows = [row for uri in summary.files for row in pq.read_table(storage.local_path(uri)).to_pylist()]
        removed = pq.read_table(storage.local_path(summary.removed))["object_id"].to_pylist() if summary.removed else []
        return summary, rows, removed

    return run


def event(key: str, name: str = "ObjectCreated:Put", **found: Any) -> dict[str, Any]:
    """One record as S3 sends it; the bucket is named by the first part of the key."""
    bucket, _, rest = key.partition("/")
    given = {"size": 7, "eTag": "v1", "sequencer": "00", **found}
    described = {"key": quote_plus(rest), **{name: value for name, value in given.items() if value is not None}}
    return {
        "eventName": name,
        "eventTime": "2026-05-01T10:00:00.000Z",
        "s3": {"bucket": {"name": bucket}, "object": described},
    }


def lines(*messages: Any) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def test_events_in_every_envelope_name_the_files_that_were_made(tmp_path: Path, build: Any) -> None:
    def records(*keys: str) -> dict[str, Any]:
        return {"Records": [event(key) for key in keys]}

    topic = {"Type": "Notification", "Message": json.dumps(records("shop/c.jpg"))}
    queue = {"MessageId": "1", "Body": json.dumps(topic).replace("c.jpg", "d.jpg")}
    bridge = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": "2026-05-01T10:00:00Z",
        "detail": {"bucket": {"name": "shop"}, "object": {"key": "e+e.jpg", "size": 5, "etag": "v5", "sequencer": "1"}},
    }
    tagged = event("shop/x.jpg", "ObjectTagging:Put")
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent"}
    folders = records("shop/folder/", "shop/.hidden/y.jpg", "shop/notes.txt")
    path = tmp_path / "events.jsonl"
    made = records("shop/site=a/a b+ä.jpg", "shop/b.jpg")
    path.write_bytes(lines(made, topic, queue, bridge, tagged, test, folders) + b"\n")
    summary, rows, removed = build(path)
    assert [row["source_uri"] for row in rows] == [
        "s3://shop/b.jpg",
        "s3://shop/c.jpg",
        "s3://shop/d.jpg",
        "s3://shop/e+e.jpg",
        "s3://shop/site=a/a b+ä.jpg",
    ]
    assert [(row["etag"], row["size_bytes"]) for row in rows][3:] == [("v5", 5), ("v1", 7)]
    assert summary.left_aside == {"txt": 1}
    assert not summary.complete, "what no event names is as it was"
    assert removed == []


def test_the_last_event_of_an_object_counts_by_its_sequencer_and_not_by_its_place(tmp_path: Path, build: Any) -> None:
    path = tmp_path / "events.jsonl.gz"
    events = [
        event("shop/a.jpg", eTag='"new"', sequencer="0055AED6DCD90281E6"),
        event("shop/a.jpg", eTag="old", sequencer="0055AED6DCD90281E5"),
        event("shop/a.jpg", eTag="oldest", sequencer="0055AED6DCD90281"),
        event("shop/b.jpg", eTag="longer", sequencer="0a1"),
        event("shop/b.jpg", eTag="later", sequencer="0B"),
        event("shop/c.jpg", "ObjectRemoved:Delete", sequencer="1", eTag=None, size=None),
        event("shop/c.jpg", eTag="again", sequencer="2"),
    ]
    path.write_bytes(gzip.compress(lines(*events)))
    _, rows, removed = build(path)
    assert [row["etag"] for row in rows] == ["new", "later", "again"]
    assert removed == []


def test_without_sequencers_the_time_decides(tmp_path: Path, build: Any) -> None:
    early = {**event("shop/a.jpg", eTag="early", sequencer=None), "eventTime": "2026-05-01T10:00:00Z"}
    late = {**event("shop/a.jpg", eTag="late", sequencer=None), "eventTime": "2026-05-01T10:00:01Z"}
    (tmp_path / "events.json").write_bytes(lines(late, early))
    assert [row["etag"] for row in build(tmp_path / "events.json")[1]] == ["late"]


def test_an_object_is_removed_where_an_event_says_so_and_the_store_agrees(s3: Any, tmp_path: Path, build: Any) -> None:
    bucket = s3.bucket()
    name = bucket.removeprefix("s3://")
    storage.write(f"{bucket}/stands.jpg", b"12345")
    storage.write(f"{bucket}/unnamed.jpg", b"1")
    gone = {"eTag": None, "size": None, "sequencer": "2"}
    events = [
        event(f"{name}/gone.jpg"),
        event(f"{name}/gone.jpg", "ObjectRemoved:Delete", **gone),
        event(f"{name}/marked.jpg", "ObjectRemoved:DeleteMarkerCreated", **gone, versionId="m1"),
        event(f"{name}/expired.jpg", "LifecycleExpiration:Delete", **gone),
        event(f"{name}/notes.txt", "ObjectRemoved:Delete", **gone),
        event(f"{name}/stands.jpg", "ObjectRemoved:Delete", **gone, versionId="an older one"),
    ]
    path = tmp_path / "events.jsonl"
    path.write_bytes(lines({"Records": events}))
    summary, rows, removed = build(path)
    assert sorted(removed) == sorted(object_id(f"{bucket}/{one}.jpg") for one in ("gone", "marked", "expired"))
    [row] = rows
    assert (row["source_uri"], row["size_bytes"]) == (f"{bucket}/stands.jpg", 5)
    assert row["etag"] == storage.etag(f"{bucket}/stands.jpg")
    assert (summary.complete, summary.objects) == (False, 1)
    assert build(path, include=["marked*"])[2] == [object_id(f"{bucket}/marked.jpg")]
    assert build(path, limit=1)[0].removed is None


@pytest.mark.parametrize("where", ["local", "s3"])
def test_a_folder_of_event_lists_is_one_list(where: str, request: Any, tmp_path: Path, build: Any) -> None:
    folder = f"{request.getfixturevalue('s3').bucket()}/events" if where == "s3" else f"file://{tmp_path}/events"
    first = lines(event("shop/a.jpg", eTag="old", sequencer="1"), event("shop/b.jpg"))
    storage.write(f"{folder}/2026/01.jsonl", first)
    storage.write(f"{folder}/2026/02.jsonl.gz", gzip.compress(lines(event("shop/a.jpg", eTag="new", sequencer="2"))))
    storage.write(f"{folder}/2026/03.json", json.dumps({"Records": [event("shop/c.jpg")]}, indent=1).encode())
    _, rows, _ = build(folder)
    assert [(row["source_uri"], row["etag"]) for row in rows] == [
        ("s3://shop/a.jpg", "new"),
        ("s3://shop/b.jpg", "v1"),
        ("s3://shop/c.jpg", "v1"),
    ]
    storage.write(f"{folder}/2026/04.jpg", b"x")
    with pytest.raises(SourceError, match=r"04\.jpg.*stands among lists of events"):
        build(folder)


def test_a_folder_of_images_with_a_json_file_is_still_a_folder_of_images(tmp_path: Path, build: Any) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/annotations.jsonl").write_text('{"image": "b.jpg"}\n')
    (tmp_path / "in/b.jpg").write_bytes(b"x")
    summary, rows, _ = build(tmp_path / "in")
    assert [row["source_uri"] for row in rows] == [f"file://{tmp_path}/in/b.jpg"]
    assert summary.complete
    assert summary.left_aside == {"jsonl": 1}


def test_events_that_touch_nothing_of_ours_make_an_empty_manifest(tmp_path: Path, build: Any) -> None:
    (tmp_path / "events.jsonl").write_bytes(lines(event("shop/notes.txt"), {"Records": []}))
    summary, rows, removed = build(tmp_path / "events.jsonl")
    assert (summary.objects, rows, removed, summary.complete) == (0, [], [], False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json\n",
        b"[]\n",
        b'{"a": 1}\n',
        b'"x"\n',
        b"1\n",
        b'{"s3": {}}\n',
        b"\x1f\x8bbroken",
        b'{"Records": 1}',
    ],
)
def test_a_file_that_holds_no_events_is_refused_with_its_name(tmp_path: Path, build: Any, content: bytes) -> None:
    (tmp_path / "events.jsonl").write_bytes(content)
    if not content:
        assert build(tmp_path / "events.jsonl")[0].objects == 0, "nothing happened"
        return
    with pytest.raises(SourceError, match=r"events\.jsonl"):
        build(tmp_path / "events.jsonl")


def test_events_cannot_be_joined_into_captures(tmp_path: Path, build: Any) -> None:
    (tmp_path / "events.jsonl").write_bytes(lines(event("shop/IMG_1_red.tif")))
    with pytest.raises(ConfigurationError, match=r"source\.group"):
        build(tmp_path / "events.jsonl", pipeline(source={"group": r"(?P<key>.+)_(?P<role>\w+)\.tif"}))


def test_partitions_of_a_list_are_those_of_the_listing(tmp_path: Path, build: Any) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(lines(event("shop/in/site=a/dt=1/x.jpg"), event("shop/elsewhere/site=b/dt=2/y.jpg")))
    _, rows, _ = build(path, partition_by="site={site}/dt={date}")
    assert [row["partition"] for row in rows] == ["site=b/dt=2", "site=a/dt=1"]
    rooted = pipeline(source={"root": "s3://shop/in/"}, table={"partition_by": "{site}/{date}"})
    _, rows, _ = build(path, rooted)
    assert [(row["source_uri"], row["partition"]) for row in rows] == [
        ("s3://shop/in/site=a/dt=1/x.jpg", "site=site=a/date=dt=1")
    ]


def s3_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return gzip.compress(text.getvalue().encode())


def s3_parquet(rows: list[tuple[Any, ...]]) -> bytes:
    names = ("bucket", "key", "version_id", "is_latest", "is_delete_marker", "size", "e_tag")
    sink = io.BytesIO()
    pq.write_table(pa.table([pa.array(column) for column in zip(*rows, strict=True)], names), sink)
    return sink.getvalue()


PARQUET_ROWS = [
    ("shop", "in/a b.jpg", "2", True, False, 10, "e2"),
    ("shop", "in/a b.jpg", "1", False, False, 5, "e1"),
    ("shop", "in/deleted.jpg", "9", True, True, None, None),
    ("shop", "in/", "1", True, False, 0, "e0"),
    ("shop", "in/.hidden/x.jpg", "1", True, False, 1, "e0"),
    ("shop", "in/c.jpg", "1", True, False, 7, "e7-2"),
]
"""Of a bucket with versions."""


@pytest.mark.parametrize("where", ["local", "s3"])
@pytest.mark.parametrize("kind", ["CSV", "Parquet"])
def test_an_s3_inventory_names_the_files_by_its_manifest(
    kind: str, where: str, request: Any, tmp_path: Path, build: Any
) -> None:
    root = request.getfixturevalue("s3").bucket() if where == "s3" else f"file://{tmp_path}"
    if kind == "CSV":
        keys = [
            [
                bucket,
                quote_plus(key, safe="/"),
                version,
                *(str(one).lower() for one in flags),
                str(size or ""),
                etag or "",
            ]
            for bucket, key, version, *flags, size, etag in PARQUET_ROWS
        ]
        parts = [s3_csv(keys[:3]), s3_csv(keys[3:])]
        schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag"
    else:
        parts = [s3_parquet(PARQUET_ROWS[:3]), s3_parquet(PARQUET_ROWS[3:])]
        schema = "message s3.inventory { required binary bucket (UTF8); }"
    ending = "csv.gz" if kind == "CSV" else "parquet"
    files = []
    for number, part in enumerate(parts):
        key = f"inventories/shop/daily/data/{number}.{ending}"
        storage.write(f"{root}/{key}", part)
        files.append({"key": key, "size": len(part), "MD5checksum": hashlib.md5(part).hexdigest()})
    said = {
        "sourceBucket": "shop",
        "destinationBucket": "arn:aws:s3:::another name, after a copy",
        "fileFormat": kind,
        "fileSchema": schema,
        "files": files,
    }
    manifest = f"{root}/inventories/shop/daily/2026-05-01T01-00Z/manifest.json"
    storage.write(manifest, json.dumps(said).encode())
    summary, rows, _ = build(manifest)
    assert [(row["source_uri"], row["size_bytes"], row["etag"]) for row in rows] == [
        ("s3://shop/in/a b.jpg", 10, "e2"),
        ("s3://shop/in/c.jpg", 7, "e7-2"),
    ]
    assert not summary.complete, "an inventory is of yesterday, and perhaps of one prefix"
    storage.write(f"{root}/{files[1]['key']}", parts[1] + b"x")
    with pytest.raises(SourceError, match="MD5 differs"):
        build(manifest)
    storage.write(manifest, json.dumps({**said, "fileFormat": "ORC"}).encode())
    with pytest.raises(SourceError, match="ORC cannot be read"):
        build(manifest)


def test_tables_may_name_their_columns_as_an_inventory_does(tmp_path: Path, build: Any) -> None:
    table = 'Bucket,Key,Size,LastModifiedDate,ETag\nshop,in/a%20b.jpg,7,2026-01-01,v1\nshop,in/c.jpg,8,,"""v2"""\n'
    (tmp_path / "files.csv.gz").write_bytes(gzip.compress(table.encode()))
    _, rows, _ = build(tmp_path / "files.csv.gz")
    assert [(row["source_uri"], row["size_bytes"], row["etag"]) for row in rows] == [
        ("s3://shop/in/a%20b.jpg", 7, "v1"),
        ("s3://shop/in/c.jpg", 8, "v2"),
    ]
    (tmp_path / "bare.csv").write_text("shop,in/a.jpg\n")
    with pytest.raises(SourceError, match=r"manifest\.json"):
        build(tmp_path / "bare.csv")
