"""A run's life with source and warehouse on S3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.flows.living import House, pipeline

from swath.flows.run.records import State
from swath.infra import storage
from swath.schemas.errors import SourceError, SwathError, WarehouseError

CHILD = """
import sys
from pathlib import Path
from swath.flows.run import process
from swath.flows.run.records import Request
process.start(Request.model_validate_json(sys.argv[1]), prefect=False)
"""


@pytest.fixture
def house(s3: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SWATH_STORAGE_PATIENCE_S", "5")
    return House(s3.bucket("lake") + "/lake", s3.bucket("source") + "/in", None)  # type: ignore[attr-defined]


def test_a_life_on_s3_with_a_kill(house: House) -> None:
    house.put("a.txt", "b.txt", "c.txt")
    environment = {
        **os.environ,
        "SWATH_CRASH_AT": "publish.after_commit",
        "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path])),
    }
    command = [sys.executable, "-c", CHILD, house.request().model_dump_json()]
    child = subprocess.run(command, env=environment, capture_output=True, timeout=200, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-2000:]
    record = house.resume()
    assert (record.status, record.ok) == (State.PUBLISHED, 3)
    assert record.snapshot_id == house.lake.snapshot("toy")
    house.check()
    assert not [one.uri for one in storage.list_objects(house.runs.folder(record.run_id)) if "/waves/" in one.uri]
    assert house.run().status == State.NOTHING
    house.remove("a.txt")
    house.put("d.txt")
    record = house.run(pipeline(publish="wave"))
    assert (record.items, record.gone, record.carried) == (1, 1, 2)
    house.check(gone=1)


def test_what_cannot_be_reached_is_told_in_one_sentence(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.put("a.txt")
    with pytest.raises(WarehouseError, match="bucket does not exist"):
        house.run(warehouse="s3://no-such-bucket-here/lake")
    with pytest.raises(SourceError, match="no-such-bucket-here"):
        house.run(source="s3://no-such-bucket-here/in")
    secret = "wrong-secret-access-key"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with pytest.raises(SwathError, match="cannot be written") as failure:
        house.run()
    assert secret not in str(failure.value)
