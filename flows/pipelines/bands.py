"""Whether the bands that steps need are there: by the pipeline itself, or by the headers of what it is to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from swath.operators.core.base import BANDS
from swath.operators.core.chain import BoundStep
from swath.operators.survey.band_roles import lacking
from swath.schemas.errors import ConfigurationError


def check_configured(steps: Sequence[BoundStep]) -> None:
    """Raises ConfigurationError where a step needs a band that the step which makes them says there is not."""
    for step, maker in _needing(steps):
        given = maker.operator.gives_bands()
        if given is not None and (missing := lacking(step.operator.needs_bands(), given)):
            raise ConfigurationError(
                f"step {step.name!r} needs {_bands(missing)}, which `bands` of {maker.name!r} does not name "
                f"({', '.join(given)}); name what each band of the files shows, or leave {step.name!r} out"
            )


def check_found(steps: Sequence[BoundStep], found: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    """Raises ConfigurationError where a step needs a band that none of the rasters has: the first of each kind, by URI
    and the roles that its header states. Where only some have it, the others become rejects."""
    for step, maker in _needing(steps):
        needed = step.operator.needs_bands()
        if not found or maker.operator.gives_bands() is not None:
            continue
        if all(lacking(needed, roles) for _, roles in found):
            uri, roles = min(found, key=lambda one: len(lacking(needed, one[1])))
            raise ConfigurationError(
                f"step {step.name!r} needs {_bands(lacking(needed, roles))}, and no raster says that it has it: {uri} "
                f"has {', '.join(roles)}; say what the bands are, in their order, with "
                f"`{maker.name}: {{bands: [red, green, blue, nir]}}`, or --set {maker.name}.bands=[...]"
            )


def _needing(steps: Sequence[BoundStep]) -> Iterator[tuple[BoundStep, BoundStep]]:
    """The steps that need bands for every item, each with the step that makes them."""
    maker: BoundStep | None = None
    for step in steps:
        if maker and step.when is None and step.operator.needs_bands():
            yield step, maker
        if BANDS.name in step.makes:
            maker = step


def _bands(roles: Sequence[str]) -> str:
    return f"the band {roles[0]}" if len(roles) == 1 else f"the bands {', '.join(roles)}"
