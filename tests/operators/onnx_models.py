"""Small ONNX files that tests write, in ONNX's own text form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper


def save(path: Path, text: str) -> Path:
    """A model from its text (opset 17)."""
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}'), path)
    return path


def constant(path: Path, *outputs: np.ndarray, side: int = 64, axes: int = 4) -> Path:
    """A model that gives these outputs for every picture; no numbers at all where it is brighter than half white."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["half", "mean"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["nothing"]),
    ]
    kept = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("half", 0.5), ("zero", 0))]
    given_back = []
    for index, value in enumerate(outputs):
        whole = np.issubdtype(value.dtype, np.integer)
        kept.append(numpy_helper.from_array(value if whole else value.astype(np.float32), f"value{index}"))
        node = helper.make_node(
            *(("Identity", [f"value{index}"]) if whole else ("Add", [f"value{index}", "nothing"])), [f"out{index}"]
        )
        nodes.append(node)
        kind = TensorProto.INT64 if whole else TensorProto.FLOAT
        given_back.append(helper.make_tensor_value_info(f"out{index}", kind, value.shape))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side][-axes:])
    graph = helper.make_graph(nodes, "constant", [image], given_back, kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def red_boxes(path: Path, side: int = 64) -> Path:
    """A detector (yolov10's layout) that finds the box around everything red in a picture."""
    text = f"""
    red_boxes (float[N,3,{side},{side}] image) => (float[N,1,6] boxes)
    <int64[3] shares = {{1, 1, 1}}, float[1] half = {{0.5}}, float[1] one = {{1.0}}, int64[3] shape = {{-1, 1, 6}}>
    {{
        red, green, blue = Split <axis = 1> (image, shares)
        excess = Sub (red, green)
        is_red = Greater (excess, half)
        mask = Cast <to = 1> (is_red)
        columns = ReduceMax <axes = [2]> (mask)
        rows = ReduceMax <axes = [3]> (mask)
        score = ReduceMax <axes = [2, 3]> (mask)
        x_first = ArgMax <axis = 3> (columns)
        x_last = ArgMax <axis = 3, select_last_index = 1> (columns)
        y_first = ArgMax <axis = 2> (rows)
        y_last = ArgMax <axis = 2, select_last_index = 1> (rows)
        x_min = Cast <to = 1> (x_first)
        y_min = Cast <to = 1> (y_first)
        x_end = Cast <to = 1> (x_last)
        y_end = Cast <to = 1> (y_last)
        x_max = Add (x_end, one)
        y_max = Add (y_end, one)
        zero = Sub (score, score)
        together = Concat <axis = 1> (x_min, y_min, x_max, y_max, score, zero)
        boxes = Reshape (together, shape)
    }}
    """
    return save(path, text)


def green_cells(path: Path) -> Path:
    """A detector (FastestDet's layout, 64 x 64) with a box wherever it is greener than red, or redder than green."""
    text = """
    green_cells (float[N,3,64,64] image) => (float[N,7,8,8] cells)
    <
        float[7,3,1,1] weight = {0,0,0, 0,0,0, 0,0,0, 0,0,0, 0,0,0, -4,4,0, 4,-4,0},
        float[7] bias = {1, 0.4, 0.4, -1.5, -1.5, 0, 0},
        float[1,7,1,1] least = {0, 0, 0, -9, -9, 0, 0},
        float[1,7,1,1] most = {1, 1, 1, 9, 9, 1, 1}
    >
    {
        coarse = AveragePool <kernel_shape = [8, 8], strides = [8, 8]> (image)
        linear = Conv (coarse, weight, bias)
        above = Max (linear, least)
        cells = Min (above, most)
    }
    """
    return save(path, text)


def brightest_channel(path: Path, side: int = 64, layout: str = "nchw", window: int = 1) -> Path:
    """A segmenter whose classes are red, green and blue, by the mean over a window."""
    halo = window // 2
    last = {
        "nchw": "out = Identity (scores)",
        "nhwc": "out = Transpose <perm = [0, 2, 3, 1]> (scores)",
        "class_map": "out = ArgMax <axis = 1, keepdims = 0> (scores)",
        "one_logit": """red, green, blue = Split <axis = 1> (scores, shares)
            out = Sub (red, green)""",
        "one_probability": """red, green, blue = Split <axis = 1> (scores, shares)
            difference = Sub (red, green)
            sharp = Mul (difference, ten)
            out = Sigmoid (sharp)""",
    }[layout]
    shape = {"nhwc": f"{side},{side},3", "class_map": f"{side},{side}"}.get(layout, f"C,{side},{side}")
    text = f"""
    brightest (float[N,3,{side},{side}] image) => ({"int64" if layout == "class_map" else "float"}[N,{shape}] out)
    <int64[3] shares = {{1, 1, 1}}, float[1] ten = {{10.0}}>
    {{
        scores = AveragePool <kernel_shape = [{window}, {window}], pads = [{halo}, {halo}, {halo}, {halo}]> (image)
        {last}
    }}
    """
    return save(path, text)


def brighter_than_around(path: Path, side: int = 64) -> Path:
    """A segmenter that compares every channel with its mean over all that it is shown: red, green, blue."""
    text = f"""
    brighter (float[N,3,{side},{side}] image) => (float[N,C,{side},{side}] out)
    {{
        near = AveragePool <kernel_shape = [5, 5], pads = [2, 2, 2, 2]> (image)
        mean = ReduceMean <axes = [2, 3]> (image)
        out = Sub (near, mean)
    }}
    """
    return save(path, text)
