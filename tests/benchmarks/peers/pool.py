"""The floor: a hand-written pool, a process a core; OpenCV decodes and prepares, the network is traced and frozen.

python pool.py FOLDER WEIGHTS OUTPUT
"""

import multiprocessing
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from network import BATCH, CROP, RESIZE, classified, network, normalised

FOLDER, WEIGHTS, OUTPUT = sys.argv[1:]


def prepared(path):
    picture = cv2.cvtColor(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    height, width = picture.shape[:2]
    scale = RESIZE / min(height, width)
    picture = cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    top, left = (picture.shape[0] - CROP) // 2, (picture.shape[1] - CROP) // 2
    return picture[top : top + CROP, left : left + CROP]


def work(part):
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    paths = sorted(str(path) for path in Path(FOLDER).glob("*.jpg"))[part :: os.cpu_count()]
    module = network(WEIGHTS).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        module = torch.jit.freeze(torch.jit.trace(module, torch.zeros(2, 3, CROP, CROP)))
    labels, scores = [], []
    for start in range(0, len(paths), BATCH):
        images = np.stack([prepared(path) for path in paths[start : start + BATCH]])
        label, score = classified(module, normalised(images).contiguous(memory_format=torch.channels_last))
        labels, scores = labels + label, scores + score
    pq.write_table(pa.table({"path": paths, "label": labels, "score": scores}), f"{OUTPUT}/{part}.parquet")


if __name__ == "__main__":
    Path(OUTPUT).mkdir()
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count()) as pool:
        pool.map(work, range(os.cpu_count()))
