"""A stage in this process, without Ray."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.flows.small_work import draw, make_work, rejects, room, staged

from swath.flows.work.inprocess import execute_here
from swath.flows.work.journal import resting
from swath.flows.work.worker import StageWorker, suspects_of
from swath.infra import storage
from swath.schemas.errors import RunFailed, StorageUnavailable
from swath.schemas.pipeline import Limits

TESTS = str(Path(__file__).parents[1])
REAL = ["exif", "decode", "assess_quality", "perceptual_hash"]


@pytest.fixture(autouse=True)
def _poison_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)


def poison(kind: str = "Poison", **config: object) -> dict[str, object]:
    return {"op": f"poison_operators:{kind}", "name": "poison", "config": config}


def accuse(work, *numbers: int) -> None:
    """As a sidecar would, of the items of the first block."""
    table = pq.read_table(storage.local_path(work.blocks[0]))
    for number in numbers:
        item = table["item_id"][number].as_py()
        storage.write(storage.join(suspects_of(work.pools[0].stage, work.context), item), b"{}")


def run_first_block(work) -> list[dict[str, object]]:
    worker = StageWorker(work.pools[0].stage, work.context, watched=True)
    try:
        return worker(pq.read_table(storage.local_path(work.blocks[0]))).to_pylist()
    finally:
        worker.close()


def test_every_item_comes_out_once_and_in_order(tmp_path: Path) -> None:
    manifest = draw(tmp_path / "in", 40)
    work = make_work(tmp_path / "run", manifest, REAL)
    execute_here(work)
    rows = staged(work)
    assert [row["item_id"] for row in rows] == manifest["item_id"].to_pylist()
    assert {row["status"] for row in rows} == {"ok"}


def test_what_is_staged_is_not_done_again(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 20), REAL)
    execute_here(work)
    kept = storage.local_path(work.rows) / min(storage.list_names(work.rows))
    before, others = kept.read_bytes(), sorted(storage.list_names(work.rows))[1:]
    for name in others:
        storage.delete(storage.join(work.rows, name))
    execute_here(work)
    assert kept.read_bytes() == before
    assert len({row["item_id"] for row in staged(work)}) == len(staged(work)) == 20


def test_a_file_that_went_after_it_was_listed_is_one_reject(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 10), REAL)
    (tmp_path / "in/0003.jpg").unlink()
    (tmp_path / "in/0005.jpg").unlink()
    (tmp_path / "in/0005.jpg").mkdir()
    execute_here(work)
    assert rejects(staged(work)) == {"0003": "not_found", "0005": "not_found"}


def test_a_store_that_fails_for_good_stops_the_run_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_STORAGE_PATIENCE_S", "0")
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 10), REAL)
    (tmp_path / "in/0003.jpg").unlink()
    (tmp_path / "in/0003.jpg").symlink_to("0003.jpg")  # too many links: neither gone nor forbidden
    with pytest.raises(StorageUnavailable, match=r"0003\.jpg"):
        execute_here(work)
    (tmp_path / "in/0003.jpg").unlink()
    execute_here(work)
    assert len({row["item_id"] for row in staged(work)}) == len(staged(work)) == 10


def test_suspects_are_tried_apart_and_only_culprits_are_rejected(tmp_path: Path) -> None:
    culprits = {"0001": "segfault", "0004": "exit", "0007": "numpy", "0009": "raise"}
    work = make_work(
        tmp_path / "run", draw(tmp_path / "in", 24), [poison(on=culprits)], workers=1, memory_bytes=room(400 << 20)
    )
    accuse(work, 1, 2, 3)
    rows = run_first_block(work)
    assert len(rows) == 6
    assert rejects(rows) == {"0001": "crashed", "0004": "crashed"}
    assert {row["reject_operator"] for row in rows} == {None, "poison"}
    assert "died of SIGSEGV" in str(rows[1]["reject_message"])


def test_of_a_batch_that_dies_one_item_is_rejected(tmp_path: Path) -> None:
    work = make_work(
        tmp_path / "run", draw(tmp_path / "in", 128), [poison("PoisonBatch", on={"0017": "segfault"})], workers=1
    )
    accuse(work, *range(32))
    assert rejects(run_first_block(work)) == {"0017": "crashed"}


def test_of_an_object_that_dies_only_its_items_are_rejected(tmp_path: Path) -> None:
    work = make_work(
        tmp_path / "run", draw(tmp_path / "in", 12, pages=3), [poison("PoisonObject", on={"0001": "abort"})], workers=1
    )
    accuse(work, 3)
    rows = run_first_block(work)
    assert Counter(str(row["source_uri"])[-8:-4] for row in rows if row["status"] != "ok") == {"0001": 3}


def test_items_that_together_leak_are_not_rejected(tmp_path: Path) -> None:
    work = make_work(
        tmp_path / "run", draw(tmp_path / "in", 80), [poison(on={"*": "leak"})], workers=1, memory_bytes=room(400 << 20)
    )
    accuse(work, 5)
    assert rejects(run_first_block(work)) == {}


def test_a_limit_below_what_the_worker_itself_needs_is_said(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 4), [poison()], memory_bytes=1 << 20)
    with pytest.raises(RunFailed, match="before its first item"):
        run_first_block(work)


def test_workers_that_die_while_loading_stop_the_run(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 4), [poison()])
    for number in range(5):
        storage.write(storage.join(suspects_of(work.pools[0].stage, work.context), f"load-{number}"), b"{}")
    with pytest.raises(RunFailed, match="died 5 times while"):
        run_first_block(work)


def test_workers_that_die_between_the_items_of_a_block_stop_the_run(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 16), [poison()], workers=1)
    suspects = suspects_of(work.pools[0].stage, work.context)
    blocks = [pq.read_table(storage.local_path(block))["item_id"][0].as_py() for block in work.blocks]
    for number in range(5):
        storage.write(storage.join(suspects, f"{resting(blocks[1])}{number}"), b"{}")
    assert len(run_first_block(work)) == 4  # another block's deaths are nothing to this one
    for number in range(4):
        storage.write(storage.join(suspects, f"{resting(blocks[0])}{number}"), b"{}")
    assert len(run_first_block(work)) == 4
    storage.write(storage.join(suspects, f"{resting(blocks[0])}4"), b"{}")
    with pytest.raises(RunFailed, match=r"died 5 times over the same 4 items, the first of which is .*/0000\.jpg"):
        run_first_block(work)


def test_a_worker_that_is_too_large_before_its_first_block_does_that_block(tmp_path: Path) -> None:
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 4), [poison()], workers=1)
    worker = StageWorker(work.pools[0].stage, work.context, watched=True)
    worker.context = replace(worker.context, limits=Limits(memory_bytes=1 << 20))  # the sidecar has another
    try:
        assert rejects(worker(pq.read_table(storage.local_path(work.blocks[0]))).to_pylist()) == {}
    finally:
        worker.close()


def test_this_module_needs_no_ray() -> None:
    import subprocess

    code = "import sys, swath.flows.work.worker, swath.flows.work.inprocess; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
