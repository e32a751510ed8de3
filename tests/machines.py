"""Machines of a cluster on this one: each has an address, a process tree and a temporary disk of its own.

A machine is a network namespace on a bridge, with a process namespace (what ends its first process ends all, as a power
cut does) and a mount namespace in which the folders that are another machine's disk are empty. The installed packages
are seen by all: they stand for the image.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from swath.flows.local.services import QUIET

STARTING_S = 300
BIN = Path(sys.executable).parent


@cache
def why_not() -> str | None:
    """Why no machine can be made here; None where they can."""
    if os.geteuid() != 0:
        return "network namespaces are root's to make"
    name = f"try{os.getpid()}"
    tries = (
        ["ip", "netns", "add", name],
        ["ip", "netns", "exec", name, "unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "t", "/mnt"],
        ["ip", "link", "add", name, "type", "bridge"],
    )
    try:
        for words in tries:
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                return f"`{shlex.join(words)}`: {done.stderr.strip()}"
    except FileNotFoundError as error:
        return f"{error.filename} is not installed (iproute2, util-linux)"
    finally:
        for undo in (["ip", "netns", "del", name], ["ip", "link", "del", name]):
            with suppress(FileNotFoundError):
                subprocess.run(undo, capture_output=True)
    return None


class Machine:
    """One that is up; it runs what it was started with, and what it is given."""

    def __init__(
        self, name: str, ip: str, outer: subprocess.Popen[bytes], log: Path, environment: dict[str, str]
    ) -> None:
        self.name, self.ip, self.log = name, ip, log
        self._outer, self._environment = outer, environment

    @property
    def init(self) -> int:
        """Its first process, as this machine numbers it."""
        [child] = psutil.Process(self._outer.pid).children()
        return child.pid

    def is_up(self) -> bool:
        """Whether its disks are as they should be, and its command has begun."""
        with suppress(psutil.Error, ValueError):
            return psutil.Process(self.init).name() != "sh"
        return False

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def start(self, *words: str, folder: str | Path = "/", **environment: str) -> subprocess.Popen[str]:
        """A command on the machine, in one of its folders; what it says comes by `communicate`."""
        inside = ["nsenter", f"--target={self.init}", "--net", "--mount", "--pid", f"--wdns={folder}"]
        return subprocess.Popen(
            [*inside, *words],
            env=self._environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *words: str, folder: str | Path = "/", timeout: float = 600, **environment: str
    ) -> tuple[int, str, str]:
        """Its exit status, standard output and standard error, when it has ended."""
        process = self.start(*words, folder=folder, **environment)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise TimeoutError(f"{shlex.join(words)}: {out[-2000:]}{err[-2000:]}") from None
        return process.returncode, out, err

    def off(self) -> None:
        """A power cut."""
        if self._outer.poll() is None:
            with suppress(psutil.Error, ValueError):
                psutil.Process(self.init).kill()
            self._outer.kill()
            self._outer.wait()


class Machines:
    """Context manager: machines on one network, which this one is on too, under `gateway`."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """`folder` is for logs. `environment` comes over this process' own."""
        number = secrets.randbelow(1 << 16)
        self._net, self._bridge = f"10.{number >> 8}.{number & 255}", f"sw{secrets.token_hex(3)}"
        self._folder = folder
        self.environment = {**os.environ, **QUIET, "PATH": f"{BIN}:{os.environ['PATH']}", **(environment or {})}
        self.all: list[Machine] = []
        self._count = 1

    @property
    def gateway(self) -> str:
        return f"{self._net}.1"

    def __enter__(self) -> Machines:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self.gateway}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        return self

    def __exit__(self, *error: object) -> None:
        for machine in self.all:
            machine.off()
        for number in range(2, self._count + 1):  # also where one was only half made
            subprocess.run(["ip", "netns", "del", self._name(number)], capture_output=True)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True)

    def add(self, *words: str, sees: Sequence[Path] = (), **environment: str) -> Machine:
        """A new machine that runs a command, in which `{ip}` is its address; of this machine's temporary folders it has
        only those that it `sees`."""
        self._count += 1
        name, ip = self._name(self._count), f"{self._net}.{self._count}"
        _ip("netns", "add", name)
        veth = f"v{self._count}{self._bridge}"[:15]
        _ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", veth, "master", self._bridge, "up")
        for line in (
            f"addr add {ip}/24 dev eth0",
            "link set eth0 up",
            "link set lo up",
            f"route add default via {self.gateway}",
        ):
            _ip("-n", name, *line.split())
        environment = self.environment | environment
        log = self._folder / f"{name}.log"
        hidden = {"/tmp", tempfile.gettempdir()}
        script = "\n".join(
            [
                "set -e",
                "mount --make-rprivate /",
                "mount -t tmpfs own /dev/shm",
                "mount -t tmpfs own /mnt",
                *(f"mkdir /mnt/{n}; mount --bind {shlex.quote(str(seen))} /mnt/{n}" for n, seen in enumerate(sees)),
                *(f"mount -t tmpfs own {shlex.quote(path)}" for path in sorted(hidden)),
                *(
                    f"mkdir -p {shlex.quote(str(seen))}; mount --bind /mnt/{n} {shlex.quote(str(seen))}"
                    for n, seen in enumerate(sees)
                ),
                "exec " + shlex.join(word.replace("{ip}", ip) for word in words),
            ]
        )
        alone = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        with log.open("wb") as file:
            outer = subprocess.Popen(
                ["ip", "netns", "exec", name, *alone, "sh", "-c", script],
                env=environment,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        machine = Machine(name, ip, outer, log, environment)
        self.all.append(machine)
        while outer.poll() is None and not machine.is_up():
            time.sleep(0.05)
        return machine

    def _name(self, number: int) -> str:
        return f"{self._bridge}n{number}"

    def ray(self, *words: str, sees: Sequence[Path] = (), **environment: str) -> Machine:
        """A machine that runs `ray start` with the words, when it is ready. Raises RuntimeError with its log."""
        command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address={ip}"]
        quiet = ["--object-store-memory=100000000", "--disable-usage-stats"]
        machine = self.add(
            *command, *words, *quiet, sees=sees, RAY_raylet_start_wait_time_s=str(STARTING_S), **environment
        )
        deadline = time.monotonic() + STARTING_S
        while "Ray runtime started" not in machine.said():
            if machine._outer.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(machine.said()[-2000:])
            time.sleep(0.2)
        return machine


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {shlex.join(words)}: {done.stderr.strip()}")
