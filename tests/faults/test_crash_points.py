"""A driver that dies at any step of a run's life loses nothing and doubles nothing: another one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.flows.living import House, pipeline

from swath.flows.run import plan as planning
from swath.flows.run.records import State
from swath.infra import storage
from swath.schemas.errors import ConfigurationError

CHILD = """
import os, sys
from pathlib import Path
from swath.flows.run import plan as planning
from swath.flows.run import process
from swath.flows.audit.worker import AuditClient
from swath.flows.run.records import Request, Runs
from tests.flows.living import House

planning.WAVE_ITEMS = 4
AuditClient.start = classmethod(lambda cls, socket: cls(socket))  # warm, though this environment has a variable more
text, socket = sys.argv[1:3]
request = Request.model_validate_json(text)
os.environ["SWATH_CRASH_AT"] = sys.argv[3]
if len(sys.argv) > 4:
    process.resume(request.warehouse, None, prefect=False, audit_socket=Path(socket))
else:
    process.start(request, prefect=False, audit_socket=Path(socket))
"""
POINTS = (
    "listing", "listed", "planning", "planned", "executed", "settled", "staged", "audited", "judged",
    "publish.before_commit", "publish.after_commit", "publish.after_marker", "finishing", "cleaned",
)  # fmt: skip
FAST = {("run", "publish.after_commit"), ("wave", "publish.after_commit"), ("run", "planning"), ("wave", "settled")}


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path) -> House:
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


def crash(house: House, point: str, publish: str, *, resume: bool = False) -> None:
    """A process drives a run, and dies at the point."""
    request = house.request(pipeline(publish=publish), partition_by="{site}").model_dump_json()
    arguments = [request, str(house.audit_socket), point, *(["resume"] if resume else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
    child = subprocess.run([sys.executable, "-c", CHILD, *arguments], env=environment, capture_output=True, timeout=100)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-2000:]


def filled(house: House) -> None:
    """A source of three waves, part of it published, with something to add, to replace and to mark as gone."""
    house.put(*(f"{site}/{number}.txt" for site in "abc" for number in range(2)), "a/gone.txt")
    house.run(pipeline(), partition_by="{site}")
    house.remove("a/gone.txt")
    house.put("b/0.txt", content="changed")
    house.put(*(f"{site}/{number}.txt" for site in "bcde" for number in range(2, 5)))


def finished(house: House) -> None:
    record = house.resume()
    assert record.status == State.PUBLISHED
    assert (record.items, record.ok, record.gone, record.rejected) == (13, 13, 1, 0)
    assert (record.listed, record.why) == (18, {"changed": 1, "new": 12})
    assert record.snapshot_id is not None
    house.check(gone=1)
    with pytest.raises(ConfigurationError, match="unfinished"):
        house.resume()
    with pytest.raises(ConfigurationError, match="nothing to resume"):
        house.resume(record.run_id)
    assert house.run(pipeline(), partition_by="{site}").status == State.NOTHING
    assert not {"waves/", "lease.json"} & house.staged(record.run_id)
    assert staged_files(house) == {file.path for file in house.lake.files("toy")} | outdated(house)


def staged_files(house: House) -> set[str]:
    return {one.uri for one in storage.list_objects(house.lake.data_prefix("toy"))}


def outdated(house: House) -> set[str]:
    """Files of older snapshots."""
    table = house.lake._table("toy")
    assert table is not None
    snapshots = [snapshot.snapshot_id for snapshot in table.metadata.snapshots]
    return {file.path for snapshot in snapshots for file in house.lake.files("toy", snapshot_id=snapshot)}


@pytest.mark.parametrize(
    ("publish", "point"),
    [
        pytest.param(publish, point, marks=() if (publish, point) in FAST else pytest.mark.slow)
        for publish in ("run", "wave")
        for point in POINTS
    ],
)
def test_a_killed_run_is_finished_by_another_driver(
    house: House, publish: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "WAVE_ITEMS", 4)
    filled(house)
    before = house.rows()
    crash(house, point, publish)
    visible = house.rows()
    assert visible == before or point.startswith("publish.after") or publish == "wave" or point in POINTS[-2:]
    assert len({row["item_id"] for row in visible}) == len(visible)
    finished(house)


@pytest.mark.slow
@pytest.mark.parametrize("publish", ["run", "wave"])
def test_a_run_killed_again_and_again_is_finished(house: House, publish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WAVE_ITEMS", 4)
    filled(house)
    crash(house, POINTS[0], publish)
    # A run that is published at once is published by then, and never comes to the next point of publish again.
    for point in [point for point in POINTS[1:] if (publish, point) != ("run", "publish.after_marker")]:
        crash(house, point, publish, resume=True)
    finished(house)
