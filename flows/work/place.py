"""Where a wave is worked on: on Ray, in a process beside the driver, or in the driver itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from swath.flows.work import engine
from swath.flows.work.stages import SPARE_CPUS, Cluster, Pool, pools
from swath.flows.work.worker import Stage

FEW = 8
"""Items up to which a wave does without Ray where that would be this machine anyway: one process has done as many of
the slowest shipped step (1.3 s a page) by the time that Ray has workers (5 s) and two of them have done theirs."""

ANY = 1 << 16
"""More workers than a wave has blocks."""

A_WORKERS_WORTH = 256
"""Items for which one more worker of each stage is called from machines that are not there yet, and take minutes."""


def without_ray(address: str, items: int) -> bool:
    """Whether a wave of so many items does not need the cluster at the address."""
    return address == "off" or (items <= FEW and engine.is_here(address))


def place(stages: Sequence[Stage], address: str, items: int, share: int = 1) -> list[Pool]:
    """The stages of a wave with their workers, where so many runs share the cluster.

    Raises ConfigurationError for a stage that has no room there."""
    if address == "off":
        return [Pool(stage, 1) for stage in stages]
    if without_ray(address, items):
        return [Pool(pool.stage, 1) for pool in pools(stages, engine.cluster("local"))]
    useful = max(1, math.ceil(items / A_WORKERS_WORTH)) * share
    cpus, gpus = (useful * sum(getattr(one.resources, what) for one in stages) for what in ("cpus", "gpus"))
    whole = engine.cluster(address, Cluster(cpus + SPARE_CPUS, gpus, cores=0))
    given = pools(stages, shared(whole, share))
    # A machine may join that nobody has spoken of; a run that is alone on its cluster takes that too.
    return given if engine.is_here(address) or share > 1 else [replace(pool, most=ANY) for pool in given]


def shared(whole: Cluster, runs: int) -> Cluster:
    """The part of a cluster that each of so many runs may use: their workers must never wait for each other's CPUs,
    of which none would let go. The CPUs for reading and writing serve them all."""
    usable = max(0.0, whole.cpus - SPARE_CPUS)
    return Cluster(cpus=usable / runs + SPARE_CPUS, gpus=whole.gpus / runs, cores=max(1, whole.cores // runs))
