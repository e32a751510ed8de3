"""What the faults happen to: a source and a warehouse on a real S3 server, two Ray nodes, runs by the `swath` command.

Beside the warehouse that is injured stands another, on disk, into which the same source goes undisturbed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tests.faults.proxy import Proxy
from tests.flows.living import House
from tests.nodes import Nodes

from swath.flows.console.command import make_request
from swath.flows.local import services
from swath.flows.run import process
from swath.flows.run.records import State
from swath.infra import storage
from swath.infra.lease import Lease
from swath.infra.s3server import SeaweedFS
from swath.schemas.errors import RunLocked

ROOT = Path(__file__).parents[2]
SITES = 12
PARTITION = "{site}"
PIPELINE = """
name: toy
source: {{include: ["*.txt"]}}
steps:
  - {{op: "tests.flows.toy:Length", name: length, config: {{resources: {{cpus: 2}}}}}}
  - {{op: "tests.flows.toy:Tag", name: tag, config: {{resources: {{cpus: 2}}}}}}
table: {{publish: {publish}}}
max_rejects: 0.2
"""
PROVENANCE = ("run_id", "step_runs", "wave", "processed_at", "seconds")
"""Columns that tell which run made a row, and when."""
PATIENCE_S = 20
LONGEST_S = 600
"""What a driver may take; more counts as stuck."""
RESUMES = 6
INNOCENT = {"crashed", "timed_out", "out_of_memory"}


@dataclass
class Drive:
    """A `swath` process."""

    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> bool:
        """Whether there was something to kill."""
        if not self.running:
            return False
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return True

    def said(self) -> str:
        return self.log.read_text(errors="replace").strip()[-1500:]


@dataclass
class Verdict:
    """How the table stands after a case, beside the undisturbed one."""

    items: int
    lost: int
    doubled: int
    different: int
    wrongly_rejected: int
    orphans: int
    stuck: list[str]

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.different or self.wrongly_rejected or self.orphans or self.stuck)


class World:
    """Everything that may be killed, and the means to start it again."""

    def __init__(self, root: Path, server: SeaweedFS, proxy: Proxy, seed: int, items: int, wave_items: int) -> None:
        self.root, self.server, self.proxy = root, server, proxy
        self._audit = root / "audit/socket"
        self.random = random.Random(seed)
        self.ray = "off"
        self.nodes: Nodes | None = None
        self.typical = 20.0
        """Seconds of an undisturbed run."""
        self.drives: list[Drive] = []
        self.case = 0
        self._items, self._wave_items = items, wave_items
        self._objects: dict[str, str] = {}
        self._source = server.create_bucket("source") + "/in"
        self.house = House(server.create_bucket("lake") + "/house", self._source, None)
        self._shadow = House(f"file://{root}/shadow", self._source, None)
        self._before: set[str] = set()
        self._snapshots = 0

    # what there is to process

    def fill(self) -> None:
        """Objects in partitions of unequal size; one in fifty is a reject, a few take their time."""
        weights = [self.random.uniform(0.6, 1) for _ in range(SITES)]
        counts = [int(self._items * weight / sum(weights)) + 1 for weight in weights]
        self._put(
            {f"s{site:02d}/{n:04d}.txt": self._drawn() for site, count in enumerate(counts) for n in range(count)}
        )

    def change(self) -> None:
        """New, changed and removed objects."""
        known = sorted(self._objects)
        for name in self.random.sample(known, 20):
            del self._objects[name]
            storage.delete(storage.join(self._source, name))
        changed = self.random.sample(sorted(self._objects), 30)
        new = [f"s{self.random.randrange(SITES):02d}/n{self.case:03d}-{n:02d}.txt" for n in range(25)]
        self._put({name: self._drawn() for name in [*changed, *new]})

    def _drawn(self) -> str:
        kind = self.random.choices(["good", "bad", "slow"], [96.5, 2, 1.5])[0]
        return f"{kind} {self.random.randbytes(self.random.randrange(4, 60)).hex()}"

    def _put(self, objects: Mapping[str, str]) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(
                pool.map(
                    lambda one: storage.write(storage.join(self._source, one[0]), one[1].encode()), objects.items()
                )
            )
        self._objects |= objects

    # cases

    def begin(self) -> None:
        """A new case: other objects, other settings, and what an undisturbed run makes of them."""
        self.case += 1
        with self._directly():
            self.change() if self._objects else self.fill()
            self._undisturbed()
        self.drives = []
        self._before = set(self.house.runs.names())
        self._snapshots = len(self._metadata().snapshots) if self._metadata() else 0

    def _undisturbed(self) -> None:
        request = make_request(
            str(self._pipeline("run")), self._source, self._shadow.warehouse, None, None, PARTITION, self._settings(),
            None, None, "off",
        )  # fmt: skip
        assert process.start(request, prefect=False, audit_socket=self._audit).status == State.PUBLISHED

    @contextmanager
    def _directly(self) -> Iterator[None]:
        """Past the proxy."""
        os.environ["AWS_ENDPOINT_URL"] = self.server.endpoint
        try:
            yield
        finally:
            os.environ["AWS_ENDPOINT_URL"] = self.proxy.endpoint

    def _settings(self) -> list[str]:
        return [f"length.reason={('corrupt', 'truncated')[self.case % 2]}", f"tag.value=case {self.case}"]

    def _pipeline(self, publish: str) -> Path:
        path = self.root / f"{publish}.yaml"
        path.write_text(PIPELINE.format(publish=publish))
        return path

    def run(self, publish: str = "run", prefect: bool = False, **environment: str) -> Drive:
        """`swath run`, in a process of its own."""
        settings = [word for setting in self._settings() for word in ("--set", setting)]
        words = ["run", str(self._pipeline(publish)), self._source, "--partition-by", PARTITION, *settings]
        return self._drive([*words, "--ray", self.ray], prefect, environment)

    def resume(self, prefect: bool = False, **environment: str) -> Drive:
        return self._drive(["resume", "--ray", self.ray], prefect, environment)

    def _drive(self, words: list[str], prefect: bool, environment: Mapping[str, str]) -> Drive:
        words = [*words, "--warehouse", self.house.warehouse, "--json", *([] if prefect else ["--direct"])]
        log = self.root / f"case-{self.case:03d}-{len(self.drives)}.log"
        with log.open("wb") as file:
            started = subprocess.Popen(
                [sys.executable, "-P", str(ROOT / "tests/faults/launch.py"), *words],
                cwd=ROOT,
                env={**os.environ, "FAULT_CASE": self._mark, "FAULT_WAVE_ITEMS": str(self._wave_items), **environment},
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.drives.append(Drive(started, log))
        return self.drives[-1]

    @property
    def _mark(self) -> str:
        return f"{self.root.name}/{self.case}"

    def through(self, prefect: bool = False) -> tuple[int, list[str]]:
        """Waits for the drivers and resumes, as a user would, until nothing is unfinished: how often, and
        what was stuck."""
        stuck: list[str] = []
        for resumes in range(RESUMES + 1):
            for drive in self.drives:
                with suppress(subprocess.TimeoutExpired):
                    drive.process.wait(max(1.0, drive.began + LONGEST_S - time.monotonic()))
                if drive.kill():
                    stuck.append(f"a driver did not end within {LONGEST_S} s; it said: {drive.said()[-300:]}")
            states = self._states()
            if State.AUDIT_FAILED in states:
                return resumes, [*stuck, "an audit failed"]
            unfinished = self.unfinished()
            if not unfinished and states & {State.PUBLISHED, State.NOTHING}:
                return resumes, stuck
            if unfinished:
                self.resume(prefect)
            else:  # it died before it had a name
                self.run(prefect=prefect)
        return RESUMES, [*stuck, f"not through after {RESUMES} resumes; the last said: {self.drives[-1].said()[-300:]}"]

    def unfinished(self) -> bool:
        """Whether there is a run of this case to resume."""
        return bool(self._states() & {State.RUNNING, State.FAILED})

    def _states(self) -> set[State]:
        return {self.house.runs.load(name).status for name in self.house.runs.names() if name not in self._before}

    def verdict(self, stuck: list[str]) -> Verdict:
        """The injured table against the undisturbed one and against the source."""
        rows, expected = self.house.rows(), {row["item_id"]: row for row in self._shadow.rows()}
        found = {row["item_id"]: row for row in rows}
        sources = {row["source_uri"] for row in rows if row["status"] != "gone"}
        manifest = {storage.join(self._source, name) for name in self._objects}
        lost = max(len(expected.keys() - found.keys()), len(manifest - sources))
        more = max(len(found.keys() - expected.keys()), len(sources - manifest))
        both = found.keys() & expected.keys()
        different = [one for one in both if _plain(found[one]) != _plain(expected[one])]
        wrongly = [one for one in found if found[one]["reject_reason"] in INNOCENT or (
            one in both and found[one]["status"] == "rejected" != expected[one]["status"])]  # fmt: skip
        return Verdict(
            items=len(found),
            lost=lost,
            doubled=len(rows) - len(found) + more,
            different=len(different),
            wrongly_rejected=len(wrongly),
            orphans=len(self._orphans()),
            stuck=[*stuck, *self._left()],
        )

    def _metadata(self) -> Any:
        table = self.house.lake._table("toy")
        return table.metadata if table else None

    def _orphans(self) -> set[str]:
        """Files that runs of this case left below the table and that no snapshot names."""
        named = set()
        for snapshot in self._metadata().snapshots[self._snapshots :]:
            named |= {file.path for file in self.house.lake.files("toy", snapshot_id=snapshot.snapshot_id)}
        mine = [name for name in self.house.runs.names() if name not in self._before]
        prefix = self.house.lake.data_prefix("toy") + "/"
        return {
            one.uri
            for one in storage.list_objects(prefix)
            if one.uri.removeprefix(prefix).startswith(tuple(mine)) and one.uri not in named
        }

    def _left(self) -> list[str]:
        """Locks, staging and processes that should be gone."""
        left: list[str] = []
        locks = storage.join(self.house.warehouse, "_swath/publishing")
        leases = [storage.join(locks, name) for name in storage.list_names(locks)]
        for name in self.house.runs.names():
            if name not in self._before:
                folder = self.house.runs.folder(name)
                leases.append(storage.join(folder, "lease.json"))
                left += [one.uri for one in storage.list_objects(folder) if one.uri.startswith(f"{folder}/waves/")]
        for lease in filter(storage.exists, leases):  # one that a dead driver has left is taken over at once
            try:
                with Lease(lease, "faults"):
                    pass
            except RunLocked as error:
                left.append(f"lock {lease}: {error}")
        deadline = time.monotonic() + 25
        while (living := list(self._living())) and time.monotonic() < deadline:
            time.sleep(0.2)
        return [*left, *living]

    def _living(self) -> Iterator[str]:
        for one in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if one.status() == psutil.STATUS_ZOMBIE:
                    continue
                if one.environ().get("FAULT_CASE") == self._mark:
                    yield f"process {one.pid} {' '.join(one.cmdline())[:120]}"
        yield from (f"process {one.pid} {one.name()}" for one in self.workers())

    # services

    @contextmanager
    def audits(self) -> Iterator[None]:
        """A warm audit worker for the command, and one for undisturbed runs: one serves those of its environment."""
        service = services._start_audit()
        services._write_state({"audit": service})
        command = [sys.executable, "-P", "-m", "swath.flows.audit.worker", "--socket", str(self._audit)]
        with self._directly():
            own = subprocess.Popen([*command, "--parent", str(os.getpid())])
        try:
            while not self._audit.exists() or not Path(service["socket"]).exists():
                time.sleep(0.2)
            yield
        finally:
            own.kill()
            own.wait()
            services.down()

    def start_nodes(self) -> Nodes:
        """Two Ray nodes, which runs are sent to."""
        self.nodes = Nodes(self.root)
        self.ray = self.nodes.address
        self.ensure_second()
        return self.nodes

    def ensure_second(self) -> None:
        """Starts the second node where there is none (any more)."""
        if self.nodes is None:
            return
        if len(self.nodes.started) > 1 and self.nodes.started[-1].poll() is not None:
            self.nodes.leave()
        if len(self.nodes.started) == 1:
            self.nodes.join("127.0.0.3")

    def workers(self) -> list[psutil.Process]:
        """Ray's processes that work for a stage."""
        return list(self.nodes.processes("ray::MapWorker")) if self.nodes else []


@contextmanager
def world(seed: int, on_ray: bool, items: int, wave_items: int) -> Iterator[World]:
    """A world for as long as the context lasts, its address in the environment."""
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    (root / "tmp").mkdir()
    before = dict(os.environ)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        server = stack.enter_context(SeaweedFS(root / "s3"))
        proxy = stack.enter_context(Proxy(server.endpoint, seed))
        stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ |= server.environment() | {
            "AWS_ENDPOINT_URL": proxy.endpoint,
            "SWATH_HOME": str(root / "home"),
            "SWATH_STORAGE_PATIENCE_S": str(PATIENCE_S),
            "PYTHONPATH": f"{ROOT}/.src{os.pathsep}{ROOT}",
        }
        os.environ.pop("PREFECT_API_URL", None)
        (root / "home").mkdir()
        made = World(root, server, proxy, seed, items, wave_items)
        stack.enter_context(made.audits())
        if on_ray:
            stack.callback(made.start_nodes().close)
        yield made


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in PROVENANCE}
