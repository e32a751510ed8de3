"""Decisions are appended: everybody's land, and none is ever lost."""

from __future__ import annotations

import io
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from swath.infra import corrections, storage
from swath.infra.lake import Lake, Stale
from swath.schemas.columns import schema_of
from swath.schemas.corrections import CORRECTIONS

SPAWN = multiprocessing.get_context("spawn")


def decision(name: str) -> dict[str, Any]:
    return {"correction_id": name, "decided_at": datetime(2026, 5, 1, tzinfo=UTC), "after": name}


def names(warehouse: str) -> list[str]:
    files = [storage.read(file.path) for file in Lake(warehouse).files(corrections.TABLE)]
    return sorted(name for one in files for name in pq.read_table(io.BytesIO(one))["correction_id"].to_pylist())


def decide_some(warehouse: str, who: str, count: int) -> None:
    for number in range(count):
        corrections.append(Lake(warehouse), [decision(f"{who}-{number}")])


def test_decisions_of_several_people_at_once_all_land(warehouse: str) -> None:
    with ProcessPoolExecutor(3, mp_context=SPAWN) as pool:  # the table is made by all of them at once, too
        for done in [pool.submit(decide_some, warehouse, who, 4) for who in "abc"]:
            done.result(timeout=100)
    assert names(warehouse) == sorted(f"{who}-{number}" for who in "abc" for number in range(4))


def test_decisions_of_one_call_are_one_commit_and_no_decision_is_no_commit(any_warehouse: str) -> None:
    corrections.append(Lake(any_warehouse), [])
    assert Lake(any_warehouse).tables() == []
    corrections.append(Lake(any_warehouse), [decision("a"), decision("b")])
    assert len(Lake(any_warehouse).files(corrections.TABLE)) == 1
    assert names(any_warehouse) == ["a", "b"]


def test_many_small_files_become_one_and_keep_every_row(warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "MANY_FILES", 4)
    decide_some(warehouse, "a", 5)
    assert len(Lake(warehouse).files(corrections.TABLE)) == 2
    assert names(warehouse) == [f"a-{number}" for number in range(5)]


def test_files_are_not_replaced_where_somebody_decided_meanwhile(warehouse: str) -> None:
    lake = Lake(warehouse)
    corrections.append(lake, [decision("a")])
    before = frozenset(file.path for file in lake.files(corrections.TABLE))
    corrections.append(lake, [decision("b")])
    row = {**decision("a"), "partition": "all", "bucket": 0}
    with pytest.raises(Stale):
        lake.append(corrections.TABLE, pa.Table.from_pylist([row], schema_of(CORRECTIONS)), instead_of=before)
    assert names(warehouse) == ["a", "b"]
