"""A model in an object store is fetched once, named on every row, and looked at by `swath models`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.operators.test_classification import SIDE, linear_onnx
from typer.testing import CliRunner, Result

from swath.flows.ask.query import sql
from swath.flows.cli import app
from swath.flows.demo.photos import draw_photos
from swath.flows.run import process
from swath.flows.run.records import Record, Request
from swath.infra import storage
from swath.operators.models.files import file_digest
from swath.operators.models.reference import shipped
from swath.schemas.errors import ModelError
from swath.schemas.pipeline import Pipeline


def swath(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWATH_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_a_model_in_s3_is_fetched_once_and_named_on_every_row(
    s3: Any, models: Path, warehouse: str, tmp_path: Path, audit_socket: Path
) -> None:
    uri = s3.bucket("models") + "/colours/net.onnx"
    (tmp_path / "photos").mkdir()
    draw_photos(tmp_path / "photos", 2)

    def run() -> Record:
        steps = ["decode", {"classify": {"model": uri, "size": SIDE, "top_k": 1, "classes": "indices"}}]
        request = Request(
            pipeline=Pipeline.model_validate({"name": "photos", "steps": steps}),
            source=storage.normalize(str(tmp_path / "photos")),
            warehouse=warehouse,
            ray="off",
        )
        return process.start(request, prefect=False, audit_socket=audit_socket)

    def on_rows() -> list[dict[str, Any]]:
        return sql(warehouse, "SELECT DISTINCT models FROM photos.items").read_all().to_pylist()

    with pytest.raises(ModelError, match="give the URI of an existing object"):
        run()
    for classes in (6, 4):
        linear_onnx(tmp_path / "net.onnx", classes=classes)
        storage.write(uri, (tmp_path / "net.onnx").read_bytes())
        assert run().ok == 2
        assert on_rows() == [{"models": [("classify", f"{uri}@{file_digest(tmp_path / 'net.onnx')}")]}]
    assert len(list(models.rglob("net.onnx"))) == 2, "one file for each version of the object"


def test_models_are_listed_shown_fetched_and_verified(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    linear_onnx(path)
    digest = file_digest(path)
    shown = json.loads(swath("show", str(path), "--json").stdout)
    assert (shown["sha256"], shown["bytes"]) == (digest, path.stat().st_size)
    assert digest in swath("pull", str(path)).stdout
    (result,) = json.loads(swath("verify", str(path), "--json").stdout)
    assert (result["ok"], result["outputs"]) == (True, [[1, 6]])
    wrong = swath("verify", str(path), "--sha256", "0" * 64)
    assert wrong.exit_code == 1
    assert "bad" in wrong.stdout
    assert f"has sha256 {digest}" in wrong.stdout.replace("\n", "")
    fetched = models / "torchvision" / "tiny-00000000.pth"
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"cut short")
    assert str(fetched) in [one["model"] for one in json.loads(swath("list", "--json").stdout)]
    refused = swath("verify", str(fetched))
    assert refused.exit_code == 1
    assert "its name says 00000000" in refused.stdout.replace("\n", "")


def test_the_shipped_models_are_what_their_cards_say_and_answer() -> None:
    result = swath("verify", *shipped(), "--json")
    assert result.exit_code == 0, result.stdout
    checked = json.loads(result.stdout)
    assert {one["model"] for one in checked} >= {"swath:super_res_x2", "swath:super_res_x4", "swath:denoise"}
    assert all(0 < one["parameters"] < 1_000_000 for one in checked)
