"""What of a user's own code travels to the nodes of a cluster."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy
import pytest

from swath.flows.work import code
from swath.flows.work.code import own_modules, swath_digest
from swath.schemas.errors import ConfigurationError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a package, a module that it imports, one that nobody does, and much that is neither."""
    package = tmp_path / "own_farm"
    for folder in (package, package / ".git", package / "__pycache__", package / "tables", tmp_path / ".venv"):
        folder.mkdir()
        (folder / "large.bin").write_bytes(b"x" * 1000)
    (package / "__init__.py").write_text("from own_help import where\n")
    (tmp_path / "own_help.py").write_text("def where(): ...\n")
    (tmp_path / "own_notes.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("own_farm", "own_help"):
        sys.modules.pop(name, None)


def loaded() -> dict[str, ModuleType]:
    importlib.import_module("own_farm")
    return {name: module for name, module in sys.modules.items() if name.startswith("own_")}


def test_a_package_and_what_it_imports_travel_and_nothing_else_of_the_folder(project: Path) -> None:
    assert own_modules(loaded()) == [project / "own_farm", project / "own_help.py"]


def test_what_is_installed_does_not_travel(project: Path) -> None:
    assert own_modules({"numpy": numpy, "json": sys.modules["json"], "sys": sys}) == []
    assert "swath" not in {path.name for path in own_modules()}
    installed = project / "lib" / "site-packages" / "own_other"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    other = ModuleType("own_other")
    other.__path__ = [str(installed)]
    assert own_modules({"own_other": other}) == []


def test_too_much_is_refused_with_the_largest_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = loaded()
    (project / "own_farm" / "tables" / "soil.bin").write_bytes(b"x" * 5_000_000)
    monkeypatch.setattr(code, "MOST_BYTES", 4_000_000)
    with pytest.raises(ConfigurationError, match=r"own_farm has 5 MB, .* own_farm/tables/soil.bin \(5 MB\).* 4 MB in"):
        own_modules(modules)
    (project / "own_farm" / "tables" / "soil.bin").rename(project / "own_farm" / ".git" / "soil.bin")
    assert len(own_modules(modules)) == 2, "what git keeps does not count"


def test_the_digest_of_the_package_is_that_of_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for number, text in enumerate(("a = 1\n", "a = 1\n", "a = 2\n")):
        (tmp_path / str(number) / "flows").mkdir(parents=True)
        (tmp_path / str(number) / "flows" / "a.py").write_text(text)
        monkeypatch.setattr(code.swath, "__path__", [str(tmp_path / str(number))])
        swath_digest.cache_clear()
        digests.append(swath_digest())
    swath_digest.cache_clear()
    assert digests[0] == digests[1] != digests[2]
