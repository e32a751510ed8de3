"""The Dockerfile: by hadolint, against the tree, and run instruction by instruction in clean roots."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.infra import clean_root, torch_stand_in
from tests.infra.clean_root import DOCKERFILE, TOP, instructions

BIN = Path(sys.executable).parent
ON_A_CLEAN_ROOT = """
set -ex
cd /tmp
! touch /opt/here 2>/dev/null
make_certs.sh tls pod 127.0.0.1
swath doctor
python -c 'from pathlib import Path; from swath.flows.demo.draw import draw; draw(Path("/tmp/demo"))'
swath run photos demo/photos --ray off --direct
swath run photos demo/photos --ray local --set assess_quality.dark_brightness=0.2
swath run documents demo/documents --include 'invoice_1*' --ray off --direct
swath sql 'SELECT count(*) FROM documents.lines' --format csv
"""
WITH_TORCH = r"""
printf 'name: kinds\nsource: {include: ["*.jpg"]}\nsteps: [decode, image_kind]\n' > kinds.yaml
swath run kinds.yaml demo/photos --ray off --direct
swath sql "SELECT count(*) FROM kinds.items WHERE kind = 'photo'" --format csv
"""


def told(kind: str) -> list[str]:
    return [one["value"] for one in instructions() if one["instruction"] == kind]


def test_hadolint_has_nothing_to_say() -> None:
    found = subprocess.run(
        [BIN / "hadolint", "--failure-threshold=warning", DOCKERFILE], capture_output=True, text=True
    )
    assert (found.returncode, found.stdout.replace("\n", "")) == (0, found.stdout.replace("\n", ""))
    assert "warning" not in found.stdout


def test_hadolint_sees_what_is_wrong(tmp_path: Path) -> None:
    worse = DOCKERFILE.read_text().replace("--no-install-recommends", "").replace("${BASE}", "python:latest")
    (tmp_path / "Dockerfile").write_text(worse)
    found = subprocess.run([BIN / "hadolint", tmp_path / "Dockerfile"], capture_output=True, text=True)
    assert found.returncode != 0
    assert {"DL3007", "DL3015"} <= set(re.findall(r"DL\d+", found.stdout))


def test_it_is_not_root_and_pinned_and_has_what_setup_installs() -> None:
    assert told("USER") == ["1000:1000"]
    packages = re.search(r"^PACKAGES := (.+)$", (TOP / "Makefile").read_text(), re.MULTILINE)
    assert packages is not None
    install = next(command for command in told("RUN") if "apt-get install" in command)
    assert set(re.findall(r"tesseract[\w-]*", packages[1])) == set(re.findall(r"tesseract[\w-]*", install))
    for command in told("RUN"):
        for pip in re.findall(r"pip install [^&]+", command):
            assert "-c constraints.txt" in pip or "--no-index" in pip, pip
    assert set(re.findall(r"python:([\w.-]+)", DOCKERFILE.read_text())) == {"3.11-slim-bookworm"}


def test_a_build_is_given_what_the_wheel_is_made_of_and_nothing_else() -> None:
    given = set(clean_root.context_files())
    assert {path.parts[0] for path in given} == {
        *(".src", "schemas", "operators", "infra", "flows"),
        *("pyproject.toml", "constraints.txt", "README.md", "LICENSE"),
    }
    tracked = subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=True).stdout.split()
    modules = {Path(name) for name in tracked if re.match(r"(schemas|operators|infra|flows)/.+\.py$", name)}
    assert modules - given == set()
    assert not [path for path in given if path.suffix in (".tf", ".pyc") or "kubernetes" in path.parts]


def test_a_build_is_given_all_that_it_copies_and_ends_where_it_is_not(tmp_path: Path) -> None:
    copied = [value.split() for value in told("COPY") if "--from" not in value]
    assert len(copied) > 4
    for number, (*sources, _) in enumerate(copied):
        clean_root.copy_context(sources, tmp_path / str(number))
    assert (tmp_path / "0" / "pyproject.toml").exists()
    with pytest.raises(FileNotFoundError, match=r"^COPY infra/terraform nothing\.txt: not in the tree, or kept from"):
        clean_root.copy_context(["LICENSE", "infra/terraform", "nothing.txt"], tmp_path)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where roots are made: gigabytes, so they go with the tests but for those that one means to look at."""
    if kept := os.environ.get("SWATH_CLEAN_ROOT"):
        yield Path(kept)
        return
    folder = tmp_path_factory.mktemp("roots")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def given(accelerator: str, tmp_path: Path) -> Iterator[list[str]]:
    """The build's arguments; stand-ins for what PyTorch's own index has, where that cannot be reached."""
    arguments = [f"ACCELERATOR={accelerator}"]
    if accelerator == "cuda" or torch_stand_in.reached():
        yield arguments
    else:
        with torch_stand_in.index(tmp_path / "index") as url:
            print(f"{torch_stand_in.INDEX} cannot be reached: torch and torchvision are stand-ins")
            yield [*arguments, f"TORCH_CPU_INDEX={url}"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("debootstrap") is None, reason="clean roots need root and Debian's debootstrap"
)
@pytest.mark.parametrize("accelerator", ["cpu", "cuda"])
def test_all_that_a_build_runs_runs_in_clean_roots_and_so_does_what_comes_out(
    accelerator: str, given: list[str], work: Path
) -> None:
    run = [sys.executable, "-m", "tests.infra.clean_root", str(work)]
    arguments = [word for one in given for word in ("--build-arg", one)]
    subprocess.run([*run, *arguments, "build"], cwd=TOP, check=True)
    (packages,) = (work / "final" / "upper" / "opt" / "swath" / "lib").glob("python3*/site-packages")
    there = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert {"swath", "torch", "torchvision"} <= there
    assert "triton" not in there
    assert bool(there & {"nvidia", "cuda"}) == (accelerator == "cuda")
    torch = (packages / "torch" / "lib").is_dir()  # a stand-in has none
    script = ON_A_CLEAN_ROOT + WITH_TORCH * torch
    out = subprocess.run([*run, "--read-only", "run", "bash", "-c", script], cwd=TOP, capture_output=True, text=True)
    assert out.returncode == 0, (out.stdout + out.stderr)[-3000:]
    assert out.stdout.count("published") == 3 + torch
    lines, *photos = (int(number) for number in re.findall(r"^(\d+)$", out.stdout, re.MULTILINE))
    assert lines > 20  # that were read
    assert all(count > 3 for count in photos)
    assert len(photos) == torch
