"""What a stranger writes by hand: `python -m tests.benchmarks.plain_raster URI SIZE OUTPUT PART PARTS`.

Every window of a share of the raster read with rasterio, its index computed, the results in one Parquet file.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq


def main(uri: str, size: str, output: str, part: str, parts: str) -> None:
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    from swath.flows.work.threads import limit_threads
    from swath.operators.core.ground import Bands
    from swath.operators.survey.index import Index

    limit_threads(1)
    operator = Index(indices=("exg",))
    step = int(size)
    endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    options = {"AWS_S3_ENDPOINT": endpoint.netloc, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}
    results = []
    with (
        rasterio.Env(**options, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        rasterio.open(f"/vsis3/{uri.removeprefix('s3://')}") as raster,
    ):
        places = [(x, y) for y in range(0, raster.height, step) for x in range(0, raster.width, step)]
        share = -(-len(places) // int(parts))
        for x, y in places[int(part) * share : (int(part) + 1) * share]:
            window = Window(x, y, min(step, raster.width - x), min(step, raster.height - y))
            values = raster.read(window=window)
            bands = Bands(values, np.ones(values.shape[1:], bool), ("red", "green", "blue"))
            item = {"bands": bands, "pixels": None, "to_source": None, "georef": None, "window": None}
            results.append({"x": x, "y": y, **operator.process(item, None)})
    pq.write_table(pa.Table.from_pylist(results), output)


if __name__ == "__main__":
    main(*sys.argv[1:])
