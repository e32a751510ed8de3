"""A few items need no Ray, and are as safe without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.flows.living import LENGTH, House, pipeline
from tests.flows.small_work import draw, make_work, rejects, staged

from swath.flows.work import engine
from swath.flows.work.inprocess import execute_here
from swath.flows.work.place import FEW
from swath.schemas.errors import ConfigurationError, RunFailed
from swath.schemas.pipeline import Step

TESTS = str(Path(__file__).parents[1])


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses at which Ray was started."""
    seen: list[str] = []
    start = engine.start

    def started(address: str) -> bool:
        seen.append(address)
        return start(address)

    monkeypatch.setattr(engine, "start", started)
    return seen


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path) -> House:
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


def test_a_few_items_are_done_without_ray_and_one_more_with_it(house: House, starts: list[str]) -> None:
    house.put(*(f"{number}.txt" for number in range(FEW)))
    record = house.run(ray="local")
    assert (record.ok, record.stages["length"]["workers"], starts) == (FEW, 1, [])
    house.put(*(f"more-{number}.txt" for number in range(FEW + 1)))
    record = house.run(ray="local")
    assert (record.ok, record.carried, starts) == (FEW + 1, FEW, ["local"])
    house.check()


def test_a_few_new_items_among_many_do_not_start_ray(house: House, starts: list[str]) -> None:
    house.put(*(f"{number}.txt" for number in range(3 * FEW)))
    house.run()
    house.put("new.txt")
    assert house.run(ray="local").ok == 1
    assert starts == []
    house.check()


def test_a_stage_that_has_no_room_is_refused_for_one_item_too(house: House) -> None:
    house.put("a.txt")
    greedy = pipeline(Step(op=LENGTH, config={"resources": {"cpus": 5000}}))
    with pytest.raises(ConfigurationError, match="wants 5000 CPUs"):
        house.run(greedy, ray="local")


@pytest.mark.parametrize("stages", [1, 2])
def test_what_kills_its_process_is_one_reject_and_no_more(
    tmp_path: Path, stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, TESTS])
    on = {"0001": "segfault", "0002": "exit", "0005": "malloc", "0006": "raise"}
    poison = {
        "op": "poison_operators:Poison",
        "name": "poison",
        "config": {"on": on, "resources": {"cpus": 1 / stages}},
    }
    work = make_work(tmp_path / "run", draw(tmp_path / "in", 8), ["decode", poison], 1, memory_bytes=600 << 20)
    assert len(work.pools) == stages
    told: list[tuple[Any, ...]] = []
    execute_here(work, lambda *update: told.append(update), apart=True)
    rows = staged(work)
    assert len(rows) == len({row["item_id"] for row in rows}) == 8
    reasons = {"0001": "crashed", "0002": "crashed", "0005": "out_of_memory", "0006": "operator_error"}
    assert rejects(rows) == reasons
    assert sum(items for _, items, *_ in told) == 8 * stages


def test_operators_that_cannot_load_stop_the_run_in_their_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, TESTS])
    fails = {"op": "poison_operators:LoadFails", "name": "poison"}
    with pytest.raises(RunFailed, match=r"weights/net\.onnx is not there; download it"):
        execute_here(make_work(tmp_path / "run", draw(tmp_path / "in", 2), [fails]), apart=True)
    dies = fails | {"config": {"how": "segfault"}}
    with pytest.raises(RunFailed, match="cannot start"):
        execute_here(make_work(tmp_path / "again", draw(tmp_path / "in", 2), [dies]), apart=True)
