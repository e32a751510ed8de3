"""A run over Ray nodes with addresses of their own, one of which comes and goes while it lasts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flows.living import House, pipeline
from tests.nodes import Nodes, joined

from swath.flows.run import plan, process
from swath.infra import storage
from swath.schemas.pipeline import Step, Table

WAVES, ITEMS = 3, 96
WORK = pipeline(Step(op="tests.flows.where:Where"), table=Table(partition_by="site={site}", publish="wave"))


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


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    with joined(tmp_path) as made:
        made.join("127.0.0.3")
        yield made


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
