"""A run on a cluster that has no worker yet and would bring some: an autoscaler is told what is wanted, and gets it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.flows.living import House, pipeline
from tests.nodes import Nodes, joined

from swath.flows.run import process
from swath.flows.work import engine
from swath.flows.work.place import place
from swath.flows.work.stages import Cluster, Stage
from swath.infra import storage
from swath.operators.core.base import Resources
from swath.schemas.errors import ConfigurationError
from swath.schemas.pipeline import Step

WORK = pipeline(Step(op="tests.flows.where:Where"))
ITEMS = 60
PATIENCE_S = 120


class Autoscaler:
    """A reporter that brings what Ray asks an autoscaler for, from the moment that a wave is worked on."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.asked: list[dict[str, float]] = []
        self.thread = threading.Thread(target=self._bring, daemon=True)

    def phase(self, name: str, detail: str = "") -> None:
        if name == "execute" and not self.asked:
            self.thread.start()

    def expect(self, stages: list[str], items: int) -> None:
        pass

    def advance(self, stage: str, items: int, rejects: int) -> None:
        pass

    def _bring(self) -> None:
        from ray._raylet import GcsClient
        from ray.autoscaler.v2.sdk import get_cluster_resource_state

        client, deadline = GcsClient(address=self.nodes.address), time.monotonic() + PATIENCE_S
        while not self.asked and time.monotonic() < deadline:
            time.sleep(0.5)
            state: Any = get_cluster_resource_state(client)
            self.asked = [
                dict(one.request.resources_bundle) for one in state.pending_resource_requests for _ in range(one.count)
            ]
        self.nodes.join("127.0.0.3")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cluster_without_workers_is_asked_for_some_and_they_do_the_run(
    warehouse: str, tmp_path: Path, audit_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    house = House(warehouse, storage.normalize(tmp_path / "in"), audit_socket)
    house.put(*(f"{number}.txt" for number in range(ITEMS)))
    with joined(tmp_path, "--num-cpus=0") as nodes:
        request = house.request(WORK, ray=nodes.address)
        with pytest.raises(ConfigurationError, match=r"wants 1 CPUs .* there are"):
            place([Stage("one", (), Resources(cpus=1))], nodes.address, ITEMS)
        monkeypatch.setenv("SWATH_CLUSTER_CPUS", "4")
        autoscaler = Autoscaler(nodes)
        record = process.start(request, reporter=autoscaler, prefect=False, audit_socket=audit_socket)
        autoscaler.thread.join(timeout=PATIENCE_S)
    assert autoscaler.asked
    assert all(one.get("CPU") == 1 for one in autoscaler.asked)
    assert record.ok == ITEMS
    house.check()


def test_no_more_is_called_than_the_items_are_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "cluster", lambda address, useful: Cluster(min(112, useful.cpus), 0, cores=112))
    stage = Stage("one", (), Resources(cpus=1))
    workers = {items: place([stage], "head:6379", items)[0].workers for items in (1, 256, 257, 2_560, 10_000_000)}
    assert workers == {1: 1, 256: 1, 257: 2, 2_560: 10, 10_000_000: 110}
