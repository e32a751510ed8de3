"""Runs over what events and inventories name, between runs over the bucket itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.flows.living import House, pipeline
from tests.flows.test_lists import event, lines

from swath.flows.run.records import State
from swath.infra import storage
from swath.schemas.pipeline import Table

REMOVED = "ObjectRemoved:Delete"
WORK = pipeline(table=Table(partition_by="site={site}"))


@pytest.fixture
def house(warehouse: str, s3: Any, audit_socket: Path) -> House:
    house = House(warehouse, f"{s3.bucket()}/in", audit_socket)
    house.put(*(f"site={site}/{name}.txt" for site in "ab" for name in range(4)))
    return house


def tell(house: House, folder: Path, *happened: tuple[str, str]) -> str:
    """A list of events: (name of the event, file below the source)."""
    bucket = house.source.removeprefix("s3://")
    told = [
        event(
            f"{bucket}/{file}",
            name,
            size=None,
            eTag=None if name == REMOVED else storage.etag(f"{house.source}/{file}"),
            sequencer=f"{number:02}",
        )
        for number, (name, file) in enumerate(happened)
    ]
    path = folder / f"{len(list(folder.iterdir()))}.jsonl"
    path.write_bytes(lines({"Records": told}))
    return str(path)


def test_events_bring_what_a_listing_would_and_only_what_they_remove_is_gone(house: House, tmp_path: Path) -> None:
    assert house.run(WORK).ok == 8
    (tmp_path / "events").mkdir()
    house.put("site=a/new.txt")
    house.put("site=a/1.txt", content="longer")
    house.remove("site=b/2.txt", "site=b/3.txt")
    made = "ObjectCreated:Put"
    source = tell(
        house,
        tmp_path / "events",
        (made, "site=a/new.txt"),
        (REMOVED, "site=b/2.txt"),
        (made, "site=a/1.txt"),
        (made, "site=a/0.txt"),
        (REMOVED, "site=b/0.txt"),  # an old event: the file has come back since
    )
    record = house.run(WORK, source=source)
    assert (record.why, record.gone, record.unchanged) == ({"changed": 1, "new": 1}, 1, 2)
    assert house.names("status = 'gone'") == ["2.txt"], "3.txt, of which no event tells, stands as it was"
    again = house.run(WORK, source=source)
    assert again.status == State.NOTHING
    last = house.run(WORK, source=tell(house, tmp_path / "events", (REMOVED, "site=b/3.txt")))
    assert (last.items, last.gone) == (0, 1)
    house.check(gone=2)
    assert house.run(WORK).status == State.NOTHING, "a listing finds what the events have made of the table"


def test_a_folder_of_events_and_an_inventory_say_the_same(house: House, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    made = "ObjectCreated:Put"
    tell(house, tmp_path / "events", *((made, f"site=a/{name}.txt") for name in range(4)))
    tell(
        house,
        tmp_path / "events",
        (REMOVED, "site=a/unknown.txt"),
        *((made, f"site=b/{name}.txt") for name in range(4)),
    )
    record = house.run(WORK, source=str(tmp_path / "events"))
    assert (record.ok, record.gone) == (8, 0)
    house.check()
    bucket, _, prefix = house.source.removeprefix("s3://").partition("/")
    (tmp_path / "data").mkdir()
    files = [one for one in storage.list_objects(house.source) if not one.uri.endswith("/3.txt")]
    keys = [
        f'"{bucket}","{prefix}/{one.uri.removeprefix(house.source)[1:]}","{one.size}","{one.etag}"' for one in files
    ]
    (tmp_path / "data/0.csv").write_text("\n".join(keys).replace("=", "%3D"))
    said = {"sourceBucket": bucket, "fileFormat": "CSV", "fileSchema": "Bucket, Key, Size, ETag",
            "files": [{"key": "x/data/0.csv"}]}  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(said))
    record = house.run(WORK, source=str(tmp_path / "manifest.json"))
    assert (record.status, record.unchanged, record.gone) == (State.NOTHING, 6, 0)
    house.check()
