"""What the shipped pipelines get right on real data with ground truth, from the published tables; prints JSON.

    python -m tests.benchmarks.accuracy [--data FOLDER] [--pages N]

FOLDER is `../shared/data`: `receipts_sroie` (img/, box/) and `drone_*` (images/, gps_truth.csv).
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.ocr_receipts import transcript, word_f1

from swath.flows.ask import query
from swath.flows.pipelines.binding import load
from swath.flows.run import process
from swath.flows.run.records import Request
from swath.infra import storage

DATA = Path(__file__).parents[2] / "../shared/data"


def run(pipeline: str, source: Path, warehouse: Path, limit: int | None) -> Any:
    request = Request(
        pipeline=load(pipeline).pipeline,
        source=storage.normalize(str(source)),
        warehouse=storage.normalize(str(warehouse)),
        limit=limit,
        ray="local",
    )
    return process.start(request, prefect=False)


def rows(warehouse: Path, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = query.sql(str(warehouse), text).read_all().to_pylist()
    return found


def receipts(folder: Path, warehouse: Path, limit: int | None) -> dict[str, Any]:
    """Mean word-F1 over the receipts, and pages a second and core of the executing phase."""
    record = run("documents", folder / "img", warehouse, limit)
    read = rows(warehouse, "SELECT parse_filename(source_uri, true) AS name, text, ocr_engine FROM items")
    scores = {
        row["name"]: word_f1(transcript(folder / "box" / f"{row['name']}.csv"), row["text"] or "") for row in read
    }
    workers = max(stage["workers"] for stage in record.stages.values())
    return {
        "pages": len(scores),
        "engine": read[0]["ocr_engine"],
        "word_f1": round(sum(scores.values()) / len(scores), 4),
        "worst": sorted(scores, key=scores.__getitem__)[:5],
        "pages_per_second_and_worker": round(len(scores) / record.phases["execute"] / workers, 3),
        "seconds": record.seconds,
        "operators": record.operators,
    }


def positions(folder: Path, warehouse: Path) -> dict[str, Any]:
    """The largest difference of any photo's position from the truth."""
    run("survey", folder / "images", warehouse, None)
    truth = {row["file"]: row for row in csv.DictReader((folder / "gps_truth.csv").open())}
    found = rows(warehouse, "SELECT parse_filename(source_uri) AS name, latitude, longitude, altitude_m FROM items")
    pairs = [(row, truth[row["name"]]) for row in found]
    return {
        "photos": len(found),
        "in_truth": len(truth),
        "degrees_off": max(
            max(abs(row["latitude"] - float(true["lat"])), abs(row["longitude"] - float(true["lon"])))
            for row, true in pairs
        ),
        "metres_off": max(abs(row["altitude_m"] - float(true["alt_m"])) for row, true in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--pages", type=int)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for folder in sorted(options.data.glob("drone_*")):
            found[folder.name] = positions(folder, Path(scratch) / folder.name)
        folder = options.data / "receipts_sroie"
        if folder.is_dir():
            found[folder.name] = receipts(folder, Path(scratch) / folder.name, options.pages)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
