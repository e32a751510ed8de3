"""A failed run is told to a webhook."""

from __future__ import annotations

from typing import Any

from swath.infra.logs import scrubbed
from swath.infra.settings import settings

TIMEOUT_S = 10
RETRIES = 2


def notify(what: str, **details: Any) -> bool:
    """Posts `{"text": what, **details}` as JSON to the webhook of the settings; False where there is none.

    Raises httpx.HTTPError, whose text may hold the webhook's URL, where it does not take it.
    """
    url = settings().webhook_url
    if not url:
        return False
    import httpx

    with httpx.Client(timeout=TIMEOUT_S, transport=httpx.HTTPTransport(retries=RETRIES)) as client:
        client.post(url, json={"text": scrubbed(what), **details}).raise_for_status()
    return True


def on_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Prefect's hook for a flow that failed: tells what the flow's parameters and its last message say."""
    import httpx
    from prefect.logging import get_logger

    parameters: dict[str, Any] = flow_run.parameters
    audit = "AuditFailed" in str(state.message)
    said = str(state.message).partition("AuditFailed: ")[2] if audit else str(state.message)
    details = {name: str(parameters[name]) for name in ("run_id", "backfill_id", "pipeline", "source", "warehouse")
               if name in parameters}  # fmt: skip
    named = f"{flow.name} {details.get('pipeline', '')} ({flow_run.name})"
    try:
        notify(
            f"{named} {'was held back by its audit' if audit else 'failed'}: {said}",
            status="audit_failed" if audit else "failed",
            error=scrubbed(said),
            flow_run_id=str(flow_run.id),
            **details,
        )
    except httpx.HTTPError as error:  # a run is not the worse for it
        get_logger("swath").warning("the webhook of SWATH_WEBHOOK_URL did not take it (%s)", type(error).__name__)
