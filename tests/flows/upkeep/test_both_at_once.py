"""Runs that publish while others tidy: nothing lost, nothing twice, no file missing."""

from __future__ import annotations

import multiprocessing
import queue
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.flows.living import House, pipeline
from tests.flows.upkeep.keeping import scatter

from swath.flows.upkeep.maintain import Policy, maintain
from swath.infra import corrections, storage
from swath.infra.lake import Lake, Stale

SPAWN = multiprocessing.get_context("spawn")
ALMOST = timedelta(minutes=59, seconds=58)
"""So much later it is for those who tidy: what is two seconds old may expire, and no file is older than a day."""


def publishing(warehouse: str, source: str, socket: Path, rounds: int, tell: Any) -> None:
    """Runs that add, change and take away, one after the other."""
    house = House(warehouse, source, socket)
    for number in range(rounds):
        house.put(*(f"site={site}/{number}-{part}.txt" for site in "abc" for part in range(3)))
        house.put("site=a/same.txt", content=f"version {number}")
        if number % 2:
            house.remove(f"site=b/{number - 1}-0.txt")
        record = house.run(pipeline(publish="wave" if number % 3 else "run"), partition_by="{site}")
        tell.put(record.items)


def deciding(warehouse: str, source: str, socket: Path, rounds: int, tell: Any) -> None:
    """People who decide about values."""
    lake = Lake(warehouse)
    for number in range(rounds):
        corrections.append(lake, [{"correction_id": str(number), "object_id": "o", "path": "p"}])
        tell.put(1)


@pytest.mark.slow
def test_runs_publish_while_somebody_tidies(tmp_path: Path, audit_socket: Path) -> None:
    house = House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)
    house.put("site=a/same.txt")
    house.run(partition_by="{site}")
    rounds = 8
    did = tidied(house, publishing, rounds)
    assert did["compaction"] >= 3
    assert did["expiry"] >= 3
    rows = house.rows("item_id, status")
    gone = sum(row["status"] == "gone" for row in rows)
    assert gone == rounds // 2
    house.check(gone=gone)
    assert house.run(partition_by="{site}").items == 0


def test_people_decide_while_somebody_tidies(tmp_path: Path, audit_socket: Path) -> None:
    house = House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)
    corrections.append(house.lake, [{"correction_id": "first", "object_id": "o", "path": "p"}])
    did = tidied(house, deciding, 60)
    assert did["compaction"] >= 1
    files = house.lake.files("corrections")
    decided = [
        one for file in files for one in pq.read_table(storage.local_path(file.path))["correction_id"].to_pylist()
    ]
    assert sorted(decided) == sorted([*map(str, range(60)), "first"])


def tidied(house: House, others: Callable[..., None], rounds: int) -> Counter[str]:
    """What was tidied while another process went through its rounds; after each of them every cell is broken up."""
    told = SPAWN.Queue()
    other = SPAWN.Process(target=others, args=(house.warehouse, house.source, house.audit_socket, rounds, told))
    other.start()
    policy = Policy(older_than=timedelta(0), gone_older_than=timedelta(days=300))
    did: Counter[str] = Counter()
    try:
        while other.is_alive():
            with suppress(queue.Empty):
                told.get(timeout=0.2)
                with suppress(Stale):  # a run was first
                    scatter(house, 3, "toy" if others is publishing else "corrections")
            for action in maintain(house.warehouse, policy, datetime.now(UTC) + ALMOST).actions:
                did[action.what] += 1
    finally:
        other.join(100)
    assert other.exitcode == 0
    return did
