"""What detectors give, as boxes: the output layouts that are known, and how they are told apart by their shapes.

Of one picture, C classes, boxes in pixels of the model's input unless said otherwise:

    yolov5       (N, 5 + C) centre, width and height, objectness, classes: YOLOv5, v6, v7
    yolov8       (4 + C, N) centre, width and height, classes: YOLOv8, v9, v11, v12; or transposed
    yolox        (N, 5 + C) as yolov5, but relative to the cells of a grid: YOLOX as exported without decoding
    end_to_end   (N, 6) corners, score, class: YOLOv10, YOLO26, and others with the suppression inside
    torchvision  boxes (N, 4) as corners, and labels (N) and scores (N) in either order
    detr         logits (N, C + 1) with "nothing" last, boxes (N, 4) as centre, width and height, 0 to 1: DETR
    rt_detr      the same with logits (N, C), one against the rest: RT-DETR, Deformable DETR
    fastestdet   (5 + C, h, w) objectness, place in the cell, width and height, classes: FastestDet
    centers      (C + 4, h, w) centres, place in the cell, width and height: ours, as `swath train detect` makes them

yolov5 and yolov7 sources: https://github.com/ultralytics/yolov5 models/yolo.py `Detect.forward`; yolov8, end_to_end:
https://github.com/ultralytics/ultralytics nn/modules/head.py; yolox: https://github.com/Megvii-BaseDetection/YOLOX
yolox/utils/demo_utils.py; detr: https://github.com/facebookresearch/detr models/detr.py `PostProcess`;
fastestdet: https://github.com/dog-qiuqiu/FastestDet utils/tool.py `handle_preds`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from swath.operators.image.boxes import Floats, Found
from swath.schemas.errors import ModelError

Array = npt.NDArray[np.float32]
Layout = Literal["yolov5", "yolov8", "yolox", "end_to_end", "torchvision", "detr", "rt_detr", "fastestdet", "centers"]
Decoder = Callable[[Sequence[Array], tuple[int, int], float], Found]
"""From the outputs for one picture, the (height, width) of the model's input and the least score."""
UNBATCHED = ("torchvision",)
"""Layouts without an axis for the pictures of a batch: they must be given one at a time."""
STRIDES = (8, 16, 32)
"""Input pixels a cell of each of the grids of the YOLO family; larger models add 64."""


def recognised(outputs: Sequence[Array], size: tuple[int, int], classes: int | None = None) -> Layout:
    """The layout of a model's outputs for one picture of `size` (height, width), the axis of the batch included.

    `classes`, where known, decides between layouts that look alike. Raises ModelError where none fits.
    """
    shapes = [one.shape for one in outputs]
    match shapes:
        case [(1, channels, height, width)] if channels > 5 and 1 < height < size[0] and 1 < width < size[1]:
            return "fastestdet"
        case [(boxes, 4), (labels,), (scores,)] if boxes == labels == scores:
            return "torchvision"
        case [(1, queries, columns), (1, others, 4)] if queries == others:
            return _transformer(shapes, columns, classes)
        case [(1, _, _), *others] if all(len(shape) == 5 for shape in others):  # heads that are not decoded
            return _yolo(outputs[0][0], size, classes)
    raise _unknown(shapes)


def class_count(layout: Layout, outputs: Sequence[Array]) -> int | None:
    """How many classes the outputs for one picture are for; None where they do not say."""
    rows, *columns = (int(length) for length in outputs[0].shape)
    counts: dict[Layout, int] = {
        **{"yolov5": columns[0] - 5, "yolox": columns[0] - 5, "yolov8": min(rows, columns[0]) - 4},
        **{"fastestdet": rows - 5, "centers": rows - 4, "detr": columns[0] - 1, "rt_detr": columns[0]},
    }
    return counts.get(layout)


def _transformer(shapes: Sequence[tuple[int, ...]], columns: int, classes: int | None) -> Layout:
    if classes is None:
        raise ModelError(
            f"gives outputs {_written(shapes)}, logits and boxes as DETR or RT-DETR; give `classes`, or "
            "`layout: detr` where the last column stands for nothing, `layout: rt_detr` where it is a class"
        )
    if columns - classes not in (0, 1):
        raise ModelError(f"gives logits of {columns} columns but `classes` names {classes}")
    return "detr" if columns == classes + 1 else "rt_detr"


def _yolo(output: Array, size: tuple[int, int], classes: int | None) -> Layout:
    """Of (N, 5 + C), (N, 4 + C), (4 + C, N) or (N, 6)."""
    rows, columns = output.shape
    single, triple = (tuple(anchors * cells for cells in _cells(size)) for anchors in (1, 3))
    if columns == 6 and rows not in (*single, *triple):
        return "end_to_end"
    wide = min(rows, columns)
    if wide < 5:
        raise _unknown([(1, rows, columns)])
    if classes is not None and wide not in (4 + classes, 5 + classes):
        raise ModelError(
            f"gives an output {(1, rows, columns)} of {wide - 4} classes (yolov8) or {wide - 5} (yolov5), but "
            f"`classes` names {classes}"
        )
    if rows < columns or (classes is not None and wide == 4 + classes):
        return "yolov8"
    if rows not in single:
        return "yolov5"
    if classes is None:
        raise ModelError(
            f"gives an output {(1, rows, columns)}, which may be YOLOX's, YOLOv6's or YOLOv8's transposed; give "
            "`classes`, or `layout: yolox` (as exported without decoding), `yolov5` (decoded) or `yolov8`"
        )
    # Both have one box a cell. Centres in pixels reach over the picture, those within a cell do not.
    return "yolov5" if output[:, :2].max() > max(size) / 2 else "yolox"


def _cells(size: tuple[int, int]) -> tuple[int, int]:
    """How many cells the grids of three strides have together, and those of four."""
    counts = [(size[0] // stride) * (size[1] // stride) for stride in (*STRIDES, 64)]
    return sum(counts[:3]), sum(counts)


def _unknown(shapes: Sequence[tuple[int, ...]]) -> ModelError:
    return ModelError(
        f"gives outputs {_written(shapes)}, which is no layout that is known; known are (1, N, 5 + C) of YOLOv5 and "
        "v7, (1, 4 + C, N) of YOLOv8, v9 and v11, (1, N, 6) with the suppression inside, boxes (N, 4), labels (N) "
        "and scores (N) of torchvision, logits (1, N, C) and boxes (1, N, 4) of DETR, (1, 5 + C, h, w) of FastestDet; "
        "export it as one of them, or name one as `layout`"
    )


def _written(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(str(shape) for shape in shapes)


def _decode_yolov5(outputs: Sequence[Array], size: tuple[int, int], least: float) -> Found:
    rows = outputs[0]
    rows = rows[rows[:, 4] >= least]  # a score cannot be more than its objectness
    return _best(_corners(rows[:, :4]), rows[:, 5:] * rows[:, 4:5], least)


def _decode_yolov8(outputs: Sequence[Array], size: tuple[int, int], least: float) -> Found:
    rows = outputs[0] if outputs[0].shape[0] > outputs[0].shape[1] else outputs[0].T
    return _best(_corners(rows[:, :4]), rows[:, 4:], least)


def _decode_yolox(outputs: Sequence[Array], size: tuple[int, int], least: float) -> Found:
    rows = outputs[0]
    strides = STRIDES if len(rows) == _cells(size)[0] else (*STRIDES, 64)
    cells, steps = [], []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        steps.append(np.full(x.size, stride))
    step = np.concatenate(steps)[:, None]
    if len(step) != len(rows):
        raise ModelError(f"gives {len(rows)} boxes but the grids of yolox have {len(step)} cells; set another `layout`")
    centre = (rows[:, :2] + np.concatenate(cells)) * step
    sides = np.exp(np.minimum(rows[:, 2:4], 20)) * step
    return _best(_corners(np.concatenate([centre, sides], axis=1)), rows[:, 5:] * rows[:, 4:5], least)


def _decode_end_to_end(outputs: Sequence[Array], size: tuple[int, int], least: float) -> Found:
    rows = outputs[0][outputs[0][:, 4] >= least]
    return Found(rows[:, :4].astype(np.float64), rows[:, 4].astype(np.float64), rows[:, 5].astype(np.int64))


def _decode_torchvision(outputs: Sequence[Array], size: tuple[int, int], least: float) -> Found:
    boxes, one, other = outputs
    # Faster R-CNN has its labels before its scores, the other detectors behind: no score is a whole number above one,
    # and no label a fraction.
    labels, scores = (one, other) if (other % 1).any() or one.max(initial=0) > 1 else (other, one)
    return _chosen(boxes.astype(np.float64), scores.astype(np.float64), labels.astype(np.int64), least)


def _decode_detr(outputs: Sequence[Array], size: tuple[int, int], least: float) -> Found:
    raised = np.exp(outputs[0] - outputs[0].max(axis=1, keepdims=True))
    return _best(_of_picture(outputs[1], size), (raised / raised.sum(axis=1, keepdims=True))[:, :-1], least)


def _decode_rt_detr(outputs: Sequence[Array], size: tuple[int, int], least: float) -> Found:
    return _best(_of_picture(outputs[1], size), _sigmoid(outputs[0]), least)


def _decode_fastestdet(outputs: Sequence[Array], size: tuple[int, int], least: float) -> Found:
    channels, rows, columns = outputs[0].shape
    cells = outputs[0].reshape(channels, -1).T
    y, x = np.mgrid[:rows, :columns]
    place = (np.tanh(cells[:, 1:3]) + np.stack([x, y], axis=-1).reshape(-1, 2)) / [columns, rows]
    boxes = _of_picture(np.concatenate([place, _sigmoid(cells[:, 3:5])], axis=1), size)
    return _best(boxes, cells[:, 5:] * cells[:, :1], least)


def _decode_centers(outputs: Sequence[Array], size: tuple[int, int], least: float) -> Found:
    from swath.operators.models.nets.centers import decode  # which imports torch

    return decode(outputs[0], size[0] // outputs[0].shape[1], least)


DECODERS: dict[Layout, Decoder] = {
    "yolov5": _decode_yolov5,
    "yolov8": _decode_yolov8,
    "yolox": _decode_yolox,
    "end_to_end": _decode_end_to_end,
    "torchvision": _decode_torchvision,
    "detr": _decode_detr,
    "rt_detr": _decode_rt_detr,
    "fastestdet": _decode_fastestdet,
    "centers": _decode_centers,
}


def _best(boxes: Floats, scores: npt.NDArray[np.floating], least: float) -> Found:
    """Each box with the likeliest of its classes."""
    classes = scores.argmax(axis=1)
    return _chosen(boxes, scores[np.arange(len(scores)), classes].astype(np.float64), classes, least)


def _chosen(boxes: Floats, scores: Floats, classes: npt.NDArray[np.int64], least: float) -> Found:
    return Found(boxes, scores, classes)[scores >= least]


def _corners(xywh: npt.NDArray[np.floating]) -> Floats:
    """From centre, width and height."""
    centre, half = xywh[:, :2].astype(np.float64), xywh[:, 2:].astype(np.float64) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _of_picture(xywh: npt.NDArray[np.floating], size: tuple[int, int]) -> Floats:
    return _corners(xywh) * [size[1], size[0], size[1], size[0]]


def _sigmoid(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))))
