import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from swath.flows.work.alone import run_alone
from swath.schemas.items import Reason

GENEROUS = {"seconds": 60, "memory_bytes": 2 << 30}


@pytest.fixture(autouse=True)
def _poison_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_a_result_comes_back_with_a_large_payload() -> None:
    payload = os.urandom(32 << 20)
    assert run_alone("poison:reverse", payload, **GENEROUS).result == payload[::-1]


@pytest.mark.parametrize(
    ("target", "limits", "reason", "message"),
    [
        ("segfault", GENEROUS, Reason.CRASHED, "killed by SIGSEGV"),
        ("leave", GENEROUS, Reason.CRASHED, "exited with status 3"),
        ("sleep", {**GENEROUS, "seconds": 0.5}, Reason.TIMED_OUT, "took longer than 0.5 s"),
        ("spin_in_c", {**GENEROUS, "seconds": 0.5}, Reason.TIMED_OUT, "took longer than 0.5 s"),
        ("hog", {**GENEROUS, "memory_bytes": 512 << 20}, Reason.OUT_OF_MEMORY, "resident memory passed 0.5 GiB"),
        (
            "hog_in_a_child",
            {**GENEROUS, "memory_bytes": 512 << 20},
            Reason.OUT_OF_MEMORY,
            "resident memory passed 0.5 GiB",
        ),
        ("ask_for_too_much", GENEROUS, Reason.OUT_OF_MEMORY, "MemoryError"),
    ],
)
def test_poison_is_named_by_what_it_did(target: str, limits: dict, reason: Reason, message: str) -> None:
    outcome = run_alone(f"poison:{target}", b"", **limits)
    assert (outcome.result, outcome.reason, outcome.message) == (None, reason, message)


def test_a_python_exception_is_raised_here_with_its_text() -> None:
    with pytest.raises(RuntimeError) as caught:
        run_alone("poison:fail", b"this", **GENEROUS)
    assert str(caught.value) == "ValueError: cannot use b'this'"


def test_a_target_that_is_not_there_is_raised_here() -> None:
    with pytest.raises(RuntimeError, match="no_such_module"):
        run_alone("no_such_module:function", b"", **GENEROUS)


def test_a_crash_on_the_way_out_does_not_lose_the_result() -> None:
    assert run_alone("poison:crash_on_the_way_out", b"kept", **GENEROUS).result == b"kept"


def test_a_process_killed_from_outside_is_tried_once_more(tmp_path: Path) -> None:
    assert run_alone("poison:killed_the_first_time", bytes(tmp_path / "mark"), **GENEROUS).result == b"done"


def test_nothing_is_left_running_and_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    before = psutil.Process().children()
    run_alone("poison:hog_in_a_child", bytes(tmp_path / "pid"), seconds=60, memory_bytes=512 << 20)
    assert psutil.Process().children() == before
    grandchild = int((tmp_path / "pid").read_text())
    assert _within(5, lambda: not _alive(grandchild))
    assert not list((tmp_path / "temp").iterdir())


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "from swath.flows.work.alone import run_alone;"
        f"run_alone('poison:report_pid_and_sleep', {bytes(told)!r}, seconds=60, memory_bytes=1 << 30)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert _within(30, lambda: told.exists() and told.read_text())
    child = int(told.read_text())
    assert psutil.pid_exists(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _within(10, lambda: not _alive(child))


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _within(seconds: float, condition: object) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
