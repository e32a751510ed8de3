"""Temporary folders of processes that were killed are removed; those of the living are not."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CODE = """
import sys
from swath.infra.scratch import Scratch
scratch = Scratch("test")
(scratch.path / "part").write_bytes(b"1234")
print(scratch.path, flush=True)
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[[str], tuple[subprocess.Popen[str], Path]]:
    """Starts a process with a scratch folder in `tmp_path`, which then does what it is told to."""

    def process(deed: str) -> tuple[subprocess.Popen[str], Path]:
        environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.Popen(
            [sys.executable, "-c", CODE + deed],
            env=environment,
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        assert child.stdout
        return child, Path(child.stdout.readline().strip())

    return process


def end(child: subprocess.Popen[str], how: int | None = None) -> None:
    """Ends it by a signal, or lets it end."""
    if how:
        child.send_signal(how)
    child.communicate(timeout=60)


def test_a_folder_is_its_owner_s_alone_and_goes_with_it(start, tmp_path: Path) -> None:
    child, folder = start("sys.stdin.read()")
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    end(child)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "deed", ["raise ValueError", "sys.exit(2)", "scratch.close()", "scratch.close(); scratch.close()"]
)
def test_it_goes_however_its_owner_ends_by_itself(start, tmp_path: Path, deed: str) -> None:
    end(start(deed)[0])
    assert list(tmp_path.iterdir()) == []


def test_the_next_start_removes_what_killed_processes_left_and_nothing_else(start, tmp_path: Path) -> None:
    killed, left = start("sys.stdin.read()")
    end(killed, signal.SIGKILL)
    alive, used = start("sys.stdin.read()")
    assert not left.exists()
    strangers = [tmp_path / "swath-audit-older", tmp_path / "other"]
    for stranger in strangers:
        stranger.mkdir()
    (tmp_path / "swath-scratch-link").symlink_to(tmp_path / "other")
    (tmp_path / "swath-scratch-file").touch()
    end(start("")[0])
    assert (used / "part").read_bytes() == b"1234"
    assert all(stranger.is_dir() for stranger in strangers)
    assert (tmp_path / "swath-scratch-link").is_symlink()
    end(alive)


def test_a_child_that_outlives_its_parent_does_not_keep_the_folder(start, tmp_path: Path) -> None:
    child, left = start("import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()")
    assert child.stdout
    grandchild = int(child.stdout.readline())
    child.kill()
    child.wait(timeout=60)
    end(start("")[0])
    os.kill(grandchild, signal.SIGKILL)
    assert not left.exists()


def test_processes_that_start_at_once_take_no_folder_from_each_other(start, tmp_path: Path) -> None:
    deed = """
import swath.infra.scratch as module
module._sweep = module._sweep.__wrapped__  # each time, and not only the first
kept = [Scratch("test") for _ in range(200)]
print(all(one.path.is_dir() for one in kept), flush=True)
sys.stdin.read()
"""
    started = [start(deed) for _ in range(3)]
    assert all(child.stdout and child.stdout.readline() == "True\n" for child, _ in started)
    assert all((folder / "part").exists() for _, folder in started)
    for child, _ in started:
        end(child)
