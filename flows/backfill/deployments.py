"""The flows that `infra/prefect.yaml` deploys: a work pool's workers import them from here.

The one module that needs Prefect to be imported.
"""

from __future__ import annotations

from functools import partial

from prefect import flow  # noqa: TID253 - workers look for flows, which are made by this

from swath.flows.console.command import make_request
from swath.flows.local import services
from swath.flows.run.records import Record
from swath.infra import logs
from swath.schemas.errors import ConfigurationError, SwathError


@flow(name="nightly increment", flow_run_name="{pipeline}: {source}", persist_result=False)
def nightly(
    pipeline: str,
    source: str,
    warehouse: str = "./warehouse",
    partition_by: str | None = None,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    max_rejects: float | None = None,
    ray: str = "auto",
) -> str:
    """What `swath run` does: what is new or changed in the source, published. The run's state."""
    from swath.flows.run import process

    request = make_request(pipeline, source, warehouse, include, exclude, partition_by, None, None, max_rejects, ray)
    record: Record = _driven(partial(process.start, request))
    return str(record.status)


@flow(name="partition backfill", flow_run_name="{pipeline}: {source}", persist_result=False)
def backfill(
    pipeline: str,
    source: str,
    warehouse: str = "./warehouse",
    partition_by: str | None = None,
    partitions: list[str] | None = None,
    failed: bool = False,
    missing: bool = False,
    stale: bool = False,
    newest_first: bool = True,
    parallel: int = 2,
    max_rejects: float | None = None,
    retry: str | None = None,
    ray: str = "auto",
    resume: str | None = None,
) -> str:
    """What `swath backfill` does; `resume` names one to go on with. The backfill's id."""
    from swath.flows.backfill import backfill as work
    from swath.flows.backfill.flow import carry_out
    from swath.flows.backfill.records import Backfills
    from swath.flows.backfill.show import watcher
    from swath.flows.console.command import err

    if resume:
        found = Backfills(warehouse).load(resume)
    else:
        request = make_request(pipeline, source, warehouse, None, None, partition_by, None, None, max_rejects, ray)
        only = [name for name, asked in (("failed", failed), ("missing", missing), ("stale", stale)) if asked]
        found = work.new(
            request.model_copy(update={"retry": retry}),
            patterns=partitions or (),
            only=only,
            newest_first=newest_first,
            parallel=parallel,
        )
    logs.to_standard_error()
    with services.prefect_server(), watcher(err) as watching:
        told = carry_out(found, watching, audit_socket=services.audit_socket())
    work.check(told)
    return told.backfill_id


@flow(name="maintenance", flow_run_name="{warehouse}", persist_result=False)
def maintenance(
    warehouse: str = "./warehouse",
    snapshots_older_than: str = "7d",
    keep_snapshots: int = 10,
    retention: list[str] | None = None,
    gone_older_than: str | None = None,
) -> str:
    """What `swath maintain` does: small files together, old snapshots and orphans away."""
    from datetime import UTC, datetime

    from swath.flows.upkeep import units
    from swath.flows.upkeep.maintain import Policy, maintain
    from swath.flows.upkeep.retention import parse

    policy = Policy(
        older_than=units.age(snapshots_older_than),
        keep_snapshots=keep_snapshots,
        retention=tuple(parse(rule, datetime.now(UTC).date()) for rule in retention or ()),
        gone_older_than=units.age(gone_older_than) if gone_older_than else None,
    )
    return maintain(warehouse, policy).model_dump_json()


@flow(name="retry of rejects", flow_run_name="{warehouse}", persist_result=False)
def retry_rejects(warehouse: str = "./warehouse", reason: str | None = None, ray: str = "auto") -> str:
    """What `swath retry` does: rejected items once more, as the latest run of each pipeline asked for them."""
    from swath.flows.run import process

    try:
        requests = process.retries(warehouse, reason, services.ray_address(ray))
    except ConfigurationError:  # nothing is published yet, so that there are no rejects either
        return "nothing to retry"
    failures: list[SwathError] = []
    for request in requests:
        try:
            _driven(partial(process.start, request))
        except SwathError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return f"{len(requests)} runs"


def _driven(run: partial[Record]) -> Record:
    from swath.flows.console.command import err
    from swath.flows.console.report import reporter

    logs.to_standard_error()
    with services.prefect_server(), reporter(err) as report:
        return run(reporter=report, prefect=True, audit_socket=services.audit_socket())
