"""A PyTorch DataLoader with a worker a core that decodes and prepares, and the network in the main process.

python loader.py FOLDER WEIGHTS OUTPUT
"""

import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from network import BATCH, CROP, MEAN, RESIZE, STD, classified, network
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

FOLDER, WEIGHTS, OUTPUT = sys.argv[1:]


class Pictures(torch.utils.data.Dataset):
    def __init__(self, folder):
        self.paths = sorted(Path(folder).glob("*.jpg"))
        steps = [v2.Resize(RESIZE, antialias=True), v2.CenterCrop(CROP)]
        self.prepare = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = str(self.paths[index])
        return path, self.prepare(decode_image(path, ImageReadMode.RGB))


module = network(WEIGHTS)
paths, labels, scores = [], [], []
for names, images in torch.utils.data.DataLoader(Pictures(FOLDER), BATCH, num_workers=os.cpu_count()):
    label, score = classified(module, images)
    paths, labels, scores = paths + list(names), labels + label, scores + score
Path(OUTPUT).mkdir()
pq.write_table(pa.table({"path": paths, "label": labels, "score": scores}), f"{OUTPUT}/part.parquet")
