"""From names to operator classes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.operators.own_operators import MeanRed

from swath.operators.core.resolve import built_in, resolve
from swath.operators.image.codec import Decode
from swath.schemas.errors import ConfigurationError

OWN = "tests.operators.own_operators"


def test_built_in_operators_are_found_by_the_snake_case_of_their_class() -> None:
    assert resolve("decode") is Decode
    assert {"assess_quality", "decode", "exif", "ocr", "preprocess"} <= set(built_in())
    assert all(name == kind.op_name() for name, kind in built_in().items())


def test_no_abstract_base_is_offered() -> None:
    assert not {"operator", "item_operator", "transform", "model_operator"} & set(built_in())


def test_an_operator_of_ones_own_is_found_by_its_path() -> None:
    assert resolve(f"{OWN}:MeanRed") is MeanRed
    assert resolve("swath.operators.image.codec:Decode") is Decode


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ("decoed", "there is no operator 'decoed'; did you mean 'decode'[?] An operator of your own is"),
        ("zzz", "there is no operator 'zzz'; known are assess_quality, "),
        ("no_such_package.ndre:NDRE", "cannot be imported .ModuleNotFoundError.*PYTHONPATH"),
        (f"{OWN}:Missing", "cannot be imported .AttributeError.*Missing"),
        (":NDRE", "cannot be imported"),
        (f"{OWN}:", "cannot be imported"),
        (f"{OWN}:not_an_operator", "is no swath Operator but 5"),
        (f"{OWN}:np", "is no swath Operator but <module"),
        (f"{OWN}:Unfinished", "is not complete; give its class outputs, version: ClassVar"),
    ],
)
def test_what_is_no_operator_is_refused_with_a_remedy(op: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        resolve(op)


def test_a_module_that_fails_while_it_is_imported_is_named_with_its_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_operators.py").write_text("import os\nvalue = undefined_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match="NameError: name 'undefined_name'"):
        resolve("broken_operators:NDRE")


def test_an_installed_package_brings_operators_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "my_farm-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-farm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[swath.operators]\nredness = {OWN}:MeanRed\nlost = {OWN}:Nothing\ndecode = {OWN}:MeanRed\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve("redness") is MeanRed
    assert resolve("decode") is Decode  # nobody's package replaces a built-in one
    with pytest.raises(ConfigurationError, match="'lost' cannot be imported"):
        resolve("lost")


def test_looking_operators_up_loads_none_of_what_they_compute_with() -> None:
    code = "import sys; from swath.operators.core.resolve import built_in; built_in(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "swath.operators.image.classification" in loaded
    assert not {"torch", "torchvision", "onnxruntime", "openvino", "tesserocr", "rapidocr"} & set(loaded)
