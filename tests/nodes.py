"""Ray nodes on this machine, each `ray start` with an address of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from swath.flows.local import services
from swath.flows.work import engine

MARK = "SWATH_TEST_NODES"
STARTING_S = 300


class Nodes:
    """A head, started with the words, and those that join it. Raises RuntimeError with the log of one that does not
    come up."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._folder, self._mark = folder, uuid.uuid4().hex
        self.started: list[subprocess.Popen[bytes]] = []
        ip, port = _own_address(), services._free_port()
        self.address = f"{ip}:{port}"
        head = ("--head", f"--port={port}", "--num-cpus=4", "--include-dashboard=false")
        self._start(*head, f"--node-ip-address={ip}", *words)

    def join(self, ip: str) -> None:
        """Another node, of two CPUs."""
        self._start(f"--address={self.address}", f"--node-ip-address={ip}", "--num-cpus=2")

    def leave(self) -> None:
        """The node that came last dies, with all that runs on it."""
        node = self.started.pop()
        for one in psutil.Process(node.pid).children(recursive=True) if node.poll() is None else []:
            with suppress(psutil.Error):
                one.kill()
        node.kill()
        node.wait()

    def raylet(self) -> psutil.Process | None:
        """That of the node that came last."""
        below = psutil.Process(self.started[-1].pid).children(recursive=True)
        return next((one for one in below if one.name() == "raylet"), None)

    def processes(self, prefix: str = "") -> Iterator[psutil.Process]:
        """What lives of the nodes and has a name that begins so."""
        for one in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                living = one.name().startswith(prefix) and one.status() != psutil.STATUS_ZOMBIE
                if living and one.environ().get(MARK) == self._mark:
                    yield one

    def close(self) -> None:
        while self.started:
            self.leave()
        for one in self.processes():
            with suppress(psutil.Error):
                one.kill()

    def _start(self, *words: str) -> None:
        log = self._folder / f"node-{time.monotonic_ns()}.log"
        command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block", *words]
        own = {"RAY_raylet_start_wait_time_s": str(STARTING_S), MARK: self._mark}
        with log.open("wb") as file:
            node = subprocess.Popen(
                [*command, "--object-store-memory=100000000", "--disable-usage-stats"],
                env={**services.QUIET, **os.environ, **own},
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.started.append(node)
        deadline = time.monotonic() + STARTING_S
        while "Ray runtime started" not in log.read_text(errors="replace"):
            if node.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(log.read_text(errors="replace")[-1000:])
            time.sleep(0.2)


@contextmanager
def joined(folder: Path, *words: str) -> Iterator[Nodes]:
    """Nodes whose cluster this process leaves before they end."""
    nodes = Nodes(folder, *words)
    try:
        yield nodes
    finally:
        engine.stop()
        nodes.close()


def _own_address() -> str:
    """An address of this machine that is not 127.0.0.1, under which Ray takes no second node."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
    return "127.0.0.2"
