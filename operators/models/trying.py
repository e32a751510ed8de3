"""Trying a model out before a run starts, so that what it cannot do is told at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from swath.operators.core.base import Reject
from swath.schemas.errors import ModelError, SwathError

T = TypeVar("T")


def tried(model: str, given: str, run: Callable[[], T]) -> T:
    """What `run` answers. Raises ModelError, naming what the model was `given`, where it fails on that."""
    try:
        return run()
    except SwathError:
        raise
    except Reject as reject:
        raise ModelError(f"model {model!r} fails on {given}: {reject.message}; it is of no use") from reject
    except Exception as error:  # those of the backends share no base but this
        reason = " ".join(str(error).split())[-300:]  # they say where in their own code first
        remedy = "export it for RGB pictures, (N, 3, H, W), of that size"
        raise ModelError(f"model {model!r} fails on {given}: {reason}; {remedy}") from error
