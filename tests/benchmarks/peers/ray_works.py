"""Ray Data as its guide "Working with images" writes it: read_images, a class in map, write_parquet.

python ray_works.py WORK FOLDER OUTPUT
"""

import os
import sys

import ray
from works import WORKS

WORK, FOLDER, OUTPUT = sys.argv[1:]


class Work:
    def __init__(self):
        self.work = WORKS[WORK]()

    def __call__(self, row):
        return {"path": row["path"], **self.work(row["image"])}


ray.init(address="local", include_dashboard=False, num_cpus=max(4, os.cpu_count()))
dataset = ray.data.read_images(FOLDER, include_paths=True, mode="RGB")
dataset = dataset.map(Work, compute=ray.data.ActorPoolStrategy(size=os.cpu_count()))
dataset.write_parquet(OUTPUT)
