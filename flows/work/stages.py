"""Steps fused into stages, and stages given workers: what runs where, and whether it can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from swath.flows.work.worker import Stage
from swath.operators.core.base import BYTES, OPEN, Resources
from swath.operators.core.chain import BoundStep, Link, links_of
from swath.schemas.errors import ConfigurationError

SPARE_CPUS = 2
"""Ray Data hangs where its actor pools leave no CPU to the tasks that read and write, or to the filter that
a resumed run needs: one for each."""


NO_STEPS = "carry over"
"""The stage of rows in which nothing has to be computed."""


@dataclass(frozen=True)
class Cluster:
    """What the machines offer, in Ray's logical units."""

    cpus: float
    gpus: float
    cores: int
    """Physical cores; on a single small machine Ray is given more logical ones, for the light tasks."""


@dataclass(frozen=True)
class Pool:
    """A stage and how many workers it gets."""

    stage: Stage
    workers: int
    most: int = 0
    """How many it may get while it works, where the cluster has room for more by then."""


def fuse(steps: Sequence[BoundStep]) -> list[Stage]:
    """Neighbouring links that want the same resources, as one stage each; of no steps, one that hands rows on."""
    stages: list[Stage] = [] if steps else [Stage(NO_STEPS, (), Resources())]
    for _, group in groupby(links_of(steps), key=_shape):
        links = tuple(group)
        names = list(dict.fromkeys(link.step.name for link in links))
        stages.append(Stage(" + ".join(names), links, _resources(links), first=not stages, last=False))
    read = frozenset[str]().union(*(step.reads for step in steps))
    stages[0] = replace(stages[0], fetches=BYTES.name in read, opens=OPEN.name in read)
    return [*stages[:-1], replace(stages[-1], last=True)]


def pools(stages: Sequence[Stage], cluster: Cluster) -> list[Pool]:
    """Workers for each stage; raises ConfigurationError, with the arithmetic, where they cannot all run."""
    cpus = sum(stage.resources.cpus for stage in stages)
    gpus = sum(stage.resources.gpus for stage in stages)
    if gpus > cluster.gpus:
        raise ConfigurationError(
            f"the steps want {gpus:g} GPUs ({_sum(stages, 'gpus')}), there are {cluster.gpus:g}; "
            "set `resources: {gpus: 0}` on them, or run on a cluster that has some"
        )
    usable = cluster.cpus - SPARE_CPUS
    if cpus > usable:
        raise ConfigurationError(
            f"one worker of each stage wants {cpus:g} CPUs ({_sum(stages, 'cpus')}), there are {usable:g} "
            f"({cluster.cpus:g} less {SPARE_CPUS} for reading and writing); lower `resources: {{cpus: ...}}`, "
            "or wait for machines that are to join (`ray status`)"
        )
    workers = [1] * len(stages)
    left = min(usable, max(cluster.cores, cpus)) - cpus
    spare_gpus = cluster.gpus - gpus
    for index in _round_robin(stages, left, spare_gpus):
        workers[index] += 1
    return [Pool(stage, count) for stage, count in zip(stages, workers, strict=True)]


def _round_robin(stages: Sequence[Stage], cpus: float, gpus: float) -> list[int]:
    """One more worker to each stage in turn, for as long as there is room."""
    given: list[int] = []
    while True:
        before = len(given)
        for index, stage in enumerate(stages):
            wants = stage.resources
            if wants.cpus <= cpus and wants.gpus <= gpus:
                cpus, gpus = cpus - wants.cpus, gpus - wants.gpus
                given.append(index)
        if len(given) == before:
            return given


def _shape(link: Link) -> tuple[float, float]:
    wants = link.step.operator.resources
    return (1.0, 0.0) if link.half == "prepare" else (wants.cpus, wants.gpus)


def _resources(links: Sequence[Link]) -> Resources:
    cpus, gpus = _shape(links[0])
    loaded = (link.step.operator.resources.memory_bytes for link in links if link.half != "prepare")
    return Resources(cpus=cpus, gpus=gpus, memory_bytes=sum(loaded))


def _sum(stages: Sequence[Stage], what: str) -> str:
    return " + ".join(f"{getattr(stage.resources, what):g} for {stage.name}" for stage in stages)
