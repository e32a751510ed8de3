"""A torch.export archive computes what its module does; one that would run code is refused before it can."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swath.operators.models.networks import open_network
from swath.operators.models.pt2 import load_pt2
from swath.operators.models.reference import find_model
from swath.schemas.errors import ModelError


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images).relu().mean((2, 3))


@pytest.fixture(scope="module", params=["any", "fixed"])
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Small]:
    torch.manual_seed(2)
    module = Small().eval()
    path = tmp_path_factory.mktemp("pt2") / "small.pt2"
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if request.param == "any" else None
    torch.export.save(torch.export.export(module, (torch.zeros(4, 3, 16, 16),), dynamic_shapes=shapes), path)
    return path, module


def test_it_gives_what_the_module_gives_for_any_number_of_pictures(archive: tuple[Path, Small]) -> None:
    path, module = archive
    network = open_network(find_model(str(path)), backend="torch", size=(16, 16))
    for count in (1, 4, 7):
        images = np.random.default_rng(count).random((count, 16, 16, 3), np.float32)
        with torch.inference_mode():
            wanted = module(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
        (given,) = network(images)
        assert given == pytest.approx(wanted, abs=1e-6)


def call_system(graph: dict[str, Any]) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.serialization.os.system"


def shape_by_code(graph: dict[str, Any]) -> None:
    graph["range_constraints"] = {}
    graph["graph_module"]["graph"]["inputs"].append({"expr_str": "__import__('os').getpid()"})


def argument_of_a_class(graph: dict[str, Any]) -> None:
    graph["graph_module"]["signature"]["in_spec"] = '[1, {"type": "subprocess.Popen", "context": "null"}]'


@pytest.mark.parametrize("spoil", [call_system, shape_by_code, argument_of_a_class])
def test_a_graph_that_would_run_code_is_refused(
    archive: tuple[Path, Small], tmp_path: Path, spoil: Callable[[dict[str, Any]], None]
) -> None:
    path = rewritten(archive[0], tmp_path / "bad.pt2", "models/model.json", spoil)
    with pytest.raises(ModelError, match="is refused: it"):
        load_pt2(path)


def test_a_pickled_object_among_the_constants_is_refused(archive: tuple[Path, Small], tmp_path: Path) -> None:
    def opaque(index: dict[str, Any]) -> None:
        index["config"]["thing"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}

    path = rewritten(archive[0], tmp_path / "bad.pt2", "constants/model_constants_config.json", opaque)
    with pytest.raises(ModelError, match="is refused: it holds 'opaque_obj_0'"):
        load_pt2(path)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"no archive")
    with pytest.raises(ModelError, match=r"cannot be read as a torch\.export archive"):
        load_pt2(tmp_path / "m.pt2")


def rewritten(path: Path, to: Path, entry: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """The archive with one of its JSON files changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as new:
        for one in old.infolist():
            content = old.read(one)
            if one.filename.endswith(entry):
                document = json.loads(content)
                change(document)
                content = json.dumps(document).encode()
            new.writestr(one.filename, content)
    return to
