"""The import names are `swath.*`, installed or not, also where a user has a `flows/` of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("flows", "operators", "schemas", "infra")

IMPORT_BOTH = """
import flows, operators
import swath.flows, swath.infra, swath.operators.core.base, swath.schemas.pipeline
assert flows.OWNER == operators.OWNER == "user"
assert not hasattr(swath.flows, "OWNER") and swath.flows is not flows
print(swath.operators.core.base.Operator.__module__)
"""

IMPORT_ON_A_WORKER = """
import os
import ray
import flows  # the driver's own

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

@ray.remote
def names():
    import flows
    from swath.operators.core.base import Operator
    return os.getpid(), flows.OWNER, Operator.__module__

pid, owner, module = ray.get(names.remote())
ray.shutdown()
assert pid != os.getpid()
assert owner == "user"
print(module)
"""


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """A project that has taken our folder names for its own modules."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").write_text('OWNER = "user"\n')
    (tmp_path / "operators.py").write_text('OWNER = "user"\n')
    return tmp_path


def _run_script(folder: Path, code: str, **environment: str) -> str:
    """Runs the code as `folder/main.py` from `folder`; its last line of output."""
    (folder / "main.py").write_text(code)
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_our_packages_and_the_users_modules_of_the_same_names_live_side_by_side(users_folder: Path) -> None:
    assert _run_script(users_folder, IMPORT_BOTH) == "swath.operators.core.base"


def test_a_ray_worker_started_beside_the_users_flows_imports_ours(users_folder: Path) -> None:
    module = _run_script(users_folder, IMPORT_ON_A_WORKER, RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")
    assert module == "swath.operators.core.base"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy, so that no build folder is left in it."""
    copy = tmp_path_factory.mktemp("checkout")
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (".src", *ROOMS, "tests"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(build, cwd=copy, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_data_file_and_no_test(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = ("tests/", "swath/tests/")  # Terraform's lie with its module
    assert not [name for name in names if name.startswith(ours)]
    assert {name.split("/")[0] for name in names} == {"swath", wheel.name.rsplit("-py3", 1)[0] + ".dist-info"}
    for room in ROOMS:
        files = (path for path in (ROOT / room).rglob("*") if path.is_file())
        wanted = [path for path in files if "__pycache__" not in path.parts]
        assert wanted
        missing = {f"swath/{path.relative_to(ROOT).as_posix()}" for path in wanted} - names
        assert not missing


def test_the_wheel_imports_where_it_is_installed_alone(wheel: Path, users_folder: Path) -> None:
    target = users_folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    where = "import swath.flows, swath.schemas.items; print(swath.flows.__file__)"
    assert _run_script(users_folder, IMPORT_BOTH, PYTHONPATH=str(target)) == "swath.operators.core.base"
    assert Path(_run_script(users_folder, where, PYTHONPATH=str(target))).is_relative_to(target)
