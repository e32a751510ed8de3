"""One band of a capture over another: by the cameras' models, or by registration, with what is left between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix
from swath.operators.survey.align import Plane, Residual, edges, registration, residual
from swath.operators.survey.lens import Lens, maps, unknown

MODEL, REGISTRATION, REFERENCE, NONE = "camera model", "registration", "reference", "none"


@dataclass(frozen=True)
class Laid:
    """A band in the pixels of the reference."""

    plane: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    """(H, W) where it has any."""
    method: str
    residual: Residual | None
    failed: str | None = None
    """Why it does not lie where it should, or nobody can say."""

    @property
    def left(self) -> float:
        return self.residual.pixels if self.residual else np.inf


@dataclass(frozen=True)
class Reference:
    """The band over which the others are laid, without its distortion."""

    lens: Lens
    laid: Laid
    outlines: Plane
    """Its `edges`."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.laid.plane.shape


def reference_of(samples: npt.NDArray[Any], lens: Lens | None) -> Reference:
    """(H, W) samples as what others are laid over."""
    base = lens or Lens(np.eye(3), np.eye(3))
    plane, valid = _mapped(samples, base, base, samples.shape)
    return Reference(base, Laid(plane, valid, REFERENCE, None), edges(plane, valid))


def laid_over(
    reference: Reference, samples: npt.NDArray[Any], known: Lens | None, good: float, most: float, register: bool = True
) -> Laid:
    """One band over the reference: by its camera model, and by registration where it has none or more than `good`
    pixels are left; a band with more than `most` has failed. Without `register`, what is left is stated only."""
    plain = unknown(samples.shape, reference.lens, reference.shape)
    best = _placed(reference, samples, known or plain, MODEL if known else NONE)
    if not register:
        return best
    if known is not None and best.left > good:
        best = min(best, _registered(reference, samples, known, f"{MODEL}, {REGISTRATION}"), key=_left)
    if known is None or (best.residual and best.left > most):  # a model that misleads is worse than none
        best = min(best, _registered(reference, samples, plain, REGISTRATION), key=_left)
    if best.residual is None and known is None:
        why = "has no camera model, and too little in common with the reference to be registered"
        return replace(best, failed=why)
    if best.residual and best.left > most:
        return replace(best, failed=f"lies {best.left:.1f} pixels from where it should")
    return best


def _left(laid: Laid) -> float:
    return laid.left


def _registered(reference: Reference, samples: npt.NDArray[Any], lens: Lens, method: str) -> Laid:
    before = _placed(reference, samples, lens, NONE)
    correction = registration(reference.outlines, edges(before.plane, before.valid))
    return before if correction is None else _placed(reference, samples, lens, method, correction)


def _placed(
    reference: Reference, samples: npt.NDArray[Any], lens: Lens, method: str, correction: Matrix | None = None
) -> Laid:
    plane, valid = _mapped(samples, lens, reference.lens, reference.shape, correction)
    return Laid(plane, valid, method, residual(reference.outlines, edges(plane, valid)))


def _mapped(
    samples: npt.NDArray[Any], lens: Lens, base: Lens, shape: tuple[int, ...], correction: Matrix | None = None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    x, y = maps(lens, base, shape, correction)
    height, width = samples.shape
    valid = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    usable = samples if samples.dtype in (np.uint8, np.uint16, np.float32) else samples.astype(np.float32)
    return cv2.remap(usable, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), valid
