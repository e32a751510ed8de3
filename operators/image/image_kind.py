"""What kind of image it is, so that a mixed bucket can be routed: `when: kind == 'document'`."""

from __future__ import annotations

from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from swath.operators.core.base import PREPARED, Batch, Reject
from swath.operators.image.classification import Classifier, Classifies, softmax
from swath.operators.models.networks import Array
from swath.schemas.columns import Column
from swath.schemas.errors import ModelError


class ImageKind(Classifies):
    """Tells documents, photos, pictures from the air or from space, and drawings or screens apart."""

    version: ClassVar[int] = 1

    model: str = "swath:image_kind"
    """A classifier that names its classes; the shipped one knows document, photo, aerial and drawing."""
    threshold: float = Field(default=0, ge=0, le=1)
    """Below this score the kind is left open (null)."""

    def outputs(self) -> tuple[Column, ...]:
        return (
            Column("kind", pa.string(), "document, photo, aerial (or from space), or drawing (or screen)"),
            Column("kind_score", pa.float32(), "Probability that it is that kind, 0 to 1"),
        )

    def check(self) -> None:
        super().check()
        if self.names() is None:
            raise ModelError(f"model {self.model!r} does not name its classes; give one that does, or use `classify`")

    def names(self) -> tuple[str, ...] | None:
        return self.described().classes

    def run(self, batch: Batch, model: Any) -> Batch:
        classifier: Classifier = model
        found = [self._kind(one, classifier) for one in self.outputs_of(classifier, batch[PREPARED.name])]
        return {"kind": [kind for kind, _ in found], "kind_score": [score for _, score in found]}

    def _kind(self, outputs: Array, classifier: Classifier) -> tuple[str | Reject | None, float | Reject]:
        checked = self.checked(outputs, classifier.names)
        if isinstance(checked, Reject):
            return checked, checked
        scores = softmax(self.cooled(checked))
        best = int(scores.argmax())
        score = float(scores[best])
        return (classifier.names or ())[best] if score >= self.threshold else None, score
