"""A run on a cluster whose machines have their own addresses and disks: a head, two workers, one more, one less."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Buckets
from tests.faults.proxy import Proxy
from tests.flows.living import House
from tests.machines import Machine, Machines, why_not

import swath
from swath.infra import storage
from swath.schemas.errors import SourceError

ITEMS = 192
PACKAGE = Path(swath.__path__[0]).parent
"""Where the package is imported from, which every machine has: it stands for the image."""
OPERATOR = """
import time

import pyarrow as pa
from own_helper import address

from swath.operators.core.base import BYTES, ItemOperator
from swath.schemas.columns import Column


class NDRE(ItemOperator):
    \"\"\"Where an item was worked on, which takes a while; and the first line of a file of the driver's.\"\"\"

    version = 1
    seconds: float = 0.4
    table: str = "soil.csv"

    def inputs(self):
        return (BYTES,)

    def outputs(self):
        return (Column("node", pa.string(), "Address"), Column("soil", pa.string(), "First line of the table"))

    def load(self):
        with open(self.table) as file:
            return file.readline().strip()

    def process(self, item, model):
        time.sleep(self.seconds)
        return {"node": address(), "soil": model}
"""
HELPER = """
def address():
    import ray

    return ray.util.get_node_ip_address()
"""
PIPELINE = """
name: toy
source: {include: ["*.txt"]}
steps:
  - op: my_farm.ndre:NDRE
table: {publish: run}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(why_not() is not None, reason=f"no machines can be made here: {why_not()}"),
]


@dataclass
class World:
    """A project on the head's disk, a source and a warehouse on an S3 server, and the machines."""

    machines: Machines
    head: Machine
    project: Path
    shared: Path
    """A folder that all machines see, as of a file server: the catalog is there."""
    house: House

    @property
    def address(self) -> str:
        return f"{self.head.ip}:6379"

    @property
    def sees(self) -> list[Path]:
        return [PACKAGE.parent, self.shared]

    def worker(self) -> Machine:
        """One more machine, of two CPUs."""
        return self.machines.ray(f"--address={self.address}", "--num-cpus=2", sees=self.sees)

    def words(self, *more: str, warehouse: str | None = None) -> list[str]:
        lake = warehouse or self.house.warehouse
        return ["swath", "run", "farm.yaml", self.house.source, "--warehouse", lake, "--direct", *more]

    def run(self, *more: str, on: Machine | None = None, **environment: Any) -> tuple[int, str, str]:
        return (on or self.head).run(*self.words(*more), folder=self.project, timeout=300, **environment)

    def node_id(self, machine: Machine) -> str:
        told = self.head.run("ray", "list", "nodes", "--format", "json", f"--address=http://{self.head.ip}:8265")
        [node] = [one for one in json.loads(told[1]) if one["node_ip"] == machine.ip and one["state"] == "ALIVE"]
        return str(node["node_id"])


@pytest.fixture
def world(s3: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    project, shared = tmp_path / "project", tmp_path / "shared"
    (project / "my_farm").mkdir(parents=True)
    shared.mkdir()
    texts = {"my_farm/__init__.py": "", "my_farm/ndre.py": OPERATOR, "own_helper.py": HELPER, "farm.yaml": PIPELINE}
    for name, text in (texts | {"soil.csv": "loam,2026\n"}).items():
        (project / name).write_text(text)
    catalog = json.dumps({"type": "sql", "uri": f"sqlite:///{shared}/catalog.db?timeout=30"})
    monkeypatch.setenv("SWATH_CATALOG", catalog)
    bucket = s3.bucket("farm")
    house = House(f"{bucket}/lake", f"{bucket}/in", None)
    house.put(*(f"{number:03}.txt" for number in range(ITEMS)))
    with ExitStack() as stack:
        machines = Machines(tmp_path, {"SWATH_HOME": "/tmp/home", "PYTHONPATH": str(PACKAGE), "SWATH_CATALOG": catalog})
        stack.enter_context(machines)
        proxy = stack.enter_context(Proxy(s3.server.endpoint, host=machines.gateway))
        machines.environment |= s3.server.environment() | {"AWS_ENDPOINT_URL": proxy.endpoint}
        words = ("--head", "--port=6379", "--num-cpus=3", "--dashboard-host={ip}")
        head = machines.ray(*words, sees=[PACKAGE.parent, shared, project])
        yield World(machines, head, project, shared, house)


def check(world: World) -> dict[str, int]:
    """Every item stands there once, with what the driver's own file says; items by node."""
    world.house.check()
    rows = world.house.rows("node, soil, status")
    assert {(row["status"], row["soil"]) for row in rows} == {("ok", "loam,2026")}
    assert len(rows) == ITEMS
    nodes = [row["node"] for row in rows]
    done = {node: nodes.count(node) for node in sorted(set(nodes))}
    print(f"\nitems by node: {done}")
    return done


def test_three_machines_share_the_work_and_see_only_what_is_shipped(world: World) -> None:
    workers = [world.worker(), world.worker()]
    assert workers[0].run("ls", str(world.project))[0] != 0, "the project is on the head's disk alone"
    code, out, err = world.run("--ray", world.address, "--json")
    assert code == 0, err
    record = json.loads(out)
    done = check(world)
    assert set(done) == {world.head.ip, *(worker.ip for worker in workers)}
    assert {node: stages["ndre"]["items"] for node, stages in record["nodes"].items()} == done
    print(record["nodes"])


def test_machines_that_join_are_drained_and_die_while_a_run_is_at_work_cost_no_row(world: World) -> None:
    drained, dying = world.worker(), world.worker()
    node = world.node_id(drained)
    run = world.head.start(
        *world.words("--ray", world.address, "--json", "--set", "ndre.seconds=2"), folder=world.project
    )
    await_files(world, "/rows/", 4)
    world.worker()
    drain = ["ray", "drain-node", f"--address={world.address}", f"--node-id={node}", "--reason-message=spot"]
    code, out, err = world.head.run(*drain, "--reason=DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds=15")
    assert code == 0, out + err
    dying.off()
    out, err = run.communicate(timeout=400)
    assert run.returncode == 0, err
    check(world)
    told = json.loads(out)["nodes"]
    assert len(told) >= 2
    assert sum(stages["ndre"]["items"] for stages in told.values()) >= ITEMS


def test_a_machine_that_joins_works_on_the_wave_that_is_at_work(world: World) -> None:
    world.worker()
    run = world.head.start(
        *world.words("--ray", world.address, "--json", "--set", "ndre.seconds=2"), folder=world.project
    )
    await_files(world, "/blocks/", 1)  # by now the wave is cut, for the machines that there are
    late = world.worker()
    out, err = run.communicate(timeout=400)
    assert run.returncode == 0, err
    assert json.loads(out)["waves"] == 1
    assert check(world)[late.ip] >= ITEMS / 24


def await_files(world: World, where: str, number: int) -> None:
    """Waits until the run at work has written so many files there: "/blocks/" of its wave, or "/rows/" of the blocks
    that are done."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        runs = f"{world.house.warehouse}/_swath/runs"
        with suppress(SourceError):  # the run has no folder yet
            if sum(where in one.uri for one in storage.list_objects(runs)) >= number:
                return
        time.sleep(0.3)
    raise TimeoutError(f"{number} files of {where}")


def test_what_a_machine_does_not_see_is_refused_before_work_starts(world: World) -> None:
    worker = world.worker()
    local = str(world.project / "lake")
    (world.project / "in").mkdir()
    for number in range(20):
        (world.project / "in" / f"{number}.txt").write_text("good")
    inside = f"node {worker.ip} does not see"
    alone = {"SWATH_CATALOG": "{}"}
    other = {"SWATH_CATALOG": json.dumps({"type": "sql", "uri": f"sqlite:///{world.shared}/other.db"})}
    shared = world.house.warehouse
    for source, warehouse, environment, sentence in (
        (world.house.source, local, other, f"{inside} the warehouse, a folder of the driver's machine ({local}"),
        (str(world.project / "in"), shared, {}, f"{inside} the source, a folder of the driver's machine"),
        (world.house.source, shared, alone, f"{inside} the catalog, a SQLite file of the driver's machine (/tmp/home/"),
    ):
        words = ["swath", "run", "farm.yaml", source, "--warehouse", warehouse, "--direct", "--ray", world.address]
        code, _, err = world.head.run(*words, folder=world.project, **environment)
        assert (code, sentence in err) == (2, True), err
        assert err.count("\n") < 10, "a sentence, no stack trace"
    assert not world.house.rows("1")


def test_from_outside_the_command_is_sent_to_the_head_as_a_job(world: World) -> None:
    laptop = world.machines.add("sleep", "infinity", sees=[*world.sees, world.project])
    began = time.monotonic()
    code, _, err = world.run("--ray", world.address, on=laptop)
    assert code == 2
    assert f"this machine runs no node of the Ray cluster at {world.address}" in err
    assert "ray job submit --address http://" in err
    assert time.monotonic() - began < 30
    code, _, err = world.run("--ray", f"ray://{world.head.ip}:10001", on=laptop)
    assert (code, "a run is driven from inside its cluster" in err) == (2, True), err
    world.worker()
    words = world.words("--json")  # RAY_ADDRESS, which a job has, is what `--ray auto` means there
    submit = ["ray", "job", "submit", f"--address=http://{world.head.ip}:8265", "--working-dir=.", "--"]
    code, out, err = laptop.run(*submit, *words, folder=world.project, timeout=400)
    assert code == 0, out + err
    assert len(check(world)) == 2
