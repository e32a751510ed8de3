"""Ray has nowhere to put what goes from stage to stage: its object store is full, and so is the disk it spills to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.injuries import small_disk
from tests.flows.living import House, pipeline
from tests.nodes import Nodes, joined

from swath.flows.run import process
from swath.flows.run.records import State
from swath.infra import storage
from swath.schemas.errors import RunFailed
from swath.schemas.pipeline import Step

ITEMS = 40
WORK = pipeline(Step(op="tests.flows.wide:Wide", config={"megabytes": 40}))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "spill") as place:
        if place is None:
            pytest.skip("a tmpfs cannot be mounted here")
        yield place


@pytest.fixture
def nodes(tmp_path: Path, disk: Path) -> Iterator[Nodes]:
    with joined(tmp_path, f"--object-spilling-directory={disk}") as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_full_spill_folder_is_told_and_the_run_goes_on_where_there_is_room(
    nodes: Nodes, disk: Path, warehouse: str, tmp_path: Path, audit_socket: Path
) -> None:
    house = House(warehouse, storage.normalize(tmp_path / "in"), audit_socket)
    house.put(*(f"{number}.txt" for number in range(ITEMS)))
    with pytest.raises(RunFailed, match="spill"):
        process.start(house.request(WORK, ray=nodes.address), prefect=False, audit_socket=audit_socket)
    [name] = house.runs.names()
    assert house.runs.load(name).status == State.FAILED
    assert not house.rows()
    subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
    record = process.resume(warehouse, None, prefect=False, ray=nodes.address, audit_socket=audit_socket)
    assert (record.status, record.ok, record.rejected) == (State.PUBLISHED, ITEMS, 0)
    house.check()
