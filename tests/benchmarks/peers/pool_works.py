"""The floor: a hand-written pool, a process a core; OpenCV decodes.

python pool_works.py WORK FOLDER OUTPUT
"""

import multiprocessing
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from works import WORKS

WORK, FOLDER, OUTPUT = sys.argv[1:]


def part_of(part):
    cv2.setNumThreads(1)
    work, rows = WORKS[WORK](), []
    for path in sorted(Path(FOLDER).glob("*.jpg"))[part :: os.cpu_count()]:
        pixels = cv2.cvtColor(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        rows.append({"path": str(path), **work(pixels)})
    if rows:
        pq.write_table(pa.Table.from_pylist(rows), f"{OUTPUT}/{part}.parquet")


if __name__ == "__main__":
    Path(OUTPUT).mkdir()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        pool.map(part_of, range(os.cpu_count()))
