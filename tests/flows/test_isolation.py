"""Bad items on a real Ray: whatever they do, every other item has its row."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.children import children
from tests.flows.small_work import draw, make_work, rejects, staged

from swath.flows.work import engine
from swath.flows.work.inprocess import execute_here
from swath.flows.work.wave import Work
from swath.schemas.errors import RunFailed, StorageUnavailable

TESTS = str(Path(__file__).parents[1])
LIMITS = {"seconds": 2, "memory_bytes": 600 << 20}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    sys.path.append(TESTS)  # as the command does with the user's folder
    engine.start("local")
    yield
    engine.stop()
    sys.path.remove(TESTS)


def poison(kind: str = "Poison", **config: object) -> dict[str, object]:
    return {"op": f"poison_operators:{kind}", "name": "poison", "config": config}


def complete(work: Work, items: int) -> list[dict[str, object]]:
    """The staged rows, of which there is one an item."""
    rows = staged(work)
    assert len(rows) == len({row["item_id"] for row in rows}) == items
    return rows


def test_three_culprits_in_one_block_cost_three_rows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    culprits = {"0003": "segfault", "0004": "malloc", "0010": "spin", "0090": "raise"}
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 96), ["decode", poison(on=culprits)], **LIMITS)
    engine.execute(work)
    rows = complete(work, 96)
    reasons = {"0003": "crashed", "0004": "out_of_memory", "0010": "timed_out", "0090": "operator_error"}
    assert rejects(rows) == reasons
    assert {row["reject_operator"] for row in rows if row["status"] != "ok"} == {"poison"}
    assert "raylet" not in capfd.readouterr().out  # standard output is the command's, which may be JSON


@pytest.mark.slow
def test_all_kinds_in_one_run(tmp_path: Path) -> None:
    kinds = ["segfault", "abort", "exit", "numpy", "malloc", "sleep", "spin", "memory_error", "killed"]
    culprits = {f"{30 * n + 7:04d}": kind for n, kind in enumerate(kinds)}
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 300), ["decode", poison(on=culprits)], **LIMITS)
    engine.execute(work)
    reasons = ["crashed"] * 3 + ["out_of_memory"] * 2 + ["timed_out"] * 2 + ["out_of_memory", "crashed"]
    assert rejects(complete(work, 300)) == dict(zip(culprits, reasons, strict=True))


def test_an_item_that_was_merely_there_is_not_blamed(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 96), [poison(slow=0.05)], **LIMITS)
    done, killed = threading.Event(), []

    def kill() -> None:
        moments = random.Random(5)
        while not done.wait(moments.uniform(0.5, 3)) and len(killed) < 3:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if process.name().startswith("ray::MapWorker") and len(killed) < 3:
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(process.pid)
                        break

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        engine.execute(work)
    finally:
        done.set()
        killer.join()
    assert killed
    assert rejects(complete(work, 96)) == {}


@pytest.mark.slow
def test_one_item_of_a_batch_and_one_object_of_many(tmp_path: Path) -> None:
    manifest = draw(tmp_path / "in", 40, pages=3)
    steps = [
        {**poison("PoisonBatch", on={"0020": "segfault"}), "name": "batch"},
        {**poison("PoisonObject", on={"0011": "segfault"}), "name": "object"},
    ]
    work = make_work(tmp_path / "run", manifest, steps, workers=1, **LIMITS)
    engine.execute(work)
    rows = complete(work, 120)
    assert rejects(rows) == {"0020": "crashed", "0011": "crashed"}
    assert sum(row["status"] != "ok" for row in rows) == 6


def test_an_operator_that_cannot_load_stops_the_run_in_its_own_words(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 8), [poison("LoadFails")])
    started = time.monotonic()
    with pytest.raises(RunFailed, match=r"weights/net\.onnx is not there; download it"):
        engine.execute(work)
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_workers_that_die_while_loading_are_not_started_for_ever(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 8), [poison("LoadFails", how="segfault")])
    with pytest.raises(RunFailed, match="while their models were being loaded"):
        engine.execute(work)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_that_die_between_items_are_not_started_for_ever(tmp_path: Path) -> None:
    culprit = poison("Unwritable", on={"0009": "when its block is turned into a table"})
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 32), [culprit])
    with pytest.raises(RunFailed, match=r"died 5 times over the same 4 items, the first of which is .*/0008\.jpg"):
        engine.execute(work)
    (tmp_path / "in/0009.jpg").rename(tmp_path / "in/gone")  # what was wrong has been put right: all count anew
    engine.execute(work)
    assert rejects(complete(work, 32)) == {"0009": "not_found"}


@pytest.mark.slow
def test_items_that_only_together_are_too_much_for_a_worker_are_not_blamed(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 96), [poison(on={"*": "leak"})], **LIMITS)
    engine.execute(work)
    assert rejects(complete(work, 96)) == {}


def test_a_store_that_fails_for_good_stops_the_run_which_then_goes_on(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 32), ["decode"])
    (tmp_path / "in/0004.jpg").unlink()
    good = (tmp_path / "in/0020.jpg").read_bytes()
    (tmp_path / "in/0020.jpg").unlink()
    (tmp_path / "in/0020.jpg").symlink_to("0020.jpg")  # too many links: neither gone nor forbidden
    with pytest.raises(StorageUnavailable, match=r"0020\.jpg"):
        engine.execute(work)
    (tmp_path / "in/0020.jpg").unlink()
    (tmp_path / "in/0020.jpg").write_bytes(good)
    engine.execute(work)  # in the same process, whose first try has given its workers' CPUs back
    assert rejects(complete(work, 32)) == {"0004": "not_found"}


def test_workers_of_a_failed_wave_give_their_cpus_back_whatever_they_are_at(tmp_path: Path) -> None:
    import ray

    asleep = make_work(tmp_path / "asleep", draw(tmp_path / "in", 32), [poison("OneSleeps")], seconds=7200)
    with pytest.raises(StorageUnavailable, match="the store is gone"):
        engine.execute(asleep)
    deadline = time.monotonic() + 30
    while (free := ray.available_resources().get("CPU")) != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, free
        time.sleep(0.2)
    awake = make_work(tmp_path / "awake", draw(tmp_path / "other", 32), ["decode"])
    engine.execute(awake)
    complete(awake, 32)


def test_ray_and_the_calling_process_make_the_same_rows(tmp_path: Path) -> None:
    manifest = draw(tmp_path / "in", 24)
    steps = ["exif", "decode", "assess_quality", "perceptual_hash", poison(on={"0003": "raise"})]
    on_ray, here = (make_work(tmp_path / name, manifest, steps) for name in ("ray", "here"))
    engine.execute(on_ray)
    execute_here(here)

    def comparable(work: Work) -> list[dict[str, object]]:
        return [
            {name: value for name, value in row.items() if name not in ("seconds", "processed_at")}
            for row in complete(work, 24)
        ]

    assert comparable(on_ray) == comparable(here)


def test_nothing_is_left_beside_ray(tmp_path: Path) -> None:
    engine.execute(make_work(tmp_path / "run", draw(tmp_path / "in", 8), ["decode"]))
    deadline = time.monotonic() + 30
    while (left := _sidecars()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


def test_nothing_of_ray_listens_beyond_this_machine() -> None:
    addresses = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            addresses |= {c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN}
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def _sidecars() -> list[int]:
    return [process.pid for process in children("swath.flows.work.sidecar")]
