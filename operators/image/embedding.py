"""What a picture looks like as a vector: pictures that are alike point the same way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from swath.operators.core.base import PREPARED, Batch, Reject
from swath.operators.image.classification import SeesSquare
from swath.operators.models.files import WEIGHTS
from swath.operators.models.modules import architecture_of
from swath.operators.models.networks import Array, Network, open_network
from swath.schemas.columns import Column
from swath.schemas.items import Reason
from swath.schemas.types import EMBEDDING

HEADLESS = "swath.headless"


class Embed(SeesSquare):
    """Describes a picture by the features that a model pools before it names classes, as a vector of length 1."""

    version: ClassVar[int] = 1

    model: str = "swath:image_kind"
    """Of weights, the features before the last layer; an .onnx or .pt2 file gives the features itself, pooled over the
    picture where they have places."""

    def outputs(self) -> tuple[Column, ...]:
        doc = "Features of the picture, length 1, each -1 to 1 in half precision; their product is the cosine"
        return (Column("embedding", EMBEDDING, doc),)

    def check(self) -> None:
        """An ONNX file is tried on a black picture."""
        file = self.found()
        if file.path.suffix.lower() in WEIGHTS:
            self.check_weights(file)
            return
        self.check_size(file)
        network = self.load()
        self.tried(lambda prepared: network(self.normalised(prepared))[0])

    def load(self) -> Network:
        file = self.found()
        if file.path.suffix.lower() in WEIGHTS:
            arguments = {"architecture": architecture_of(file), "arguments": file.info.arguments}
            info = file.info.model_copy(update={"architecture": HEADLESS, "arguments": arguments})
            file = replace(file, info=info)
        return open_network(file, backend=self.backend, device=self.device, size=(self.side, self.side))

    def run(self, batch: Batch, model: Any) -> Batch:
        network: Network = model
        return {"embedding": [unit(one) for one in network(self.normalised(batch[PREPARED.name]))[0]]}


def unit(features: Array) -> list[float] | Reject:
    """The features, averaged over the picture where they are (C, H, W), as a vector of length 1 in half precision."""
    vector = features.astype(np.float64)
    vector = (vector.mean(axis=(1, 2)) if vector.ndim == 3 else vector).ravel()
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length):
        return Reject(Reason.OPERATOR_ERROR, "the model gave a feature that is no number for this picture")
    halved: list[float] = (vector / (length or 1.0)).astype(np.float16).astype(np.float32).tolist()
    return halved
