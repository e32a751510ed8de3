"""Operators that do harm on the items they are told to; `op: poison_operators:Poison` with tests/ on the path."""

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
from pydantic import Field

from swath.operators.core.base import BYTES, Batch, Item, ItemOperator, Operator
from swath.schemas.columns import Column
from swath.schemas.errors import StorageUnavailable
from swath.schemas.items import MANIFEST

_URI = next(column for column in MANIFEST if column.name == "source_uri")
LEAKED: list[np.ndarray[Any, Any]] = []


def harm(kind: str) -> None:
    """segfault, abort, exit, numpy, malloc, sleep, spin, raise, memory_error, leak (32 MiB), killed (from outside,
    as it were), nap (0.3 s)."""
    libc = ctypes.PyDLL(None)  # holds the GIL in its calls
    libc.malloc.restype = ctypes.c_void_p
    match kind:
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            os._exit(3)
        case "numpy":
            kept = []
            while True:
                kept.append(np.ones(32 << 20, np.uint8))
        case "malloc":
            while True:
                libc.memset(ctypes.c_void_p(libc.malloc(32 << 20)), 1, 32 << 20)
        case "sleep":
            time.sleep(3600)
        case "spin":
            libc.sleep(3600)  # to everybody else this is C code that never gives the GIL back
        case "raise":
            raise ValueError("this one, no")
        case "memory_error":
            np.ones(1 << 50, np.uint8)
        case "leak":
            LEAKED.append(np.ones(32 << 20, np.uint8))
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "nap":
            time.sleep(0.3)
        case _:
            raise AssertionError(kind)


class _Harmful(Operator):
    version: ClassVar[int] = 1
    on: dict[str, str] = Field(default={})
    """File stem to the kind of harm; `*` for all that are not named."""
    slow: float = 0
    """Seconds that every item takes."""

    def inputs(self) -> tuple[Column, ...]:
        return (_URI, BYTES)

    def outputs(self) -> tuple[Column, ...]:
        return (Column("length", pa.int64(), "Length of the file", "bytes"),)

    def touch(self, uri: str) -> None:
        kind = self.on.get(Path(uri).stem) or self.on.get("*")
        time.sleep(self.slow)
        if kind:
            harm(kind)


class Poison(_Harmful, ItemOperator):
    def process(self, item: Item, model: Any) -> dict[str, Any]:
        self.touch(item["source_uri"])
        return {"length": len(item["bytes"])}


class PoisonBatch(_Harmful):
    def run(self, batch: Batch, model: Any) -> Batch:
        for uri in batch["source_uri"]:
            self.touch(uri)
        return {"length": [len(content) for content in batch["bytes"]]}


class PoisonObject(_Harmful):
    scope: ClassVar[Literal["item", "object"]] = "object"

    def run(self, batch: Batch, model: Any) -> Batch:
        self.touch(batch["source_uri"][0])
        return {"length": [len(content) for content in batch["bytes"]]}


class OneSleeps(_Harmful, ItemOperator):
    """The first worker that comes sleeps for good; to all others the store is gone."""

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        try:
            (Path(unquote(urlsplit(item["source_uri"]).path)).parent / "taken").touch(exist_ok=False)
        except FileExistsError:
            raise StorageUnavailable("the store is gone") from None
        time.sleep(3600)
        return {"length": 0}


class Deadly:
    """A number that ends the process that wants to write it down."""

    def __index__(self) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


class Unwritable(_Harmful, ItemOperator):
    def process(self, item: Item, model: Any) -> dict[str, Any]:
        return {"length": Deadly() if Path(item["source_uri"]).stem in self.on else 0}


class LoadFails(_Harmful, ItemOperator):
    how: str = "raise"

    def load(self) -> Any:
        if self.how == "raise":
            raise RuntimeError("weights/net.onnx is not there; download it")
        harm(self.how)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        return {"length": 0}
