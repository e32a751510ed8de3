"""The command's contract: exit codes, one JSON object, one sentence for every mistake, and a quick --help."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.faults.injuries import small_disk

from swath.flows.demo.photos import draw_photos

COMMANDS = (
    *("run", "plan", "resume", "runs", "publish", "discard", "sql", "tables", "describe", "export"),
    *("rejects", "retry", "up", "down", "status", "doctor", "demo"),
)
HEAVY = (
    *("torch", "torchvision", "ray", "prefect", "great_expectations", "rasterio", "pyiceberg", "onnxruntime"),
    *("tesserocr", "rapidocr", "pandas", "pyarrow", "cv2", "duckdb", "numpy"),
)


def swath(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SWATH_", "PREFECT_"))}
    return subprocess.run(
        [sys.executable, "-m", "swath.flows.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=home,
        env=clean | {"SWATH_HOME": str(home / "home")} | environment,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos/` (6 good ones, 1 truncated, 1 left aside) and their run published in `warehouse/`."""
    folder = tmp_path_factory.mktemp("place")
    photos = folder / "photos"
    photos.mkdir()
    (first, *_) = draw_photos(photos, 6)
    (photos / "cut.jpg").write_bytes(first.read_bytes()[:2000])
    (photos / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def published(place: Path) -> tuple[Path, dict]:
    done = swath(place, "run", "photos", "photos", "--ray", "off", "--json")
    assert done.returncode == 0, done.stderr
    return place, json.loads(done.stdout)


def test_help_is_there_with_examples_and_loads_nothing_heavy() -> None:
    code = f"""
import sys
from typer.testing import CliRunner
from swath.flows.cli import app
for command in ((), *((c,) for c in {COMMANDS!r})):
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0, command
    assert not command or "swath " + command[0] in done.output.split("Example")[1], command
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_commands_are_those_of_the_contract() -> None:
    from swath.flows.cli import app

    assert {command.name or command.callback.__name__ for command in app.registered_commands} == set(COMMANDS)


def test_a_run_prints_one_json_object_with_counts_reasons_and_seconds(published: tuple[Path, dict]) -> None:
    _, record = published
    assert record["status"] == "published"
    assert {name: record[name] for name in ("items", "ok", "rejected", "gone", "unchanged", "carried")} == {
        "items": 7,
        "ok": 6,
        "rejected": 1,
        "gone": 0,
        "unchanged": 0,
        "carried": 0,
    }
    assert record["reasons"] == {"truncated": 1}
    assert record["left_aside"] == {"txt": 1}
    assert set(record["operators"]) == {"exif", "decode", "assess_quality", "perceptual_hash"}
    (stage,) = record["stages"].values()
    assert stage["items"] == 7
    assert stage["seconds"] == pytest.approx(sum(record["operators"].values()), abs=0.01)
    assert {"manifest", "plan", "execute", "settle", "audit", "publish"} <= set(record["phases"])
    assert record["seconds"] > sum(record["phases"].values()) * 0.5


def test_the_same_again_is_nothing_to_do(published: tuple[Path, dict]) -> None:
    place, _ = published
    done = swath(place, "run", "photos", "photos", "--ray", "off", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["status"], record["items"], record["unchanged"]) == ("nothing", 0, 7)


def test_a_full_temporary_folder_is_told_and_the_run_goes_on_afterwards(place: Path) -> None:
    options = ("--warehouse", "full", "--json")
    with small_disk(place / "small") as disk:
        if disk is None:
            pytest.skip("a tmpfs cannot be mounted here")
        left = shutil.disk_usage(disk).free - (8 << 10)  # in a folder without any, nobody would begin
        (disk / "filler").write_bytes(bytes(left))
        told = swath(place, "run", "photos", "photos", "--ray", "off", *options, TMPDIR=str(disk))
    assert told.returncode == 1
    assert "No space left on device" in told.stderr
    assert "let TMPDIR name a folder that has more" in told.stderr
    done = swath(place, "resume", "--ray", "off", *options)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, 6), done.stderr


def test_an_audit_that_fails_publishes_nothing_and_leaves_with_3(place: Path) -> None:
    many = place / "many"
    many.mkdir()
    for number in range(6):
        (many / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    options = ("--warehouse", "held", "--ray", "off", "--json")
    done = swath(place, "run", "photos", "many", *options)
    assert done.returncode == 3, done.stderr
    record = json.loads(done.stdout)
    assert (record["status"], record["rejected"]) == ("audit_failed", 6)
    assert "swath publish --run" in done.stderr
    assert "Traceback" not in done.stderr
    tables = json.loads(
        swath(place, "sql", "SELECT count(*) AS n FROM rejects", "--warehouse", "held", "--format", "json").stdout
    )
    assert tables == [{"n": 0}]
    forced = swath(place, "publish", "--run", record["run_id"], "--force", "known", "--warehouse", "held", "--json")
    assert forced.returncode == 0, forced.stderr
    assert json.loads(forced.stdout)["forced_reason"] == "known"
    again = swath(place, "publish", "--run", record["run_id"], "--force", "known", "--warehouse", "held")
    assert again.returncode == 2
    assert "published" in again.stderr


def test_tables_queries_and_exports_answer_in_json(published: tuple[Path, dict]) -> None:
    place, record = published
    (row,) = json.loads(swath(place, "sql", "SELECT count(*) AS n FROM items", "--format", "json").stdout)
    assert row == {"n": 7}
    assert record["run_id"] in [run["run_id"] for run in json.loads(swath(place, "runs", "--json").stdout)]
    views = {view["view"]: view["rows"] for view in json.loads(swath(place, "tables", "--json").stdout)}
    assert views["rejects"] == 1
    columns = {c["name"]: c["type"] for c in json.loads(swath(place, "describe", "items", "--json").stdout)["columns"]}
    assert columns["sharpness"] in ("DOUBLE", "FLOAT")
    assert columns["captured_at"] == "TIMESTAMP WITH TIME ZONE" or columns["captured_at"].startswith("TIMESTAMP")
    written = json.loads(swath(place, "export", "items", "map.geojson", "--format", "geojson", "--json").stdout)
    assert written["rows"] + written["without_position"] >= 6
    rejects = json.loads(swath(place, "rejects", "--json").stdout)
    assert [reject["reason"] for reject in rejects] == ["truncated"]


def test_ids_are_not_broken_where_the_output_is_no_terminal(published: tuple[Path, dict]) -> None:
    place, record = published
    lines = swath(place, "runs", COLUMNS="40").stdout.splitlines()
    assert sum(record["run_id"] in line and "published" in line for line in lines) == 1


MISTAKES = [
    (["run", "photos", "missing"], 1, "no such folder"),
    (["run", "nosuch", "photos"], 2, "there is no pipeline 'nosuch'"),
    (["run", "broken.yaml", "photos"], 2, "broken.yaml:4"),
    (["run", "unknown.yaml", "photos"], 2, "unknown.yaml:3"),
    (["run", "field.yaml", "photos"], 2, "field.yaml:4"),
    (["run", "photos", "photos", "--set", "nonsense"], 2, "STEP.FIELD=VALUE"),
    (["run", "photos", "photos", "--set", "decode.nosuch=1"], 2, "unknown field"),
    (["run", "photos", "photos", "--set", "limits.nosuch=1"], 2, "limits takes seconds"),
    (["run", "photos", "photos", "--limit", "0"], 2, "--limit"),
    (["run", "photos", "photos", "--ray", "nonsense"], 2, "HOST:PORT"),
    (["run", "photos", "photos", "--ray", "off", "--warehouse", "/proc/none"], 1, "no folder can be made there"),
    (["run", "photos", "photos", "--ray", "127.0.0.1:1"], 2, "no Ray head answers"),
    (["plan", "photos", "missing"], 1, "no such folder"),
    (["resume"], 2, "unfinished"),
    (["resume", "nosuch"], 2, "there is no run"),
    (["publish", "--run", "nosuch", "--force", "why"], 2, "there is no run"),
    (["discard", "--run", "nosuch"], 2, "there is no run"),
    (["retry"], 2, "nothing to retry"),
    (["rejects", "--reason", "nosuch"], 2, "there is no reason"),
    (["sql", "DELETE FROM items"], 2, "may only read"),
    (["sql", "SELECT * FROM nosuch"], 2, "holds no table yet"),
    (["sql", "SELECT 1", "--format", "xml"], 2, "parquet"),
    (["describe", "nosuch"], 2, "holds no table yet"),
    (["export", "nosuch", "out"], 2, "holds no table yet"),
    (["nosuch"], 2, "No such command"),
]


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, subprocess.CompletedProcess[str]]]:
    """What each of them led to, in a folder of its own; two at a time."""

    def make(arguments: list[str]) -> tuple[Path, subprocess.CompletedProcess[str]]:
        folder = tmp_path_factory.mktemp("mistake")
        (folder / "photos").mkdir()
        (folder / "broken.yaml").write_text("name: x\nsteps:\n - decode: {\n")
        (folder / "unknown.yaml").write_text("name: x\nsteps:\n - decodex\n")
        (folder / "field.yaml").write_text("name: x\nsteps:\n - decode:\n     nosuch: 1\n")
        return folder, swath(folder, *arguments)

    with ThreadPoolExecutor(2) as pool:
        done = pool.map(make, [arguments for arguments, _, _ in MISTAKES])
        return {" ".join(arguments): one for (arguments, _, _), one in zip(MISTAKES, done, strict=True)}


@pytest.mark.parametrize(("arguments", "code", "said"), MISTAKES, ids=[" ".join(one[0]) for one in MISTAKES])
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    mistakes: dict[str, tuple[Path, subprocess.CompletedProcess[str]]], arguments: list[str], code: int, said: str
) -> None:
    folder, done = mistakes[" ".join(arguments)]
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (folder / "warehouse").exists()
    assert not (folder / "out").exists()


def test_a_fault_of_ours_is_one_line_and_its_place_on_demand(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(
        "from swath.operators.core.base import Operator\n"
        "class Faulty(Operator):\n"
        "    version = 1\n"
        "    def inputs(self): raise RuntimeError('first line\\nsecond')\n"
        "    def outputs(self): return ()\n"
        "    def load(self): return None\n"
        "    def run(self, batch, model): return batch\n"
    )
    (tmp_path / "p.yaml").write_text("name: x\nsteps:\n - op: faulty:Faulty\n   name: f\n")
    (tmp_path / "photos").mkdir()
    done = swath(tmp_path, "run", "p.yaml", "photos", "--ray", "off")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "RuntimeError: first line" in done.stderr
    assert "SWATH_DEBUG=1" in done.stderr
    assert "Traceback" in swath(tmp_path, "run", "p.yaml", "photos", "--ray", "off", SWATH_DEBUG="1").stderr
