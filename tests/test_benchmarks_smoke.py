"""The benchmark runs and says what it promises; its figures are nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from swath.flows.demo.draw import draw_photos

REPOSITORY = Path(__file__).parents[1]


def run_module(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)


def test_prints_one_document_with_machine_bars_and_figures(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    done = run_module("tests.benchmarks", "--quick", "--only", "startup_help", "--output", str(output))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads(output.read_text())
    assert {"cores", "memory_gib", "load_average_before", "versions", "commit"} <= document["machine"].keys()
    assert document["options"] == {"quick": True, "repeat": 1}
    (result,) = document["results"].values()
    (bar,) = result["bars"]
    assert bar["at_most"] == 0.5
    assert bar["met"] == (bar["value"] <= 0.5)
    assert len(result["figures"]["seconds"]) >= 3


def test_a_name_that_no_workload_has_is_refused() -> None:
    done = run_module("tests.benchmarks", "--only", "nonsense")
    assert done.returncode == 2
    assert "startup_cold" in done.stderr
    assert not done.stdout


def test_tesseract_on_all_cores_and_in_a_loop_read_the_same_pages(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    for number in range(2):
        page = np.full((120, 600, 3), 255, np.uint8)
        cv2.putText(page, f"TOTAL {number} 27.50", (20, 80), cv2.FONT_HERSHEY_SIMPLEX, 2, (0, 0, 0), 4)
        cv2.imwrite(str(tmp_path / "img" / f"{number}.jpg"), page)
    done = run_module("tests.benchmarks.ocr_machine", "--data", str(tmp_path), "--pages", "2")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["pages"], said["same_text"]) == (2, 2)
    assert all(said["pages_per_second"].values())


def test_bare_loops_share_the_files_and_do_the_operators_work(tmp_path: Path) -> None:
    draw_photos(tmp_path / "photos", 3)
    rows = []
    for part in ("0", "1"):
        output = tmp_path / f"{part}.parquet"
        arguments = ("photos", str(tmp_path / "photos"), str(output), "--part", part, "--parts", "2")
        done = run_module("tests.benchmarks.bare", *arguments)
        assert done.returncode == 0, done.stderr
        assert {"read", "decode", "assess_quality", "write", "cpu"} <= json.loads(done.stdout).keys()
        rows += pq.read_table(output).to_pylist()
    assert sorted(Path(row["source_uri"]).name for row in rows) == [f"photo_{i:06}.jpg" for i in range(3)]
    assert all(row["width_px"] == 500 and row["phash"] for row in rows)
