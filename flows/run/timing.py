"""Where the time of a run went, and what would make it faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MUCH = 0.4
"""Share of the workers' time from which something is worth a word."""
SHORT_SECONDS = 20.0
"""Of all workers together: below that a run is its start, and says nothing of its steps."""


@dataclass(frozen=True)
class StageTime:
    """A stage, by its workers' time since they could be given work; shares of 1."""

    stage: str
    """Its steps, joined by ' + '."""
    workers: int
    items: int
    rate: float
    """Items a second that its workers could do if they never had to wait for other stages."""
    work: float
    store: float
    """Waiting for the object store: reading objects, writing rows and artifacts."""
    waiting_for_input: float
    waiting_for_downstream: float
    seconds: float
    """All of it, all workers together."""


def stage_times(stages: Mapping[str, Mapping[str, float]]) -> list[StageTime]:
    """The stages of a record that have done something, in their order.

    The slowest one is never blamed for its own waiting: idle time before it is time in which it, further down, could
    take no more; idle time in it and after it is time in which nothing came.
    """
    told = [(name, stage) for name, stage in stages.items() if stage["items"] and stage.get("work_seconds")]
    slowest = min(range(len(told)), key=lambda index: _rate(told[index][1]), default=0)
    times = []
    for index, (name, stage) in enumerate(told):
        work, store, idle = (stage.get(f"{kind}_seconds", 0.0) for kind in ("work", "store", "idle"))
        whole = work + store + idle
        before, after = (idle, 0.0) if index < slowest else (0.0, idle)
        shares = (work / whole, store / whole, after / whole, before / whole)
        times.append(StageTime(name, int(stage["workers"]), int(stage["items"]), _rate(stage), *shares, whole))
    return times


def advice(times: Sequence[StageTime], operators: Mapping[str, float]) -> str | None:
    """One sentence: what limits the run, and what would help; None where it was too short to tell."""
    if not times or sum(one.seconds for one in times) < SHORT_SECONDS:
        return None
    slowest = min(times, key=lambda one: one.rate)
    steps = {step: operators.get(step, 0.0) for step in slowest.stage.split(" + ")}
    step = max(steps, key=lambda one: steps[one])
    if slowest.waiting_for_input > MUCH:
        return (
            f"the workers had nothing to do for {slowest.waiting_for_input:.0%} of their time: the run is too short "
            "for so many, or others have the cores"
        )
    if slowest.store > MUCH * (slowest.work + slowest.store):
        return (
            f"the object store is the limit: its workers waited for it {slowest.store:.0%} of their time; more of them "
            f"(`resources: {{cpus: 0.5}}` on {step}) or machines nearer to it would help"
        )
    others = [one for one in times if one is not slowest]
    share = steps[step] / max(sum(steps.values()), 1e-9)
    told = f"{step} is the limit, {share:.0%} of the work of " + ("the slowest stage" if others else "all steps")
    if others:
        next_one = min(others, key=lambda one: one.rate)
        wanted = slowest.workers * next_one.rate / slowest.rate
        return (
            f"{told}; {wanted - slowest.workers:.1f} more workers for it, beside {slowest.workers}, would keep "
            f"{next_one.stage} busy"
        )
    return f"{told}; the run gets faster with the number of cores"


def _rate(stage: Mapping[str, float]) -> float:
    return stage["items"] * stage["workers"] / (stage["work_seconds"] + stage.get("store_seconds", 0.0))
