"""The one abstraction: an operator maps N items to the same N items, adding columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from swath.schemas.columns import Column, working
from swath.schemas.items import MANIFEST, Reason
from swath.schemas.pipeline import snake_case

Batch = dict[str, list[Any]]
"""Column name to one value an item; all lists have the same length."""
Item = Mapping[str, Any]
"""Column name to the value of one item."""
Pixels = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, sRGB."""
Matrix = npt.NDArray[np.float64]
"""(3, 3), maps homogeneous (x, y, 1) in continuous pixel coordinates: pixel (0, 0) covers [0, 1) x [0, 1)."""

BYTES = working("bytes", "Content of the object's first file; bytes")
PIXELS = working("pixels", "The working image; (H, W, 3) uint8, sRGB")
TO_SOURCE = working("to_source", "From working to source pixels; (3, 3) float64")
OPEN = working("open", "Opens a file of the object for reading by ranges; from its URI to a seekable binary file")
GIVEN: tuple[Column, ...] = (*MANIFEST, BYTES, OPEN)
"""The columns an item has before the first operator."""
GEOREF = working("georef", "Where the source's pixels lie on the ground; a Georef")
BANDS = working("bands", "The samples of all bands; Bands")
SURROUNDINGS = working("surroundings", "What lies around the item's window in its raster; Surroundings")
GROUND: tuple[Column, ...] = (GEOREF, BANDS, SURROUNDINGS)
"""What a step may make known of the ground (`swath.operators.core.ground`), under these names whatever the step is
called. Any step may read `georef` and `surroundings`: they are None where no step before made them."""
SKIPPED = Column("skipped", pa.string(), "Why no later step looked at the item: empty (no valid pixel); null otherwise")
"""A transform that finds nothing in an item says so here, under this name whatever the step is called: the item is no
reject, and no later step sees it."""


class Reject(Exception):
    """Raised (or returned as a value by `run`) for an item that cannot be processed."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Artifact:
    """Something to be kept beside the table; its column then holds the URI."""

    content: bytes
    suffix: str
    """File name ending with its dot: `.png`."""


class Resources(BaseModel):
    """What one worker of the operator wants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: float = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0)
    """A fraction shares a card."""
    memory_bytes: int = Field(default=0, ge=0)
    """What loading it adds to a worker's memory."""
    batch: int = Field(default=32, ge=1)
    """Items in one call of `run`."""


class Operator(BaseModel, ABC):
    """Configuration (frozen, validated, picklable) and behaviour of one kind of work.

    It never drops an item, never reorders, never overwrites a column of another. Heavy libraries are
    imported in `load`, `run` or `process`, never at the top of the module.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int]
    """Raised whenever results change."""
    no_results: ClassVar[tuple[str, ...]] = ()
    """Fields on which results do not depend, so that a change of them makes no row stale."""
    scope: ClassVar[Literal["item", "object"]] = "item"
    """object: `run` gets all items of one object at once and writes to the first; the others get None."""

    resources: Resources = Resources()

    @classmethod
    def op_name(cls) -> str:
        """The name in YAML: the class name in snake case."""
        return snake_case(cls.__name__)

    @abstractmethod
    def inputs(self) -> tuple[Column, ...]:
        """The columns it reads; may depend on the configuration. Where it names none it is given `item_id`."""

    def optional(self) -> frozenset[str]:
        """Names of the inputs that it can do without: they are None where no earlier step makes them."""
        return frozenset()

    @abstractmethod
    def outputs(self) -> tuple[Column, ...]:
        """The columns it adds, under its own names. A step that is not named after its operator gets them
        as `<step>_<column>`: the chain renames, the operator need not know."""

    def needs_pixels(self) -> int | None:
        """Length in pixels of the shorter side it can do with, where it reads pixels; None: full resolution."""
        return None

    def needs_bands(self) -> frozenset[str]:
        """Roles of the bands without which it can do nothing, such as nir."""
        return frozenset()

    def gives_bands(self) -> tuple[str, ...] | None:
        """Of one that makes `bands`: their roles, where its configuration says; None where only the files do."""
        return None

    def model_name(self) -> str | None:
        """The reference of the model it would load; kept with its digest on every row."""
        return None

    def model_digest(self) -> str | None:
        """Digest of the weights or language data it would load; part of its fingerprint."""
        return None

    def check(self) -> None:
        """Raises ConfigurationError (ModelError, MissingDependency) where it could not work; before a run starts."""

    def following(self, earlier: Sequence[Column]) -> Operator:
        """With everything decided that the columns of earlier steps decide, in their order; asked before `settled`."""
        return self

    def settled(self) -> Operator:
        """With everything decided that this machine decides (an engine that is installed here), before a run starts:
        so that all workers do the same, and the fingerprint says what."""
        return self

    def load(self) -> Any:
        """What is built once a worker (weights, sessions) and handed to every `run`."""
        return None

    def produced(self) -> list[str]:
        """The columns that `run` returns."""
        return [column.name for column in self.outputs()]

    @abstractmethod
    def run(self, batch: Batch, model: Any) -> Batch:
        """Only the output columns, in input order. A `Reject` in place of a value rejects that item."""


class ItemOperator(Operator):
    """An operator that looks at one item at a time."""

    @abstractmethod
    def process(self, item: Item, model: Any) -> dict[str, Any]:
        """The output columns of one item; raises Reject."""

    def run(self, batch: Batch, model: Any) -> Batch:
        declared = self.produced()
        results = [self._attempt(item, model, declared) for item in rows(batch)]
        return {name: [result[name] for result in results] for name in declared}

    def _attempt(self, item: Item, model: Any, declared: list[str]) -> dict[str, Any]:
        try:
            result = self._completed(self.process(item, model))
        except Reject as reject:
            return dict.fromkeys(declared, reject)
        must_be(declared, result)
        return result

    def _completed(self, result: dict[str, Any]) -> dict[str, Any]:
        return result


class Transform(ItemOperator):
    """The one kind of operator that replaces the working image.

    `process` returns, beside its own columns, `pixels` (the new working image) and `to_input` ((3, 3), from
    the new working pixels to those it was given; see `swath.operators.core.geometry`). The chain composes
    `to_source` from it, so no transform can get that wrong. Unchanged: return neither. One that does not read
    `pixels` starts anew: its `to_input` leads to the source itself.
    """

    def produced(self) -> list[str]:
        return [*super().produced(), "pixels", "to_input"]

    def _completed(self, result: dict[str, Any]) -> dict[str, Any]:
        result = {"pixels": None, "to_input": None, **result}
        must_be_image(result["pixels"], result["to_input"])
        return result


class ModelOperator(Operator):
    """An operator with a `prepare` half that turns pixels into a model's small input on a CPU worker, and a
    `run` half that sees only that (column `prepared`), where the model lives."""

    @abstractmethod
    def prepare(self, item: Item) -> Any:
        """The model's input for one item, from the columns of `inputs()`; raises Reject."""


PREPARED = working("prepared", "A model's input for one item")


def rows(batch: Batch) -> list[dict[str, Any]]:
    """The batch as one dict an item."""
    names = list(batch)
    return [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def must_be(declared: Collection[str], columns: Collection[str]) -> None:
    """Raises ValueError unless the columns are those an operator declares."""
    missing = [name for name in declared if name not in columns]
    if missing or len(columns) != len(declared):
        surplus = [name for name in columns if name not in declared]
        raise ValueError(f"returned columns it does not declare: {surplus}, and left out: {missing}")


def must_be_image(pixels: Any, to_input: Any) -> None:
    """Raises ValueError unless the two are what a transform may return."""
    if pixels is None and to_input is None:
        return
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[2:] == (3,) and pixels.size):
        what = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ValueError(f"returned pixels that are no (H, W, 3) uint8: {what}")
    if np.shape(to_input) != (3, 3):
        raise ValueError(f"returned pixels with a to_input that is no (3, 3) matrix: {np.shape(to_input)}")


def configuration(operator: Operator) -> dict[str, Any]:
    """Everything that decides results, as plain JSON values. The same in every process."""
    left = {"resources", *operator.no_results}
    plain: dict[str, Any] = _ordered(operator.model_dump(exclude=left), operator.model_dump(mode="json", exclude=left))
    return plain


def _ordered(value: Any, plain: Any) -> Any:
    """The plain form of a value, with its sets sorted: those of texts have another order in every process."""
    if isinstance(value, dict):
        return {key: _ordered(*pair) for key, *pair in zip(plain, value.values(), plain.values(), strict=True)}
    if isinstance(value, set | frozenset):
        return sorted(plain, key=repr)
    if isinstance(value, list | tuple):
        return [_ordered(*pair) for pair in zip(value, plain, strict=True)]
    return plain
