"""Daft on its native runner, as its guides write work on images.

python daft_works.py WORK FOLDER OUTPUT
"""

import sys

import daft
from daft import DataType, col
from works import WORKS

WORK, FOLDER, OUTPUT = sys.argv[1:]
COLUMNS = WORKS[WORK].COLUMNS
TYPES = {int: DataType.int64(), float: DataType.float64(), str: DataType.string(), bytes: DataType.binary()}
ANSWER = DataType.struct({name: TYPES[kind] for name, kind in COLUMNS.items()})


@daft.cls
class Work:
    def __init__(self):
        self.work = WORKS[WORK]()

    @daft.method.batch(return_dtype=ANSWER, batch_size=8)
    def __call__(self, images):
        return [self.work(image) for image in images.to_pylist()]


pictures = daft.from_glob_path(f"{FOLDER}/*.jpg")
pictures = pictures.with_column("image", col("path").download().decode_image(mode="RGB"))
pictures = pictures.with_column("answer", Work()(col("image")))
pictures.select(col("path"), *(col("answer")[name].alias(name) for name in COLUMNS)).write_parquet(OUTPUT)
