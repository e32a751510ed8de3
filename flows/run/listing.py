"""What a request asks to be listed: the manifest of its source."""

from __future__ import annotations

from swath.flows.pipelines.bands import check_found
from swath.flows.pipelines.binding import READABLE, Bound
from swath.flows.run.records import Request
from swath.flows.source.manifest import ManifestSummary, build_manifest
from swath.flows.upkeep.leave_out import stays_out


def list_source(request: Request, bound: Bound, warehouse: str, into: str) -> ManifestSummary:
    """The manifest of the whole source, written below a URI; without what the warehouse was told to forget or drop.

    Raises ConfigurationError too where a step needs a band that no raster has.
    """
    summary = build_manifest(
        request.source,
        request.pipeline,
        into,
        include=request.include,
        exclude=request.exclude,
        partition_by=request.partition_by,
        limit=request.limit,
        readable=READABLE,
        leave_out=stays_out(warehouse, request.pipeline.table.name),
    )
    if summary.bands:
        check_found(bound.steps, summary.bands)
    return summary
