"""What the commands share: how a request is made of options, how a run is driven, how its outcome is told."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from swath.schemas.errors import ConfigurationError, SourceError, SwathError

if TYPE_CHECKING:
    from swath.flows.run.records import Record, Request

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def say(text: str, level: int = logging.INFO) -> None:
    """Tells a person, or a log, what is no result."""
    from swath.infra import logs

    if logs.is_json():
        logs.LOG.log(level, Text.from_markup(text).plain)
    else:
        err.print(text, soft_wrap=True)


def busy(doing: str) -> AbstractContextManager[object]:
    """A spinner, where there is a terminal."""
    return err.status(doing) if err.is_terminal else nullcontext()


def make_request(
    pipeline: str,
    source: str,
    warehouse: str,
    include: list[str] | None,
    exclude: list[str] | None,
    partition_by: str | None,
    settings: list[str] | None,
    limit: int | None,
    max_rejects: float | None,
    ray: str,
) -> Request:
    from swath.flows.pipelines.binding import bind, load, override
    from swath.flows.run.records import Request
    from swath.infra import storage

    loaded = override(load(pipeline), settings or [])
    bind(loaded)  # every mistake in it is found before anything is made or started
    source = storage.normalize(source)
    if storage.is_local(source) and not storage.local_path(source).exists():
        raise SourceError(f"{storage.local_path(source)}: there is no such folder or file")
    return Request(
        pipeline=loaded.pipeline,
        source=source,
        warehouse=storage.normalize(warehouse),
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        partition_by=partition_by,
        limit=limit,
        max_rejects=max_rejects,
        ray=ray_address(ray),
    )


def ray_address(ray: str) -> str:
    from swath.flows.local import services

    return services.ray_address(ray, say)


def check_reason(reason: str | None) -> None:
    from swath.schemas.items import Reason

    if reason and reason not in list(Reason):
        raise ConfigurationError(f"there is no reason {reason!r}; they are {', '.join(Reason)}")


@contextmanager
def driving(ray: str, direct: bool) -> Iterator[Callable[[Callable[..., Record]], Record]]:
    """How runs are driven: with Prefect unless told otherwise, and each with a reporter."""
    from swath.flows.console.report import reporter
    from swath.flows.local import services

    with_prefect = not direct and ray != "off"

    def drive(run: Callable[..., Record]) -> Record:
        with reporter(err) as report:
            return run(reporter=report, prefect=with_prefect, audit_socket=services.audit_socket())

    with services.prefect_server() if with_prefect else nullcontext():
        yield drive


def tell(drive: Callable[[], Record], warehouse: str, as_json: bool) -> None:
    """Drives a run and prints what came out of it, also where it failed."""
    from swath.flows.run.records import Runs

    began = datetime.now(UTC)
    try:
        record = drive()
    except SwathError:
        latest = next(Runs(warehouse).newest(), None)
        ended = latest is not None and latest.finished_at is not None and latest.finished_at >= began
        if latest is not None and ended and (as_json or latest.items):
            print_record(latest, as_json)
        raise
    print_record(record, as_json)


def print_record(record: Record, as_json: bool) -> None:
    from swath.flows.console.report import print_record, record_json

    if as_json:
        print(json.dumps(record_json(record), indent=1))
    else:
        print_record(out, record)


def print_services(services: dict[str, dict[str, object]]) -> None:
    from swath.flows.console.report import listing, show

    if not services:
        out.print("nothing is up; [cyan]swath up[/] starts a Prefect server, a Ray head and a warm audit worker")
        return
    table = listing("service", "state", "pid", "where")
    for name, service in services.items():
        state = "[green]up[/]" if service["up"] else "[red]gone[/]"
        if service["up"] and service.get("same_environment") is False:
            state = "[yellow]up, with other variables (AWS_*, AZURE_*, PG*, SWATH_* ...): not used[/]"
        table.add_row(name, state, str(service["pid"]), str(service.get("url") or service.get("socket", "")))
    show(out, table)
    if token := services.get("ray", {}).get("token"):
        out.print(f"Ray's dashboard asks for the token in {token}", soft_wrap=True, markup=False)
