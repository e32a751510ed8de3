"""A run over Ray nodes with addresses of their own, one of which comes and goes while it lasts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.flows.living import House, pipeline

from swath.flows.local import services
from swath.flows.run import plan, process
from swath.flows.work import engine
from swath.infra import storage
from swath.schemas.pipeline import Step, Table

WAVES, ITEMS = 3, 96
WORK = pipeline(Step(op="tests.flows.where:Where"), table=Table(partition_by="site={site}", publish="wave"))


class Nodes:
    """Ray nodes on this machine, each `ray start` with an address of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        ip = engine_address()
        port = services._free_port()
        self.address = f"{ip}:{port}"
        self._start("--head", f"--port={port}", f"--node-ip-address={ip}", "--num-cpus=4", "--include-dashboard=false")

    def join(self, ip: str) -> None:
        self._start(f"--address={self.address}", f"--node-ip-address={ip}", "--num-cpus=2")

    def leave(self) -> None:
        """The node that came last dies, with all that runs on it."""
        for one in psutil.Process(self.started[-1].pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.started[-1].kill()
        self.started.pop().wait()

    def close(self) -> None:
        while self.started:
            self.leave()

    def _start(self, *words: str) -> None:
        log = self.folder / f"node-{len(self.started)}.log"
        command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block", *words]
        with log.open("wb") as file:
            node = subprocess.Popen(
                [*command, "--object-store-memory=100000000", "--disable-usage-stats"],
                env={**services.QUIET, **os.environ, "RAY_raylet_start_wait_time_s": "300"},
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.started.append(node)
        deadline = time.monotonic() + 300
        while "Ray runtime started" not in log.read_text(errors="replace"):
            assert node.poll() is None, log.read_text(errors="replace")[-1000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)


class ComingAndGoing:
    """A reporter that lets a node join between the first two waves, and leave in the midst of the third."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.wave = 0
        self.left = False

    def phase(self, name: str, detail: str = "") -> None:
        if name == "execute":
            self.wave += 1
        elif name == "settle" and self.wave == 1 and len(self.nodes.started) == 2:
            self.nodes.join("127.0.0.4")

    def expect(self, stages: list[str], items: int) -> None:
        pass

    def advance(self, stage: str, items: int, rejects: int) -> None:
        if self.wave == WAVES and not self.left:
            self.left = True
            self.nodes.leave()


def engine_address() -> str:
    """An address of this machine that is not its loopback's, where it has one."""
    from ray._private.services import get_node_ip_address

    return str(get_node_ip_address())


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    made = Nodes(tmp_path)
    try:
        made.join("127.0.0.3")
        yield made
    finally:
        engine.stop()
        made.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_workers_spread_over_nodes_a_new_one_is_used_and_one_that_dies_costs_nothing(
    nodes: Nodes, warehouse: str, tmp_path: Path, audit_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "WAVE_ITEMS", ITEMS)
    house = House(warehouse, storage.normalize(tmp_path / "in"), audit_socket)
    house.put(*(f"site={wave}/{number}.txt" for wave in range(WAVES) for number in range(ITEMS)))
    watcher = ComingAndGoing(nodes)
    request = house.request(WORK, ray=nodes.address)
    record = process.start(request, reporter=watcher, prefect=False, audit_socket=audit_socket)
    assert watcher.left
    assert (record.waves, record.ok, record.rejected) == (WAVES, WAVES * ITEMS, 0)
    house.check()
    rows = house.rows("wave, node")
    used = [{row["node"] for row in rows if row["wave"] == wave} for wave in range(1, WAVES + 1)]
    assert len(used[0]) == 2, "both nodes of the first wave had workers"
    assert used[0] < used[1], "the node that joined had some in the second"
    assert len(used[1]) == 3
    [died] = used[1] - used[0]
    assert used[2] >= used[0]
    assert used[2] <= used[0] | {died}
