"""Every command and file in the README works, in the order it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.operators.onnx_models import brightest_channel, green_cells

from swath.flows.demo.draw import draw

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(bash|yaml|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def write_model(path: Path) -> None:
    """Two classes from the mean brightness of a 32 x 32 picture."""
    weights = numpy_helper.from_array(np.array([[1.0, -1.0]] * 3, np.float32), "weights")
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", 3, 32, 32])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "kinds", [picture], [scores], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)


def test_the_doors_named_in_the_readme_are_targets_of_the_makefile() -> None:
    targets = re.findall(r"make ([a-z-]+)", README)
    made = (ROOT / "Makefile").read_text()
    assert {"demo", "test"} <= set(targets)
    assert all(re.search(rf"^{target}:", made, re.MULTILINE) for target in targets)


@pytest.mark.timeout(900)
def test_every_command_in_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "demo")
    write_model(tmp_path / "model.onnx")
    green_cells(tmp_path / "detector.onnx")
    brightest_channel(tmp_path / "segmenter.onnx")
    environment = {
        **os.environ,
        "SWATH_RAY": "off",  # the same plan without Ray: the commands are what is tested here
        "SWATH_HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    commands = 0
    for language, text in BLOCK.findall(README):
        if language != "bash":
            name = re.match(r"# (\S+)\n", text)
            assert name, f"a block of {language} does not say its file name:\n{text}"
            (tmp_path / name[1]).write_text(text)
            continue
        for line in text.splitlines():
            done = subprocess.run(shlex.split(line), env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            assert done.stdout.strip(), f"{line} said nothing"
            commands += 1
    assert commands >= 15
