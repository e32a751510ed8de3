"""One wave of a plan executed: each part's items through the steps that it needs, into staged rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from swath.flows.pipelines.binding import Bound
from swath.flows.run.blocks import blocks
from swath.flows.run.plan import ALL, Outdated, Plan, Wave
from swath.flows.run.records import Record, Runs
from swath.flows.run.reporter import Reporter
from swath.flows.work import engine
from swath.flows.work.clock import Spent
from swath.flows.work.files import keep, local_files
from swath.flows.work.inprocess import execute_here
from swath.flows.work.nodes import needs_of
from swath.flows.work.place import place, without_ray
from swath.flows.work.stages import Pool, fuse
from swath.flows.work.wave import Work, read_block
from swath.flows.work.worker import Context, Rejected
from swath.infra import storage
from swath.infra.lake import Cell, Lake
from swath.infra.logs import LOG
from swath.operators.core.chain import BoundStep
from swath.schemas.errors import ConfigurationError

SHARES_A_WORKER = 2
"""Of what is left when a block is cut, so that none sits idle for long while another does the last one."""
SHARE = ("blocks", "items", "seconds")
"""What is told of a node, for each stage."""


@dataclass(frozen=True)
class Execution:
    """What is needed to execute a wave of a run."""

    record: Record
    plan: Plan
    wave: Wave
    bound: Bound
    lake: Lake
    folder: str
    """URI below which the wave's blocks and suspects are kept."""

    def run(self, rows: str, reporter: Reporter, join_ray: Callable[[], None], waiting: Callable[[str], None]) -> None:
        """Stages the rows of all parts below a URI; what is staged already is not done again. `waiting` hears what is
        waited for."""
        of = {"run": self.record.run_id, "pipeline": self.record.pipeline, "wave": self.wave.number}

        def watch(
            stage: str,
            items: int,
            rejects: int,
            spent: Spent,
            some: Sequence[Rejected],
            node: str = "",
            blocks: int = 1,
        ) -> None:
            for one in some:
                LOG.warning("rejected", extra=of | dict(one))
            told = self.record.stages[stage]
            told["items"] += items
            for kind, seconds in spent.items():
                told[f"{kind}_seconds"] = round(told.get(f"{kind}_seconds", 0.0) + seconds, 4)
            if node:
                there = self.record.nodes.setdefault(node, {}).setdefault(stage, dict.fromkeys(SHARE, 0.0))
                for name, value in zip(SHARE, (blocks, items, spent["work"] + spent["store"]), strict=True):
                    there[name] = round(there[name] + value, 4)
            reporter.advance(stage, items, rejects)

        address = self.record.request.ray
        for part, items in self.wave.parts.items():
            steps = [step for step in self.bound.steps if step.name in self.plan.parts[part].steps]
            here = not steps or without_ray(address, items)
            if not here:
                join_ray()
            given, cut = self._cut(part, steps, here)
            for pool in given:
                self.record.stages.setdefault(pool.stage.name, {"workers": pool.workers, "items": 0, "seconds": 0.0})
            reporter.expect([pool.stage.name for pool in given], self.plan.parts[part].items)
            context = self._context(steps)
            if not here and not engine.is_here(address):
                context = self._shared(context, steps, cut[0])
            work = Work(cut, rows, given, context)
            if here:
                execute_here(work, watch, apart=address != "off")
            else:
                engine.execute(work, watch, waiting)

    def _cut(self, part: int, steps: list[BoundStep], here: bool) -> tuple[list[Pool], list[str]]:
        """The workers for a part's steps, and its blocks."""
        address, items, stages = self.record.request.ray, self.wave.parts[part], fuse(steps)
        given = place(stages, address, items, self.record.request.share) if steps else [Pool(stages[0], 1)]
        # A block that is done apart has a process started for it, so then there is one.
        shares = 1 if here and address != "off" else SHARES_A_WORKER * max(pool.workers for pool in given)
        if any(pool.most > pool.workers for pool in given):
            shares *= 2  # so that something is left for a machine that joins when each worker has its first two
        carried = {} if part == ALL else {"schema": self.bound.schema, "rows": self._carried()}
        into = storage.join(self.folder, "blocks", str(part))
        whole = any(step.operator.scope == "object" for step in steps)
        cut = blocks(self.wave.pending, part, into, shares, **carried, whole=whole)
        return [Pool(pool.stage, min(pool.workers, len(cut)), min(pool.most, len(cut))) for pool in given], cut

    def _shared(self, context: Context, steps: list[BoundStep], block: str) -> Context:
        """For workers on other machines: with what those must have, and with the files of this one that they need."""
        lake, files = self.lake.warehouse, local_files(step.operator for step in steps)
        if remote := not storage.is_local(lake):
            context = replace(context, files=keep(files, storage.join(lake, "_swath", "files")))
        mark = storage.join(Runs(lake).folder(self.record.run_id), "run.json")
        source = read_block(block).column("source_uri")[0].as_py()
        return replace(context, needs=needs_of(lake, mark, source, () if remote else files))

    def _carried(self) -> list[str]:
        """The files with the rows from which columns are carried over, as the plan has seen them."""
        cells = {Cell(cell.partition, cell.bucket) for cell in self.wave.carried_from}
        try:
            found = self.lake.files(self.record.table, cells, snapshot_id=self.plan.snapshot_id)
        except ConfigurationError:
            raise Outdated(f"the snapshot that run {self.record.run_id} was planned from has expired") from None
        return [file.path for file in found]

    def _context(self, steps: list[BoundStep]) -> Context:
        pipeline = self.bound.pipeline
        return Context(
            run_id=self.record.run_id,
            wave=self.wave.number,
            columns=self.bound.columns,
            fingerprint=self.bound.fingerprint,
            fingerprints=self.bound.fingerprints,
            models=self.bound.models,
            makes={step.name: tuple(sorted(step.makes)) for step in self.bound.steps},
            runs=tuple(step.name for step in steps),
            limits=pipeline.limits,
            suspects=storage.join(self.folder, "suspects"),
            artifacts=storage.join(self.lake.warehouse, "artifacts", pipeline.name),
        )
