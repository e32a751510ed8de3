"""The rows of a block on which a worker has died, through child processes that may die too.

A child that dies is followed by another one, which starts with what the first was touching. Only what ends a fresh
child is rejected: whatever came before it, or a blow from outside, is no item's fault.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from swath.flows.work.alone import FROM_OUTSIDE, end_child, has_ended, kernel_oom_kills, start_child, tie_to_parent
from swath.flows.work.artifacts import Keeper
from swath.flows.work.clock import Clock
from swath.flows.work.heap import keep_freed_memory
from swath.flows.work.journal import Guard, Slot, Touch
from swath.flows.work.threads import limit_threads
from swath.infra.models import fetch
from swath.infra.scratch import Scratch
from swath.operators.core.base import Reject
from swath.operators.core.chain import Chain, Link, Row, reject
from swath.operators.models.reference import use_fetch
from swath.schemas.errors import RunFailed, SwathError
from swath.schemas.items import Reason
from swath.schemas.pipeline import Limits

START_SECONDS = 600
"""What starting a child and loading its models may take."""
STARTS = 5
"""How often in a row a child may end with no item in its hands."""
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Recipe:
    """What a child needs to build a worker's chain."""

    links: tuple[Link, ...]
    artifacts: str
    fingerprints: Mapping[str, str]
    threads: int
    limits: Limits

    @property
    def unit(self) -> str:
        """The column whose values are tried, and blamed, as one."""
        return "object_id" if self.links[0].of_objects else "item_id"

    @property
    def batch(self) -> int:
        return max(link.step.operator.resources.batch for link in self.links)


@dataclass(frozen=True)
class End:
    """How a child ended before its work did."""

    touch: Touch
    reason: Reason
    how: str
    from_outside: bool


def run_apart(recipe: Recipe, rows: Sequence[Row], suspects: frozenset[str]) -> list[Row]:
    """The rows through the chain, in their order; those that ended a fresh child rejected.

    Raises what loading the operators or storing artifacts raises, and RunFailed where no child can start.
    """
    accused = {row[recipe.unit] for row in rows if row["item_id"] in suspects}
    todo = [
        *_units(recipe, [row for row in rows if row[recipe.unit] in accused]),
        *_batches(recipe, [row for row in rows if row[recipe.unit] not in accused]),
    ]
    finished: dict[str, Row] = {}
    struck: Counter[str] = Counter()
    idle = 0
    while todo:
        done, end = _attempt(recipe, todo)
        finished |= {row["item_id"]: row for group in done for row in group}
        todo = todo[len(done) :]
        if end is None:
            continue
        group, *todo = todo
        idle = 0 if done or end.touch.item_ids else idle + 1
        if idle == STARTS:
            raise RunFailed(f"a process for {recipe.links[0].step.name!r} cannot start: {end.how}")
        if not end.touch.item_ids:
            todo = [group, *todo]
            continue
        name = group[0][recipe.unit]
        alone = not done and all(row[recipe.unit] == name for row in group)
        struck[name] += alone
        if alone and struck[name] > end.from_outside:
            finished |= {row["item_id"]: row for row in _rejected(recipe, group, end)}
        else:
            touched = {row[recipe.unit] for row in group if row["item_id"] in end.touch.item_ids}
            ahead = [row for row in group if row[recipe.unit] in touched]
            behind = [row for row in group if row[recipe.unit] not in touched]
            todo = [*_units(recipe, ahead), *([behind] if behind else []), *todo]
    return [finished[row["item_id"]] for row in rows]


def _units(recipe: Recipe, rows: Sequence[Row]) -> list[list[Row]]:
    return [list(group) for _, group in groupby(rows, key=lambda row: row[recipe.unit])]


def _batches(recipe: Recipe, rows: Sequence[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for unit in _units(recipe, rows):
        if batch and len(batch) + len(unit) > recipe.batch:
            yield batch
            batch = []
        batch = batch + unit
    if batch:
        yield batch


def _rejected(recipe: Recipe, rows: list[Row], end: End) -> list[Row]:
    for row in rows:
        reject(row, end.touch.step, Reject(end.reason, f"{end.how}, also when tried in a process of its own"))
        for name in {name for link in recipe.links for name in link.drops}:
            row.pop(name, None)
    return rows


def _attempt(recipe: Recipe, groups: list[list[Row]]) -> tuple[list[list[Row]], End | None]:
    """What one child finished of the groups, from the first on, and how it ended where it did not finish all."""
    slot = Slot.new()
    slot.rest()
    try:
        with Scratch("apart") as folder:
            (folder / "payload").write_bytes(pickle.dumps((recipe, groups), protocol=5))
            end = _child(recipe, folder, slot)
            done: list[list[Row]] = []
            while (result := folder / str(len(done))).exists():
                done.append(pickle.loads(result.read_bytes()))
            if (folder / "error").exists():
                error: SwathError = pickle.loads((folder / "error").read_bytes())
                raise error
            return done, None if len(done) == len(groups) else end
    finally:
        slot.close()


def _child(recipe: Recipe, folder: Path, slot: Slot) -> End:
    """Runs a child to its end, watching it."""
    limits, oom_kills = recipe.limits, kernel_oom_kills()
    verdict: str | None = None
    with open(folder / "log", "wb") as log:
        child = start_child(
            __name__, str(folder), str(slot.handle), stdout=log, stderr=subprocess.STDOUT, pass_fds=(slot.handle,)
        )
    guard = Guard(slot, child.pid, limits.seconds, limits.memory_bytes)
    deadline = time.monotonic() + START_SECONDS
    try:
        while not has_ended(child) and not (verdict := guard.reason()):
            if time.monotonic() > deadline and not (folder / "loaded").exists():
                raise RunFailed(f"a process for {recipe.links[0].step.name!r} did not start in {START_SECONDS} s")
            time.sleep(POLL_SECONDS)
        if verdict:
            guard.end()
    finally:
        status = end_child(child)
    touch = slot.read()
    if verdict == Reason.TIMED_OUT:
        return End(touch, Reason.TIMED_OUT, f"it took longer than {limits.seconds:g} s", False)
    if verdict:
        how = f"it took more than {limits.memory_bytes / 2**30:.2g} GiB of memory"
        return End(touch, Reason.OUT_OF_MEMORY, how, False)
    if status == -signal.SIGKILL and kernel_oom_kills() > oom_kills:
        return End(touch, Reason.OUT_OF_MEMORY, "the machine ran out of memory", True)
    if status >= 0:
        said = (folder / "log").read_text(errors="replace").strip().splitlines()
        how = f"its process exited with status {status}" + (f" ({said[-1][:300]})" if said else "")
        return End(touch, Reason.CRASHED, how, False)
    return End(touch, Reason.CRASHED, f"its process died of {signal.Signals(-status).name}", -status in FROM_OUTSIDE)


def _main(parent: str, folder: str, handle: str) -> None:
    tie_to_parent(int(parent))
    place, slot = Path(folder), Slot(int(handle))

    def leave(name: str, content: object) -> None:
        (place / f"{name}.part").write_bytes(pickle.dumps(content, protocol=5))
        (place / f"{name}.part").rename(place / name)

    try:
        recipe, groups = pickle.loads((place / "payload").read_bytes())
        limit_threads(recipe.threads)
        keep_freed_memory()
        use_fetch(fetch)
        chain = Chain(recipe.links, slot, Keeper(recipe.artifacts, recipe.fingerprints, slot, Clock()))
        chain.load()
        (place / "loaded").touch()
        for index, rows in enumerate(groups):
            finished = list(chain.run(rows))
            slot.rest()
            leave(str(index), finished)
    except SwathError as error:
        leave("error", error)
    except Exception as error:
        leave("error", RunFailed(f"{type(error).__name__}: {error}"))
    os._exit(0)  # no clean-up: a library that dies on its way out is no item's fault


if __name__ == "__main__":
    _main(*sys.argv[1:])
