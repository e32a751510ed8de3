"""Where a run's time went is told by stage, and what limits it in one sentence that is right."""

from __future__ import annotations

import time

import pytest

from swath.flows.run.timing import advice, stage_times
from swath.flows.work.clock import Clock


def stage(workers: int, items: int, work: float, store: float = 0.0, idle: float = 0.0) -> dict[str, float]:
    return {"workers": workers, "items": items, "work_seconds": work, "store_seconds": store, "idle_seconds": idle}


def test_every_moment_of_a_worker_counts_once() -> None:
    began = time.perf_counter()
    clock = Clock()
    with clock.at("work"):
        time.sleep(0.03)
        with clock.at("store"):
            time.sleep(0.06)
    time.sleep(0.01)
    spent = clock.take()
    assert sum(spent.values()) == pytest.approx(time.perf_counter() - began, abs=2e-3)
    assert spent["store"] > spent["work"] > spent["idle"] > 0.009
    assert sum(clock.take().values()) < 0.01


def test_idle_time_is_for_want_of_room_before_the_slowest_stage_and_of_input_after_it() -> None:
    stages = {
        "decode": stage(2, 1000, 40, 10, 150),
        "detect": stage(1, 1000, 100),
        "measure": stage(1, 1000, 20, 5, 75),
    }
    first, second, third = stage_times(stages)
    assert (first.work, first.store) == (0.2, 0.05)
    assert (first.waiting_for_input, first.waiting_for_downstream) == (0, 0.75)
    assert (second.rate, second.work) == (10, 1)
    assert (third.waiting_for_input, third.waiting_for_downstream) == (0.75, 0)
    assert first.rate == 1000 * 2 / 50


def test_the_slowest_stage_is_named_with_the_workers_that_would_feed_the_next() -> None:
    stages = {"exif + decode": stage(1, 900, 90), "classify": stage(1, 900, 30, 0, 60)}
    said = advice(stage_times(stages), {"exif": 5, "decode": 80, "classify": 30})
    assert said == (
        "decode is the limit, 94% of the work of the slowest stage; 2.0 more workers for it, beside 1, would keep "
        "classify busy"
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (stage(2, 900, 90), "decode is the limit, 80% of the work of all steps; the run gets faster with the number"),
        (stage(2, 900, 30, 60), "the object store is the limit: its workers waited for it 67% of their time"),
        (stage(2, 900, 30, 0, 60), "the workers had nothing to do for 67% of their time"),
        (stage(2, 9, 5), None),
        (stage(2, 0, 0, 0, 500), None),
    ],
)
def test_one_sentence_says_what_limits_a_run(given: dict[str, float], says: str | None) -> None:
    said = advice(stage_times({"exif + decode": given}), {"exif": 20, "decode": 80})
    assert said is None if says is None else says in str(said)


def test_records_of_earlier_versions_have_no_times() -> None:
    assert stage_times({"decode": {"workers": 2, "items": 9, "seconds": 1.0}}) == []
