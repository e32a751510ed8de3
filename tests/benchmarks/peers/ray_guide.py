"""Ray Data as its guide "Working with images" writes it: read_images, map_batches with a class, write_parquet.

python ray_guide.py FOLDER WEIGHTS OUTPUT
"""

import os
import sys

import ray
from network import CROP, RESIZE, classified, network, normalised
from torchvision.transforms import v2

FOLDER, WEIGHTS, OUTPUT = sys.argv[1:]


def preprocess(batch):
    import numpy as np
    import torch

    images = torch.from_numpy(np.stack(batch.pop("image"))).permute(0, 3, 1, 2)
    images = v2.CenterCrop(CROP)(v2.Resize(RESIZE, antialias=True)(images))
    return {"path": batch["path"], "image": images.permute(0, 2, 3, 1).numpy()}


class Classify:
    def __init__(self):
        self.module = network(WEIGHTS)

    def __call__(self, batch):
        labels, scores = classified(self.module, normalised(batch["image"]))
        return {"path": batch["path"], "label": labels, "score": scores}


ray.init(address="local", include_dashboard=False, num_cpus=max(4, os.cpu_count()))
dataset = ray.data.read_images(FOLDER, include_paths=True, mode="RGB")
dataset = dataset.map_batches(preprocess, batch_size=32)
dataset = dataset.map_batches(Classify, batch_size=32, compute=ray.data.ActorPoolStrategy(size=os.cpu_count()))
dataset.write_parquet(OUTPUT)
