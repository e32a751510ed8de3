"""Models as functions from arrays to arrays, run by torch, ONNX Runtime or OpenVINO, on a CPU or a card."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swath.operators.models.files import threads
from swath.operators.models.modules import torch_module
from swath.operators.models.reference import ModelFile
from swath.schemas.errors import MissingDependency, ModelError

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]
Infer = Callable[[Array], Arrays]
"""(N, 3, H, W) float32 to the model's outputs, each with N rows."""
Backend = Literal["auto", "torch", "torch-bf16", "onnxruntime", "openvino", "openvino-bf16"]
Axes = Literal["auto", "nchw", "nhwc"]
"""auto: what the shape of the model's input says; nchw where it does not."""
FILLED = 0.8
"""Share of a card's free memory that pictures may take."""
MEASURED = Path(__file__).with_name("backends.json")
"""What `make bench-models` measured: for each kind of file the backends whose outputs agree, the fastest first."""


@dataclass(frozen=True)
class Network:
    """A loaded model."""

    name: str
    sha256: str
    backend: str
    device: str
    infer: Infer

    def __call__(self, images: Array) -> Arrays:
        """Its outputs, float32 arrays with N rows each, of (N, H, W, 3) float32 pictures that are normalised already.

        Raises ModelError where the model does not take them.
        """
        return self.infer(images.transpose(0, 3, 1, 2))


def open_network(
    file: ModelFile,
    *,
    backend: str = "auto",
    device: str = "cpu",
    size: tuple[int, int] | None = None,
    axes: Axes = "auto",
    ranks: bool = False,
) -> Network:
    """Loads a model. `size` is the (height, width) it will be given; that of its own description where left out.
    `axes` says how an ONNX model takes the axes of a picture, `ranks` what `choose` asks.

    Raises ModelError where it cannot be loaded, MissingDependency where the backend is not installed.
    """
    chosen = choose(file, backend, device, ranks)
    package = chosen.partition("-")[0]
    half = _is_half(chosen)
    side = file.info.size or 224
    height, width = size or (side, side)
    if package == "onnxruntime":
        infer = _onnxruntime(file.path, device, axes)
    elif package == "openvino":
        infer = _openvino(file, (height, width), half, axes)
    elif device == "cpu":
        infer = _torch_cpu(file, (height, width), half)
    else:
        infer = _torch_card(file, device)
    return Network(file.name, file.sha256, chosen, device, infer)


def choose(file: ModelFile, backend: str = "auto", device: str = "cpu", ranks: bool = False) -> str:
    """The backend that is meant: for `auto` the fastest that is installed here and, as measured, answers the same.

    What was measured is which class comes first, so half precision is chosen where the classes' order is all that
    counts (`ranks`): it would be seen in pictures, and shift boxes by pixels.

    Raises ModelError where it cannot run such a file, MissingDependency where it is not installed.
    """
    onnx = file.path.suffix.lower() == ".onnx"
    if backend == "auto":
        if device != "cpu":
            return "onnxruntime" if onnx else "torch"
        order = _preferred("onnx" if onnx else "weights")
        return next(one for one in order if _runs_here(one) and (ranks or not _is_half(one)))
    package = backend.partition("-")[0]
    own = "onnxruntime" if onnx else "torch"
    if package not in (own, "openvino"):
        raise ModelError(f"model {file.name!r} cannot be run by {backend}; use {own} or openvino")
    if not _installed(backend):
        raise MissingDependency(f"{package} is not installed; `pip install {package}`, or use `backend: auto`")
    return backend


def onnx_session(path: Path, device: str = "cpu") -> Any:
    """An `onnxruntime.InferenceSession` with the worker's threads; ModelError where it cannot be read."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    card = ["CUDAExecutionProvider"] if device != "cpu" else []
    there = [one for one in card if one in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[*there, "CPUExecutionProvider"])
    except Exception as error:  # its errors share no base but this
        raise ModelError(f"model {str(path)!r} cannot be read as ONNX: {error}") from error


def _preferred(kind: str) -> Sequence[str]:
    measured: dict[str, dict[str, list[str]]] = json.loads(MEASURED.read_text())
    return measured["default"][kind]


@cache
def _runs_here(backend: str) -> bool:
    return _installed(backend) and (not _is_half(backend) or _knows_bf16())


def _installed(backend: str) -> bool:
    return importlib.util.find_spec(backend.partition("-")[0]) is not None


def _is_half(backend: str) -> bool:
    return backend.endswith("-bf16")


def _knows_bf16() -> bool:
    """Whether the processor computes with bfloat16 itself; where it does not, that is slower than with float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _onnxruntime(path: Path, device: str, axes: Axes) -> Infer:
    session = onnx_session(path, device)
    given = session.get_inputs()
    shape = given[0].shape
    _check_inputs(path, [(one.name, one.type, one.shape) for one in given], ("tensor(float)", "tensor(float16)"))
    last, most = _channels_last(shape, axes), shape[0] if isinstance(shape[0], int) else None
    name, kind = given[0].name, np.float16 if given[0].type == "tensor(float16)" else np.float32

    def infer(images: Array) -> Arrays:
        laid = _fitting(images.transpose(0, 2, 3, 1) if last else images, shape, str(path))
        parts = [session.run(None, {name: part}) for part in _pieces(np.ascontiguousarray(laid, kind), most)]
        return _joined(parts, len(images))

    return infer


def _check_inputs(path: Path, given: Sequence[tuple[str, str, Sequence[Any]]], wanted: tuple[str, ...]) -> None:
    """Raises ModelError unless the (name, type, shape) is that of one picture or a batch of them."""
    if len(given) != 1 or len(given[0][2]) != 4 or given[0][1] not in wanted:
        found = ", ".join(f"{name} {kind} {shape}" for name, kind, shape in given)
        raise ModelError(f"model {str(path)!r} takes {found}; what is wanted is one float image tensor of 4 axes")


def onnx_size(path: Path) -> tuple[int, int] | None:
    """The (height, width) that an ONNX file insists on; None where it takes any."""
    given = onnx_session(path).get_inputs()
    shape = given[0].shape if len(given) == 1 and len(given[0].shape) == 4 else [None] * 4
    height, width = shape[1:3] if _channels_last(shape, "auto") else shape[2:4]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _channels_last(shape: Sequence[Any], axes: Axes) -> bool:
    return bool(shape[3] == 3 and shape[1] != 3) if axes == "auto" else axes == "nhwc"


def _fitting(images: Array, shape: Sequence[Any], name: str) -> Array:
    """The pictures; ModelError where the model insists on others, which every backend says in other words."""
    if all(given == wanted for given, wanted in zip(images.shape[1:], shape[1:], strict=True) if _is_size(wanted)):
        return images
    wanted = " x ".join(str(one) if _is_size(one) else "any" for one in shape[1:])
    given = " x ".join(map(str, images.shape[1:]))
    colours = 3 in shape[1:] or not all(map(_is_size, shape[1:]))
    remedy = "set `size`, or `tile`, to what it takes" if colours else "export it for RGB, which has 3"
    raise ModelError(f"model {name!r} takes pictures of {wanted} and is given {given}; {remedy}")


def _is_size(axis: Any) -> bool:
    return isinstance(axis, int) and axis > 0


def _openvino(file: ModelFile, size: tuple[int, int], half: bool, axes: Axes) -> Infer:
    import openvino

    core = openvino.Core()
    kind = "bf16" if half else "f32"
    options = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": threads(), "PERFORMANCE_HINT": "LATENCY"}
    try:
        if file.path.suffix.lower() == ".onnx":
            model = core.read_model(file.path)
            shapes = [
                [axis.get_length() if axis.is_static else None for axis in one.partial_shape] for one in model.inputs
            ]
            types = [one.element_type.get_type_name() for one in model.inputs]
            given = zip([one.any_name for one in model.inputs], types, shapes, strict=True)
            _check_inputs(file.path, list(given), ("f32", "f16"))
            shape = shapes[0]
            last, most = _channels_last(shape, axes), shape[0]
        else:
            import torch

            example = torch.zeros(2, 3, *size)
            model = openvino.convert_model(_flat(torch_module(file)), example_input=example)
            model.reshape([-1, 3, *size])
            shape, last, most = [None] * 4, False, None
        compiled = core.compile_model(model, "CPU", options)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"model {file.name!r} cannot be run by OpenVINO: {str(error).splitlines()[0]}") from error
    request = compiled.create_infer_request()

    def infer(images: Array) -> Arrays:
        laid = _fitting(images.transpose(0, 2, 3, 1) if last else images, shape, file.name)
        whole = np.ascontiguousarray(laid, np.float32)
        parts = [list(request.infer([part]).to_tuple()) for part in _pieces(whole, most)]
        return _joined(parts, len(images))

    return infer


def _torch_cpu(file: ModelFile, size: tuple[int, int], half: bool) -> Infer:
    """Traced and frozen, in channels_last: more than twice as fast as calling the model (MobileNetV3-small, one
    thread, batches of 32: 353 images/s where it is 152)."""
    import torch

    torch.set_num_threads(threads())
    module = torch_module(file)
    archive, most = file.path.suffix.lower() == ".pt2", None
    if archive:
        most = _batch_of(module)
        run: Any = _flat(module)
    else:
        example = torch.zeros(2, *size, 3).permute(0, 3, 1, 2)  # which is channels_last
        flat = _flat(module.to(memory_format=torch.channels_last))
        with torch.inference_mode(), _halved("cpu", half), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # no successor of torch.jit is as fast on a CPU
            run = torch.jit.freeze(torch.jit.trace(flat, example, check_trace=False))  # type: ignore[no-untyped-call]

    def infer(images: Array) -> Arrays:
        with torch.inference_mode(), _halved("cpu", half and archive):
            parts = [
                run(torch.from_numpy(np.ascontiguousarray(part)) if archive else torch.from_numpy(part))
                for part in _pieces(images, most)
            ]
            return _joined([[one.float().numpy() for one in part] for part in parts], len(images))

    return infer


def _torch_card(file: ModelFile, device: str) -> Infer:
    """On a card: half precision, channels_last, and the next part's copy under way while one is computed."""
    import torch

    module = _flat(torch_module(file)).to(device, memory_format=torch.channels_last)
    copies: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def sent(part: Array) -> Any:
        with torch.cuda.stream(copies):
            pinned = torch.from_numpy(np.ascontiguousarray(part)).pin_memory()
            return pinned.to(device, memory_format=torch.channels_last, non_blocking=True)

    def compute(parts: list[Array]) -> Iterator[list[Array]]:
        coming = sent(parts[0])
        for index in range(len(parts)):
            torch.cuda.current_stream(device).wait_stream(copies)
            here = coming
            here.record_stream(torch.cuda.current_stream(device))
            coming = sent(parts[index + 1]) if index + 1 < len(parts) else None
            with torch.inference_mode(), _halved("cuda", True):
                outputs = module(here)
            yield [one.float().cpu().numpy() for one in outputs]

    def room(picture: Array) -> int:
        there = sent(picture)
        torch.cuda.synchronize(device)
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        with torch.inference_mode(), _halved("cuda", True):
            module(there)
        each = max(1, torch.cuda.max_memory_allocated(device) - held)
        free, _ = torch.cuda.mem_get_info(device)  # others may share the card
        return max(1, int(FILLED * free / each))

    return Fitted(compute, room, torch.OutOfMemoryError, torch.cuda.empty_cache)


class Fitted:
    """Computes in parts that fit into a card's memory: begins with what there is room for, halves where that is too
    much after all, and remembers what went. Raises MemoryError where one picture alone is too much."""

    def __init__(
        self,
        compute: Callable[[list[Array]], Iterator[list[Array]]],
        room: Callable[[Array], int],
        too_much: type[Exception],
        forget: Callable[[], None],
    ) -> None:
        self.compute, self.room, self.too_much, self.forget = compute, room, too_much, forget
        self.most: int | None = None

    def __call__(self, images: Array) -> Arrays:
        while True:
            try:
                self.most = self.most or self.room(images[:1])
                return _joined(list(self.compute(list(_pieces(images, self.most, fill=False)))), len(images))
            except self.too_much as error:
                size = min(self.most or 1, len(images))
                if size == 1:
                    raise MemoryError(str(error)) from error
                self.most = size // 2
            self.forget()


def _halved(device: str, half: bool) -> Any:
    """bf16, or fp16 on cards that know no bf16."""
    import torch

    if not half:
        return nullcontext()
    kind = torch.bfloat16 if device == "cpu" or torch.cuda.is_bf16_supported() else torch.float16
    return torch.autocast(device, kind, cache_enabled=False)


def _flat(module: Any) -> Any:
    """The module with a tuple of tensors as its output, where it gives one alone or a dict."""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, images: Any) -> tuple[Any, ...]:
            outputs = self.module(images)
            if isinstance(outputs, dict):
                outputs = list(outputs.values())
            return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)

    try:
        return Flat().eval()
    except NotImplementedError:  # a module of torch.export is in eval mode already, and says so in this way
        return Flat()


def _batch_of(module: Any) -> int | None:
    """The only batch that an exported program takes; None where it takes any."""
    for node in module.graph.nodes:
        if node.op == "placeholder" and "val" in node.meta:
            first = node.meta["val"].shape[0]
            return first if isinstance(first, int) else None
    return None


def _pieces(images: Array, most: int | None, *, fill: bool = True) -> Iterator[Array]:
    """Parts of so many, in the last of which what lacks is filled up with zeros: models may insist on a number."""
    if most is None or len(images) == most:
        yield images
        return
    for start in range(0, len(images), most):
        part = images[start : start + most]
        lacking = most - len(part) if fill else 0
        yield np.concatenate([part, np.zeros((lacking, *part.shape[1:]), part.dtype)]) if lacking else part


def _joined(parts: list[list[Array]], rows: int) -> Arrays:
    """The outputs of all parts, without those of what filled up the last."""
    if not all(len(one) for part in parts for one in part):
        raise ModelError("the model gave no output for some pictures")
    return tuple(
        np.concatenate(list(outputs))[:rows].astype(np.float32, copy=False) for outputs in zip(*parts, strict=True)
    )
