"""What is done to a run: each injury starts its drivers, hurts them or what they stand on, and says what it did."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tests.children import children
from tests.faults.proxy import Weather
from tests.faults.world import LONGEST_S, PATIENCE_S, Drive, World

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
LEASE_S = 30
OFTEN = {"executed", "settled", "staged", "audited", "judged"}
"""Crash points that every wave comes by."""


@dataclass
class Hurt:
    """What an injury has done."""

    kills: int = 0
    at: float = field(default_factory=time.monotonic)
    """Monotonic seconds of the (first) injury."""
    missed: str = ""
    """Why it was none: the run was over before, or this machine does not allow it."""
    note: str = ""
    killed: list[str] = field(default_factory=list)
    """The crash points at which a driver died."""


Injury = Callable[[World, random.Random], Hurt]


def at_points(points: Sequence[str], publish: str, visit: int) -> Injury:
    """A driver that dies at the first point, and drivers that take over and die at the next ones; the first point that
    a run comes by more than once is met at its nth visit."""

    def hurt(world: World, moments: random.Random) -> Hurt:
        hurt = Hurt(note=f"publish: {publish}, {', '.join(points)}")
        for number, point in enumerate(points):
            first = point in OFTEN and not OFTEN & set(points[:number])
            told = {"FAULT_POINT": point, "FAULT_VISIT": str(visit if first else 1)}
            drive = world.resume(**told) if number else world.run(publish, **told)
            _sleep(drive, LONGEST_S)
            status = drive.process.poll()
            if status != -signal.SIGKILL:
                hurt.missed = f"{point}: ended with status {status}: {drive.said()[-300:]}"
                return hurt
            hurt.kills += 1
            hurt.killed.append(f"{publish} {point}")
            hurt.at = time.monotonic()
        return hurt

    return hurt


def driver(publish: str) -> Injury:
    """The driver, and then the one that takes over."""

    def hurt(world: World, moments: random.Random) -> Hurt:
        after = [_moment(world, moments), _moment(world, moments) / 2]
        drive = world.run(publish)
        _sleep(drive, after[0])
        hurt = Hurt(int(drive.kill()), note=f"publish: {publish}, after {after[0]:.1f} and {after[1]:.1f} s")
        if not hurt.kills:
            hurt.missed = "over before"
        elif world.unfinished():
            second = world.resume()
            _sleep(second, after[1])
            hurt.kills += second.kill()
        return hurt

    return hurt


def workers(world: World, moments: random.Random) -> Hurt:
    """Up to four workers, one after the other, while the run goes on."""
    drive, hurt = world.run(moments.choice(["run", "wave"])), Hurt()
    while drive.running and hurt.kills < 4:
        found = world.workers()
        if not found:
            time.sleep(0.1)
            continue
        time.sleep(moments.uniform(0, 1.5))
        with suppress(psutil.Error):
            moments.choice(found).kill()
            hurt.at = hurt.at if hurt.kills else time.monotonic()
            hurt.kills += 1
            time.sleep(moments.uniform(0.2, 3))
    hurt.missed = "" if hurt.kills else "no worker was met"
    return hurt


def raylet(world: World, moments: random.Random) -> Hurt:
    """The second node, at a random moment after workers are there; it comes back for the next case."""
    drive = world.run(moments.choice(["run", "wave"]))
    while drive.running and not world.workers():
        time.sleep(0.1)
    _sleep(drive, moments.uniform(0, world.typical / 2))
    if not drive.running:
        return Hurt(missed="over before")
    found = world.nodes.raylet() if world.nodes else None
    if found is None:
        return Hurt(missed="no raylet found")
    found.kill()
    return Hurt(1)


def prefect(world: World, moments: random.Random) -> Hurt:
    """The Prefect server of the run."""
    drive = world.run(moments.choice(["run", "wave"]), prefect=True)
    _sleep(drive, 5 + _moment(world, moments))
    for one in children("swath.flows.local.prefect_host", drive.process.pid) if drive.running else []:
        with suppress(psutil.Error):
            one.kill()
            return Hurt(1)
    return Hurt(missed="over before")


def s3_server(world: World, moments: random.Random) -> Hurt:
    """The S3 server, which comes back after a while."""
    drive = world.run(moments.choice(["run", "wave"]))
    _sleep(drive, _moment(world, moments))
    if not drive.running:
        return Hurt(missed="over before")
    hurt, gone = Hurt(1), moments.uniform(0, PATIENCE_S / 3)
    world.server.kill()
    time.sleep(gone)
    world.server.start()
    hurt.note = f"gone for {time.monotonic() - hurt.at:.0f} s"
    return hurt


def weather(kind: Weather, longest: float) -> Injury:
    """The S3 server behind bad weather, for a while."""

    def hurt(world: World, moments: random.Random) -> Hurt:
        drive = world.run(moments.choice(["run", "wave"]))
        _sleep(drive, moments.uniform(0, world.typical / 2))
        if not drive.running:
            return Hurt(missed="over before")
        hurt, met = Hurt(), world.proxy.spoiled
        world.proxy.weather = kind
        try:
            _sleep(drive, moments.uniform(longest / 2, longest))
        finally:
            world.proxy.weather = "fair"
        lasted, met = time.monotonic() - hurt.at, world.proxy.spoiled - met
        hurt.note = f"{lasted:.0f} s, {met} connections met it"
        hurt.missed = "" if met else "nobody connected meanwhile"
        return hurt

    return hurt


def full_disk(place: str) -> Injury:
    """The temporary folder, or the folder of the catalog, is full from some moment on, until the driver has ended."""

    def hurt(world: World, moments: random.Random) -> Hurt:
        with small_disk(world.root / "home/catalogs" if place == "catalog" else world.root / "small") as disk:
            if disk is None:
                return Hurt(missed="a tmpfs cannot be mounted here")
            drive = world.run(moments.choice(["run", "wave"]), **({"TMPDIR": str(disk)} if place == "temp" else {}))
            _sleep(drive, moments.uniform(0, world.typical * 0.7))
            hurt = Hurt()
            filler = disk / "filler"
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 12))
            _sleep(drive, 60)
            filler.unlink()
            hurt.note = (
                "came through" if drive.process.poll() == 0 else f"told: {drive.said()[-160:].splitlines()[-1:]}"
            )
            _sleep(drive, LONGEST_S)
        return hurt

    return hurt


def clock(seconds: int) -> Injury:
    """The driver's clock jumps; then it is killed, and its lease tells a time of the other clock."""

    def hurt(world: World, moments: random.Random) -> Hurt:
        if FAKETIME is None:
            return Hurt(missed="libfaketime is not installed")
        offset = world.root / "clock"
        offset.write_text("+0")
        drive = world.run(moments.choice(["run", "wave"]), **_clock(offset))
        _sleep(drive, _moment(world, moments) / 2)
        hurt = Hurt()
        offset.write_text(f"{seconds:+d}")
        _sleep(drive, moments.uniform(1, world.typical / 2))
        hurt.kills = int(drive.kill())
        hurt.note = f"{seconds:+d} s, then {'killed' if hurt.kills else 'came through'}"
        return hurt

    return hurt


def second_clock(world: World, moments: random.Random) -> Hurt:
    """A second driver, whose clock is ten minutes ahead, takes the first one's lease for expired."""
    if FAKETIME is None:
        return Hurt(missed="libfaketime is not installed")
    offset = world.root / "clock"
    offset.write_text("+600")
    first = world.run(moments.choice(["run", "wave"]))
    _sleep(first, _moment(world, moments) / 2 + 2)
    hurt = Hurt()
    second = world.resume(**_clock(offset))
    for drive in (first, second):
        _sleep(drive, LONGEST_S)
    hurt.note = f"statuses {first.process.returncode}, {second.process.returncode}"
    return hurt


def two_drivers(world: World, moments: random.Random) -> Hurt:
    """Two others resume a run that is being driven; then its driver is killed."""
    first = world.run(moments.choice(["run", "wave"]))
    _sleep(first, _moment(world, moments) / 2 + 2)
    hurt = Hurt()
    others = [world.resume() for _ in range(2)]
    _sleep(first, moments.uniform(1, world.typical / 2))
    hurt.kills = int(first.kill())
    for one in others:
        _sleep(one, LONGEST_S)
    hurt.note = f"the others ended with {[one.process.returncode for one in others]}"
    return hurt


def sleeper(world: World, moments: random.Random) -> Hurt:
    """A driver is stopped until its lease has expired; another one goes on, and then the first wakes up."""
    first = world.run(moments.choice(["run", "wave"]))
    _sleep(first, _moment(world, moments))
    if not first.running:
        return Hurt(missed="over before")
    hurt = Hurt()
    os.kill(first.process.pid, signal.SIGSTOP)
    time.sleep(LEASE_S + 2)
    second = world.resume()
    _sleep(second, moments.uniform(1, world.typical))
    os.kill(first.process.pid, signal.SIGCONT)
    for drive in (first, second):
        _sleep(drive, LONGEST_S)
    hurt.note = f"statuses {first.process.returncode}, {second.process.returncode}"
    return hurt


def two_runs(world: World, moments: random.Random) -> Hurt:
    """Two runs into the same partitions, side by side; in half of the cases one of them is killed."""
    first = world.run(moments.choice(["run", "wave"]))
    time.sleep(moments.uniform(0, 3))
    second = world.run(moments.choice(["run", "wave"]))
    hurt = Hurt()
    if moments.random() < 0.5:
        _sleep(second, _moment(world, moments))
        hurt.kills = int(second.kill())
    for drive in (first, second):
        _sleep(drive, LONGEST_S)
    hurt.note = f"statuses {first.process.returncode}, {second.process.returncode}"
    return hurt


def _moment(world: World, moments: random.Random) -> float:
    return moments.uniform(1.0, world.typical * 0.95)


def _sleep(drive: Drive, seconds: float) -> None:
    """So long, or until the driver has ended."""
    with suppress(subprocess.TimeoutExpired):
        drive.process.wait(seconds)


def _clock(offset: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


@contextmanager
def small_disk(place: Path) -> Iterator[Path | None]:
    """A tmpfs of 4 MiB with what stood at the place before, which is put back with what was added; None where none
    can be mounted."""
    place.mkdir(parents=True, exist_ok=True)
    before = {one.name: one.read_bytes() for one in place.iterdir() if one.is_file()}
    mounted = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(place)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        for name, content in before.items():
            (place / name).write_bytes(content)
        yield place
    finally:
        after = {one.name: one.read_bytes() for one in place.iterdir() if one.is_file()}
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        for name, content in after.items():
            (place / name).write_bytes(content)
