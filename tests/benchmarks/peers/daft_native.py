"""Daft on its native runner, as its guides write batch inference on images.

python daft_native.py FOLDER WEIGHTS OUTPUT
"""

import sys

import daft
import numpy as np
from daft import DataType, col
from network import BATCH, CROP, RESIZE, classified, network, normalised

FOLDER, WEIGHTS, OUTPUT = sys.argv[1:]
ANSWER = DataType.struct({"label": DataType.int64(), "score": DataType.float64()})


@daft.cls
class Classify:
    def __init__(self):
        self.module = network(WEIGHTS)

    @daft.method.batch(return_dtype=ANSWER, batch_size=BATCH)
    def __call__(self, images):
        labels, scores = classified(self.module, normalised(np.stack(images.to_pylist())))
        return [{"label": label, "score": score} for label, score in zip(labels, scores, strict=True)]


WIDTH = round(500 * RESIZE / 375)
pictures = daft.from_glob_path(f"{FOLDER}/*.jpg")
pictures = pictures.with_column("image", col("path").download().decode_image(mode="RGB"))
pictures = pictures.with_column("image", col("image").resize(WIDTH, RESIZE))
box = [(WIDTH - CROP) // 2, (RESIZE - CROP) // 2, CROP, CROP]
pictures = pictures.with_column("answer", Classify()(col("image").crop(daft.lit(box))))
answers = pictures.select(col("path"), col("answer")["label"].alias("label"), col("answer")["score"].alias("score"))
answers.write_parquet(OUTPUT)
