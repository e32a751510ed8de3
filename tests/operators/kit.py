"""What operator tests share: drawn pictures, items, a tiny model, and each operator with the least it needs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from swath.infra.scratch import Scratch
from swath.operators.core.base import GEOREF, GIVEN, SURROUNDINGS, Operator, Pixels
from swath.operators.core.chain import BoundStep, Chain, Row, Store, links_of
from swath.operators.core.resolve import built_in, resolve
from swath.operators.core.when import When
from swath.schemas.items import MANIFEST, Status, item_id, object_id

MODELS = Scratch("test")
"""Goes with this process."""


def field_picture(seed: int = 0, height: int = 240, width: int = 320) -> Pixels:
    """Green rows on brown soil, with blur and grain as a camera has them."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), (120, 92, 66), np.uint8)
    for x in range(10 + seed % 7, width, 32):
        cv2.line(pixels, (x, 0), (x + 12, height), (64, 142, 48), 9)
    pixels = cv2.GaussianBlur(pixels, (0, 0), 0.7)
    grain = random.normal(0, 4, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def page_picture(text: str = "Invoice 4711", height: int = 240, width: int = 640) -> Pixels:
    """Black text on white paper."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    for line, y in enumerate(range(50, height - 20, 50)):
        cv2.putText(pixels, f"{text} {line}", (30, y), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 2, cv2.LINE_AA)
    return pixels


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(pixels: Pixels, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


def taken() -> Image.Exif:
    """Exif as a drone writes it: when, where, with what."""
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "Drawn", "D-1"
    exif.get_ifd(IFD.Exif).update({Base.DateTimeOriginal: "2024:05:01 10:30:00", Base.FocalLength: 8.8})
    place = {GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (52.0, 30.0, 0.0), GPS.GPSAltitude: 101.5}
    place |= {GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: (13.0, 15.0, 0.0)}
    exif.get_ifd(IFD.GPSInfo).update(place)
    return exif


@dataclass(frozen=True)
class Opens:
    """Opens an item's file where it is read as a raster: its picture as a GeoTIFF, half of one where it is broken."""

    content: bytes

    def __call__(self, uri: str) -> io.BytesIO:
        return io.BytesIO(geotiff(self.content))


@cache
def geotiff(content: bytes) -> bytes:
    """A picture as a small GeoTIFF in a field in Brandenburg, at 10 cm a pixel."""
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin

    try:
        pixels, whole = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), True
    except OSError:
        pixels, whole = field_picture(), False
    place = {"crs": "EPSG:32633", "transform": from_origin(380_000, 5_820_000, 0.1, 0.1)}
    height, width = pixels.shape[:2]
    with MemoryFile() as file:
        with file.open(
            driver="GTiff", width=width, height=height, count=3, dtype="uint8", photometric="RGB", **place
        ) as raster:
            raster.write(pixels.transpose(2, 0, 1))
        written = bytes(file.getbuffer())
    return written if whole else written[: len(written) // 2]


def item(index: int, content: bytes = b"", document: str | None = None, **values: Any) -> Row:
    """A row as the engine hands it to the first operator; items with one `document` are its pages."""
    uri = f"file:///drawn/{document or index}"
    page = index + 1 if document else None
    row: Row = dict.fromkeys(column.name for column in MANIFEST)
    row |= {"item_id": item_id(uri, page), "object_id": object_id(uri), "source_uri": uri, "page": page}
    row |= {"bytes": content, "open": Opens(content), "size_bytes": len(content), "status": Status.OK, "seconds": {}}
    return row | {"reject_operator": None, "reject_reason": None, "reject_message": None} | values


def step(operator: Operator, name: str = "", when: str | None = None) -> BoundStep:
    return BoundStep(name or operator.op_name(), operator, When(when) if when else None)


def chain(*steps: BoundStep | Operator, store: Store | None = None) -> Chain:
    """A loaded chain of the steps."""
    bound = [one if isinstance(one, BoundStep) else step(one) for one in steps]
    built = Chain(links_of(bound), store=store)
    built.load()
    return built


def through(rows: Iterable[Row], *steps: BoundStep | Operator, store: Store | None = None) -> list[Row]:
    return list(chain(*steps, store=store).run(rows))


@cache
def tiny_classifier() -> Path:
    """An ONNX file that scores five classes by the mean colour of a 32 x 32 picture."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["colour"], keepdims=0),
            helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    path = MODELS.path / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@cache
def tiny_detector() -> Path:
    """An ONNX file that finds cells that are greener than red, or redder than green."""
    from tests.operators.onnx_models import green_cells

    return green_cells(MODELS.path / "cells.onnx")


@cache
def tiny_super_res() -> Path:
    """Weights that enlarge twice and change a little of what a bicubic enlargement is."""
    return _tiny_net("tiny_super_res", "super_resolution", "swath.super_res", {"scale": 2, "channels": 8, "blocks": 1})


@cache
def tiny_denoiser() -> Path:
    """Weights that change a little of every picture."""
    return _tiny_net("tiny_denoiser", "denoising", "swath.denoise", {"channels": 8, "pairs": 1})


def _tiny_net(name: str, task: Any, architecture: str, arguments: dict[str, Any]) -> Path:
    """One of our networks with random weights, whose last layer does little."""
    import torch

    from swath.operators.models.info import ModelInfo, write_weights
    from swath.operators.models.modules import build

    torch.manual_seed(1)
    info = ModelInfo(task=task, architecture=architecture, arguments=arguments)
    net: Any = build(info)
    torch.nn.init.normal_(net.tail.weight, std=0.02)
    path = MODELS.path / f"{name}.safetensors"
    write_weights(path, net.state_dict(), info)
    return path


@cache
def tiny_segmenter() -> Path:
    """An ONNX file whose classes are red, green and blue."""
    from tests.operators.onnx_models import brightest_channel

    return brightest_channel(MODELS.path / "channels.onnx")


@cache
def small_reference() -> Path:
    """A table of orders."""
    path = MODELS.path / "orders.csv"
    path.write_text("number,vendor,amount\nPO-0017,Acme Corp,119.00\n")
    return path


def minimal(op: str) -> Operator:
    """The operator with the least configuration with which it does something: a model, or what is off by default."""
    config: dict[str, dict[str, Any]] = {
        "classify": {"model": str(tiny_classifier()), "size": 32, "backend": "onnxruntime", "classes": "indices"},
        "image_kind": {"backend": "torch"},  # the same on every machine
        "index": {"indices": ("exg", "vari", "gli", "tgi"), "raster": True},
        "embed": {"model": str(tiny_classifier())},
        "denoise": {"model": str(tiny_denoiser()), "backend": "torch", "least_sigma": 0} if op == "denoise" else {},
        "detect": {"model": str(tiny_detector()), "classes": ("plant", "soil")},
        "segment": {"model": str(tiny_segmenter()), "classes": ("red", "green", "blue")},
        "overlay": {"draw": ("detections", "width_px"), "longest_side": 200, "format": "png"},
        "preprocess": {"longest_side": 200, "white_balance": "grey_world", "local_contrast": 2.0, "deskew": True},
        "super_resolve": {"model": str(tiny_super_res()), "tile": 64} if op == "super_resolve" else {},
        "match_reference": {"reference": str(small_reference()), "key": "number", "names": {"issuer": "vendor"}},
    }
    return resolve(op).model_validate(config.get(op, {}))


def before(operator: Operator, candidates: Sequence[str] | None = None) -> list[Operator]:
    """What must stand before it in a pipeline, so that its input columns are there."""
    known = {column.name for column in (*GIVEN, GEOREF, SURROUNDINGS)} | operator.optional()
    chosen: list[Operator] = []
    wanted = [column.name for column in operator.inputs() if column.name not in known]
    for name in wanted:
        if name in ("pixels", "to_source"):
            maker = minimal("decode")
        else:
            ocr_first = sorted(candidates or built_in(), key=lambda op: op != "ocr")  # several operators read lines
            makers = (minimal(op) for op in ocr_first)
            maker = next(one for one in makers if name in {column.name for column in one.outputs()})
        if type(maker) not in {type(one) for one in chosen}:
            chosen += [one for one in before(maker) if type(one) not in {type(c) for c in chosen}] + [maker]
    return chosen
