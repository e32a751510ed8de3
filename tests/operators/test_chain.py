"""What a chain of operators promises for every row, with operators that do everything wrong."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pytest
from tests.operators.kit import chain, item, step, through

from swath.operators.core import chain as chain_module
from swath.operators.core.base import (
    PIXELS,
    PREPARED,
    TO_SOURCE,
    Artifact,
    Batch,
    Item,
    ItemOperator,
    ModelOperator,
    Operator,
    Reject,
    Resources,
    Transform,
    working,
)
from swath.operators.core.chain import Chain, Row, links_of
from swath.operators.core.geometry import cropping, map_points, scaling
from swath.schemas.columns import Column
from swath.schemas.errors import StorageUnavailable
from swath.schemas.items import MANIFEST, Reason

SIZE = next(column for column in MANIFEST if column.name == "size_bytes")
NUMBER = Column("number", pa.int64(), "A number")


def number(name: str = "number") -> tuple[Column, ...]:
    return (Column(name, pa.int64(), "A number"),)


def of_sizes(*sizes: int) -> list[Row]:
    """Rows told apart by their size_bytes."""
    return [item(i, size_bytes=size) for i, size in enumerate(sizes)]


def numbers(rows: list[Row], name: str = "number") -> list[Any]:
    return [row.get(name) for row in rows]


class Double(ItemOperator):
    """size_bytes times two; what it does for a size of 13 is told to it."""

    version: ClassVar[int] = 1
    on_13: str = ""

    def inputs(self) -> tuple[Column, ...]:
        return (SIZE,)

    def outputs(self) -> tuple[Column, ...]:
        return number()

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        if item["size_bytes"] == 13:
            match self.on_13:
                case "raises":
                    raise ValueError("thirteen")
                case "memory":
                    raise MemoryError
                case "rejects":
                    raise Reject(Reason.CORRUPT, "thirteen is broken")
                case "store":
                    raise StorageUnavailable("the store is down")
                case "undeclared":
                    return {"number": 26, "other": 1}
                case "nothing":
                    return {}
        return {"number": 2 * item["size_bytes"]}


class DoubleTogether(Operator):
    """The same, a batch at a time."""

    version: ClassVar[int] = 1
    resources: Resources = Resources(batch=32)
    on_13: str = ""

    def inputs(self) -> tuple[Column, ...]:
        return (SIZE,)

    def outputs(self) -> tuple[Column, ...]:
        return number()

    def load(self) -> list[int]:
        return []

    def run(self, batch: Batch, model: Any) -> Batch:
        model.append(len(batch["size_bytes"]))
        values: list[Any] = [2 * size for size in batch["size_bytes"]]
        if 13 in batch["size_bytes"]:
            match self.on_13:
                case "raises":
                    raise ValueError("thirteen")
                case "memory":
                    raise MemoryError
                case "value":
                    values[batch["size_bytes"].index(13)] = Reject(Reason.TOO_LARGE, "thirteen is much")
                case "short":
                    values = values[1:]
                case "undeclared":
                    return {"number": values, "other": values}
                case "nothing":
                    return {}
                case "not a batch":
                    return values  # type: ignore[return-value]
        return {"number": values}


class After(ItemOperator):
    """Reads what the one before it made."""

    version: ClassVar[int] = 1

    def inputs(self) -> tuple[Column, ...]:
        return (NUMBER,)

    def outputs(self) -> tuple[Column, ...]:
        return number("after")

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        return {"after": item["number"] + 1}


@pytest.mark.parametrize("bad_at", [0, 3, 31])
@pytest.mark.parametrize(
    ("operator", "reason", "message"),
    [
        (Double(on_13="raises"), Reason.OPERATOR_ERROR, "ValueError: thirteen (test_chain.py:"),
        (Double(on_13="memory"), Reason.OUT_OF_MEMORY, "more memory than there is"),
        (Double(on_13="rejects"), Reason.CORRUPT, "thirteen is broken"),
        (Double(on_13="undeclared"), Reason.OPERATOR_ERROR, "does not declare: ['other']"),
        (Double(on_13="nothing"), Reason.OPERATOR_ERROR, "left out: ['number']"),
        (DoubleTogether(on_13="raises"), Reason.OPERATOR_ERROR, "ValueError: thirteen (test_chain.py:"),
        (DoubleTogether(on_13="memory"), Reason.OUT_OF_MEMORY, "more memory than there is"),
        (DoubleTogether(on_13="value"), Reason.TOO_LARGE, "thirteen is much"),
        (DoubleTogether(on_13="short"), Reason.OPERATOR_ERROR, "returned 0 values of 'number' for 1 items"),
        (DoubleTogether(on_13="undeclared"), Reason.OPERATOR_ERROR, "does not declare: ['other']"),
        (DoubleTogether(on_13="nothing"), Reason.OPERATOR_ERROR, "left out: ['number']"),
        (DoubleTogether(on_13="not a batch"), Reason.OPERATOR_ERROR, "does not declare: [26], and left out"),
    ],
    ids=lambda value: f"{value.op_name()}-{value.on_13}" if isinstance(value, Operator) else None,
)
def test_whatever_goes_wrong_stays_with_its_row(operator: Operator, reason: Reason, message: str, bad_at: int) -> None:
    sizes = [100 + i for i in range(32)]
    sizes[bad_at] = 13
    rows = of_sizes(*sizes)
    ids = [row["item_id"] for row in rows]
    done = through(rows, step(operator, operator.op_name()), After())
    assert [row["item_id"] for row in done] == ids
    bad = done.pop(bad_at)
    assert (bad["status"], bad["reject_operator"], bad["reject_reason"]) == ("rejected", operator.op_name(), reason)
    assert message in bad["reject_message"]
    assert "number" not in bad
    assert "after" not in bad
    assert {row["status"] for row in done} == {"ok"}
    assert numbers(done, "after") == [2 * row["size_bytes"] + 1 for row in done]


def test_a_rejected_row_keeps_the_columns_of_earlier_steps() -> None:
    (row,) = through(of_sizes(13), step(Double(), "first"), Double(on_13="rejects"), After())
    assert row["first_number"] == 26
    assert "number" not in row
    assert "first" in row["seconds"]
    assert "after" not in row["seconds"]


def test_a_store_that_is_down_is_no_fault_of_an_item() -> None:
    with pytest.raises(StorageUnavailable):
        through(of_sizes(1, 13), Double(on_13="store"))


def test_a_batch_is_replayed_one_by_one_only_when_it_fails() -> None:
    built = chain(DoubleTogether(on_13="raises", resources=Resources(batch=4)))
    list(built.run(of_sizes(*range(1, 11), 13, 14)))
    assert built._models["double_together"] == [4, 4, 4, 1, 1, 1, 1]


@pytest.mark.parametrize("operator", [Double(), DoubleTogether()], ids=["item", "batch"])
def test_when_leaves_others_null_and_ok(operator: Operator) -> None:
    done = through(of_sizes(1, 5, 2, 7, 0), step(operator, operator.op_name(), "size_bytes > 2"))
    assert numbers(done) == [None, 10, None, 14, None]
    assert {row["status"] for row in done} == {"ok"}
    assert [operator.op_name() in row["seconds"] for row in done] == [False, True, False, True, False]


def test_when_that_cannot_be_decided_rejects_its_row_alone() -> None:
    rows = of_sizes(1, 2, 3)
    rows[1]["size_bytes"] = "two"
    done = through(rows, step(Double(), "double", "size_bytes > 1"))
    assert [row["status"] for row in done] == ["ok", "rejected", "ok"]
    assert done[1]["reject_operator"] == "double"
    assert "'two' cannot be compared with 1" in done[1]["reject_message"]
    assert numbers(done) == [None, None, 6]


def test_the_same_operator_twice_under_two_names() -> None:
    (row,) = through(of_sizes(4), Double(), step(Double(), "again"))
    assert (row["number"], row["again_number"]) == (8, 8)
    assert set(row["seconds"]) == {"double", "again"}


def test_every_step_is_timed() -> None:
    import time

    class Slow(Double):
        def process(self, item: Item, model: Any) -> dict[str, Any]:
            time.sleep(0.02)
            return super().process(item, model)

    for row in through(of_sizes(1, 2), Slow(), step(DoubleTogether(), "fast")):
        assert 0.02 <= row["seconds"]["slow"] < 0.2
        assert 0 < row["seconds"]["fast"] < 0.02


# Working images


class Paint(Transform):
    """Starts an image of a given size, said to be half the source's."""

    version: ClassVar[int] = 1
    side: int = 8
    extra: tuple[str, ...] = ()

    def inputs(self) -> tuple[Column, ...]:
        return ()

    def outputs(self) -> tuple[Column, ...]:
        return ()

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        side = self.side
        return {"pixels": np.zeros((side, side, 3), np.uint8), "to_input": scaling((2 * side, 2 * side), (side, side))}


class Crop(Transform):
    """Cuts off the first columns; what it returns may be wrong."""

    version: ClassVar[int] = 1
    left: int = 2
    wrong: str = ""

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS,)

    def outputs(self) -> tuple[Column, ...]:
        return ()

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        pixels = item["pixels"][:, self.left :]
        match self.wrong:
            case "unchanged":
                return {}
            case "no matrix":
                return {"pixels": pixels}
            case "no pixels":
                return {"to_input": cropping(self.left, 0)}
            case "flat matrix":
                return {"pixels": pixels, "to_input": cropping(self.left, 0)[:2]}
            case "floats":
                return {"pixels": pixels / 255, "to_input": cropping(self.left, 0)}
            case "grey":
                return {"pixels": pixels[..., 0], "to_input": cropping(self.left, 0)}
            case "empty":
                return {"pixels": pixels[:, :0], "to_input": cropping(self.left, 0)}
        return {"pixels": pixels, "to_input": cropping(self.left, 0)}


class Look(ItemOperator):
    """Reports the working image and where its corner lies in the source."""

    version: ClassVar[int] = 1

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS, TO_SOURCE)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("look", pa.list_(pa.float64()), "Width, and x and y of the corner in the source"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        corner = map_points(item["to_source"], [(0, 0)])[0]
        return {"look": [item["pixels"].shape[1], *corner.tolist()]}


def test_to_source_is_composed_over_transforms() -> None:
    unchanged = step(Crop(wrong="unchanged"), "unchanged")
    (row,) = through(of_sizes(1), Paint(), Crop(), unchanged, step(Crop(left=1), "second"), Look())
    assert row["look"] == [5, 6.0, 0.0]  # 3 of the half-size pixels are 6 of the source's


def test_a_transform_that_reads_no_pixels_starts_anew() -> None:
    (row,) = through(of_sizes(1), Paint(), Crop(), step(Paint(side=4), "again"), Look())
    assert row["look"] == [4, 0.0, 0.0]


@pytest.mark.parametrize("wrong", ["no matrix", "no pixels", "flat matrix", "floats", "grey", "empty"])
def test_a_transform_that_returns_no_image_or_no_matrix_rejects_its_item(wrong: str) -> None:
    bad = step(Crop(wrong=wrong), "crop", "size_bytes = 13")
    done = through(of_sizes(1, 13, 2), Paint(), bad, Look())
    assert [row["status"] for row in done] == ["ok", "rejected", "ok"]
    assert done[1]["reject_operator"] == "crop"
    assert "returned pixels" in done[1]["reject_message"]


ALIVE: list[weakref.ref[Any]] = []


class Watch(ItemOperator):
    """Counts the images that are still in memory, without reading any."""

    version: ClassVar[int] = 1

    def inputs(self) -> tuple[Column, ...]:
        return ()

    def outputs(self) -> tuple[Column, ...]:
        return number("alive")

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        gc.collect()
        return {"alive": sum(reference() is not None for reference in ALIVE)}


class PaintAndRemember(Paint):
    def process(self, item: Item, model: Any) -> dict[str, Any]:
        result = super().process(item, model)
        ALIVE.append(weakref.ref(result["pixels"]))
        return result


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    ALIVE.clear()


def test_pixels_are_freed_after_their_last_reader_and_bytes_after_theirs() -> None:
    before, after = step(Watch(), "before"), step(Watch(), "later")
    rows = [item(i, b"content") for i in range(3)]
    done = through(rows, PaintAndRemember(), before, Look(), after)
    assert numbers(done, "before_alive") == [1, 1, 1]
    assert numbers(done, "later_alive") == [0, 0, 0]
    assert not {"pixels", "to_source"} & {name for row in done for name in row}


def test_pixels_nobody_reads_are_freed_at_once_also_of_items_a_step_skips() -> None:
    done = through(of_sizes(1, 5, 1), PaintAndRemember(), Watch())
    assert numbers(done, "alive") == [0, 0, 0]
    ALIVE.clear()
    skipped = step(Look(), "look", "size_bytes > 2")
    done = through(of_sizes(1, 5, 1), PaintAndRemember(), skipped, Watch())
    assert numbers(done, "alive") == [0, 0, 0]


def test_a_working_column_of_an_operators_own_is_dropped_after_its_last_reader() -> None:
    class Bands(ItemOperator):
        version: ClassVar[int] = 1

        def inputs(self) -> tuple[Column, ...]:
            return ()

        def outputs(self) -> tuple[Column, ...]:
            return (working("bands", "(C, H, W)"),)

        def process(self, item: Item, model: Any) -> dict[str, Any]:
            return {"bands": np.ones((4, 2, 2))}

    class Total(ItemOperator):
        version: ClassVar[int] = 1

        def inputs(self) -> tuple[Column, ...]:
            return (working("bands", ""),)

        def outputs(self) -> tuple[Column, ...]:
            return number("total")

        def process(self, item: Item, model: Any) -> dict[str, Any]:
            return {"total": int(item["bands"].sum())}

    links = links_of([step(Bands()), step(Total()), step(Watch())])
    assert [link.drops for link in links] == [(), ("bands",), ()]
    (row,) = through(of_sizes(1), Bands(), Total(), Watch())
    assert row["total"] == 16
    assert "bands" not in row


@pytest.mark.parametrize("budget", [0, 8 * 8 * 3 * 2])
def test_a_batch_does_not_wait_past_the_memory_it_may_hold(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sizes(DoubleTogether):
        def inputs(self) -> tuple[Column, ...]:
            return (SIZE, PIXELS)

    monkeypatch.setattr(chain_module, "PIXEL_BUDGET", budget)
    built = chain(Paint(), Sizes())
    assert numbers(list(built.run(of_sizes(*range(7))))) == [2 * i for i in range(7)]
    held = budget // (8 * 8 * 3) + 1
    assert built._models["sizes"] == [held] * (7 // held) + [7 % held] * (7 % held > 0)


# Models in two halves


class Model(ModelOperator):
    """Sums the prepared rows together; keeps the batch sizes it saw."""

    version: ClassVar[int] = 1
    resources: Resources = Resources(batch=3)

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS, SIZE)

    def outputs(self) -> tuple[Column, ...]:
        return number("scored")

    def load(self) -> list[list[str]]:
        return []

    def prepare(self, item: Item) -> Any:
        assert set(item) == {"pixels", "size_bytes"}
        if item["size_bytes"] == 13:
            raise Reject(Reason.UNSUPPORTED, "thirteen cannot be prepared")
        if item["size_bytes"] == 14:
            raise ValueError("fourteen")
        return np.array([item["pixels"].shape[0], item["size_bytes"]])

    def run(self, batch: Batch, model: Any) -> Batch:
        model.append([*batch, len(batch[PREPARED.name])])
        stacked = np.stack(batch[PREPARED.name])
        if 15 in stacked[:, 1]:
            raise ValueError("fifteen")
        return {"scored": stacked.sum(axis=1).tolist()}


def test_a_model_is_fed_what_was_prepared_in_batches_and_nothing_else() -> None:
    built = chain(PaintAndRemember(), Model(), Watch())
    done = list(built.run(of_sizes(1, 13, 2, 14, 3, 4, 15, 5)))
    assert numbers(done, "scored") == [9, None, 10, None, 11, 12, None, 13]
    assert [row["status"] for row in done] == ["ok", "rejected", "ok", "rejected", "ok", "ok", "rejected", "ok"]
    assert [row["reject_reason"] for row in done if row["reject_reason"]] == [
        "unsupported",
        "operator_error",
        "operator_error",
    ]
    # Rows wait three at a time, rejected ones among them; of the last batch each is tried alone.
    assert [seen[-1] for seen in built._models["model"]] == [2, 2, 2, 1, 1]
    assert all(seen[:-1] == ["prepared"] for seen in built._models["model"])
    assert not any("prepared" in name for row in done for name in row)
    assert numbers(done, "alive")[0] == 0
    assert done[0]["seconds"]["model"] > 0


def test_a_models_halves_run_in_two_chains_and_only_the_second_loads_it() -> None:
    links = links_of([step(Paint()), step(Model(), "model", "size_bytes < 4")])
    assert [(link.half, link.drops) for link in links] == [
        ("whole", ("to_source",)),
        ("prepare", ("pixels",)),
        ("run", ("model:prepared",)),
    ]
    first, second = Chain(links[:2]), Chain(links[2:])
    first.load()
    second.load()
    assert "model" not in first._models
    middle = list(first.run(of_sizes(1, 4, 2)))
    assert ["pixels" in row for row in middle] == [False] * 3
    assert ["model:prepared" in row for row in middle] == [True, False, True]
    assert numbers(list(second.run(middle)), "scored") == [9, None, 10]


# Objects


class PageCount(Operator):
    """How many items an object has, on the first of them."""

    version: ClassVar[int] = 1
    scope: ClassVar[Literal["item", "object"]] = "object"
    resources: Resources = Resources(batch=2)

    def inputs(self) -> tuple[Column, ...]:
        return (SIZE,)

    def outputs(self) -> tuple[Column, ...]:
        return number("pages")

    def run(self, batch: Batch, model: Any) -> Batch:
        sizes = batch["size_bytes"]
        if sum(sizes) == 13:
            raise ValueError("thirteen in all")
        return {"pages": [len(sizes), *[None] * (len(sizes) - 1)]}


def pages(document: str, *sizes: int) -> list[Row]:
    return [item(i, document=document, size_bytes=size) for i, size in enumerate(sizes)]


def test_an_object_operator_sees_all_items_of_an_object_and_writes_to_the_first() -> None:
    rows = [*pages("a", 1, 2, 3), *pages("b", 4), *pages("c", 5, 6, 7, 8)]
    done = through(rows, PageCount(), step(Double(), "double"))
    assert numbers(done, "pages") == [3, None, None, 1, 4, None, None, None]
    assert numbers(done) == [2 * row["size_bytes"] for row in rows]


def test_rejected_items_are_not_shown_to_an_object_operator() -> None:
    rows = [*pages("a", 13, 2, 3), *pages("b", 4)]
    done = through(rows, step(Double(on_13="rejects"), "double"), PageCount())
    assert numbers(done, "pages") == [None, 2, None, 1]


def test_an_object_operator_that_raises_rejects_the_whole_object_and_no_other() -> None:
    done = through([*pages("a", 6, 7), *pages("b", 4, 5)], PageCount())
    assert [row["status"] for row in done] == ["rejected", "rejected", "ok", "ok"]
    assert numbers(done, "pages") == [None, None, 2, None]


@pytest.mark.parametrize("operator", [Double(on_13="raises"), DoubleTogether(on_13="raises")])
def test_a_step_that_sees_what_must_not_be_kept_does_not_quote_its_exceptions(operator: Operator) -> None:
    discreet = replace(step(operator), discreet=True)
    done = through(of_sizes(12, 13), discreet)
    assert [row["status"] for row in done] == ["ok", "rejected"]
    assert re.fullmatch(r"ValueError \(test_chain.py:\d+\)", done[1]["reject_message"])


# Artifacts


class Keep(ItemOperator):
    version: ClassVar[int] = 1

    def inputs(self) -> tuple[Column, ...]:
        return (SIZE,)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("mask", pa.string(), "Where the mask is kept"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        return {"mask": Artifact(bytes([item["size_bytes"]]), ".bin") if item["size_bytes"] else None}


def test_artifacts_are_kept_and_their_column_holds_the_uri() -> None:
    kept: dict[str, bytes] = {}

    def store(row: Row, name: str, artifact: Artifact) -> str:
        uri = f"kept://{name}/{row['item_id']}{artifact.suffix}"
        kept[uri] = artifact.content
        return uri

    done = through(of_sizes(1, 0, 2), step(Keep(), "thin"), store=store)
    assert [kept.get(row["thin_mask"]) for row in done] == [b"\1", None, b"\2"]
    assert all(row["item_id"] in row["thin_mask"] for row in done if row["thin_mask"])


# The journal


def test_every_item_is_named_before_it_is_touched_and_alone_when_a_batch_is_replayed() -> None:
    touched: list[tuple[str, int]] = []

    class Journal:
        def touch(self, item_ids: Any, step: str) -> None:
            touched.append((step, len(item_ids)))

        def rest(self) -> None:
            pass

    built = Chain(links_of([step(Double()), step(DoubleTogether(on_13="raises"), "together")]), journal=Journal())
    built.load()
    list(built.run(of_sizes(1, 13)))
    assert touched == [("double", 1), ("double", 1), ("together", 2), ("together", 1), ("together", 1)]


@pytest.mark.parametrize("make", [lambda: iter(()), list], ids=["iterator", "list"])
def test_nothing_in_nothing_out(make: Callable[[], Any]) -> None:
    assert list(chain(Double(), DoubleTogether(), PageCount()).run(make())) == []
