"""A wave that does not move says what it waits for, and is given up where nobody is at work on it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.flows.small_work import draw, make_work, staged

from swath.flows.work import engine, waiting
from swath.flows.work.waiting import Patience, Standing
from swath.schemas.errors import RunFailed


def test_what_moves_is_not_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "TELL_SECONDS", 0.5)
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.05)
    told: list[str] = []
    with Patience(lambda: Standing(False, "a bus"), told.append, lambda: None) as patience:
        for _ in range(20):
            time.sleep(0.05)
            patience.moved()
        assert not told
        time.sleep(1)
    assert "a bus" in told[0]
    assert not patience.gave_up


def test_those_who_are_at_work_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("TELL_SECONDS", 0.1), ("LOOK_SECONDS", 0.05), ("GIVE_UP_SECONDS", 0.4)):
        monkeypatch.setattr(waiting, name, seconds)
    ended: list[bool] = []
    with Patience(lambda: Standing(True, "a block"), lambda _: None, lambda: ended.append(True)):
        time.sleep(1)
    assert not ended
    with Patience(lambda: Standing(False, "a CPU"), lambda _: None, lambda: ended.append(True)) as patience:
        time.sleep(1)
    assert ended
    assert "a CPU" in patience.gave_up


def test_a_wave_for_which_no_cpu_is_free_says_so_and_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    engine.start("local")
    try:
        cpus = ray.cluster_resources()["CPU"]

        @ray.remote(num_cpus=cpus)
        class Other:
            def here(self) -> bool:
                return True

        other = Other.remote()
        assert ray.get(other.here.remote())
        work, told = make_work(tmp_path / "run", draw(tmp_path / "in", 16), ["decode"]), []
        monkeypatch.setattr(waiting, "TELL_SECONDS", 1)
        monkeypatch.setattr(waiting, "GIVE_UP_SECONDS", 4)
        with pytest.raises(RunFailed, match=rf"nobody was at work for .* want 2 CPUs, and 0 of {cpus:g} are free"):
            engine.execute(work, None, told.append)
        assert "nothing has moved" in told[0]
        ray.kill(other)
        monkeypatch.undo()
        engine.execute(work)
        assert len(staged(work)) == 16
    finally:
        engine.stop()
