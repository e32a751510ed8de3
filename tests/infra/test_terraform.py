"""The module for Amazon: Terraform itself formats, validates and tests it, against the real provider's schemas."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"
MODULE = INFRA / "terraform" / "aws"
OVERLAY = INFRA / "kubernetes" / "overlays" / "aws"
MIRRORS = ("/opt/*", "/usr/share/terraform/plugins", "/usr/local/share/terraform/plugins")
"""Where providers may lie on a machine that cannot fetch them."""


def terraform(*words: str, folder: Path = MODULE) -> subprocess.CompletedProcess[str]:
    program = shutil.which("terraform") or shutil.which("tofu")
    if program is None:
        pytest.skip("neither terraform nor tofu is installed")
    own = {"TF_CLI_CONFIG_FILE": os.devnull, "TF_REGISTRY_CLIENT_TIMEOUT": "5", "CHECKPOINT_DISABLE": "1"}
    return subprocess.run(
        [program, *words, "-no-color"] if words[0] != "fmt" else [program, *words],
        cwd=folder,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the module with its provider."""
    folder = tmp_path_factory.mktemp("terraform") / "aws"
    shutil.copytree(MODULE, folder, ignore=shutil.ignore_patterns(".terraform*"))
    mirrors = chain.from_iterable(Path("/").glob(f"{one[1:]}/registry.terraform.io/hashicorp/aws") for one in MIRRORS)
    words = [f"-plugin-dir={one.parents[2]}" for one in mirrors]
    begun = terraform("init", "-backend=false", "-input=false", *words, folder=folder)
    if begun.returncode:
        pytest.skip(f"the provider cannot be had: {begun.stderr.strip().splitlines()[-1]}")
    return folder


def test_it_is_formatted() -> None:
    found = terraform("fmt", "-check", "-recursive")
    assert found.returncode == 0, found.stdout


def test_the_provider_knows_all_that_it_says(ready: Path) -> None:
    found = terraform("validate", folder=ready)
    assert found.returncode == 0, found.stderr


def test_its_own_tests_pass(ready: Path) -> None:
    found = terraform("test", folder=ready)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 failed" in found.stdout


@pytest.mark.parametrize(
    ("file", "good", "bad", "told"),
    [
        ("bucket.tf", "block_public_policy     = true", "block_public_policy = false", "The bucket may be made public"),
        ("bucket.tf", "      noncurrent_days = 1\n", "      days = 1\n", "Unsupported argument"),
        (
            "bucket.tf",
            "    expiration {\n      expired_object_delete_marker = true",
            "    expiration {\n      days = 90",
            "A rule deletes files",
        ),
        ("catalog.tf", "publicly_accessible             = false", "publicly_accessible = true", "answers the internet"),
        ("roles.tf", '"${aws_s3_bucket.this.arn}/${local.warehouse}/*"', '"*"', "reaches everything"),
        ("roles.tf", '"s3:GetObject", "s3:PutObject"', '"s3:*", "s3:GetObject", "s3:PutObject"', "The workers' role"),
        (
            "cluster.tf",
            'http_tokens                 = "required"',
            'http_tokens = "optional"',
            "machines' own credentials",
        ),
    ],
)
@pytest.mark.slow
def test_its_tests_see_what_is_wrong(ready: Path, tmp_path: Path, file: str, good: str, bad: str, told: str) -> None:
    """Each opens one hole in a copy."""
    folder = tmp_path / "aws"
    shutil.copytree(ready, folder, symlinks=True)
    text = (folder / file).read_text()
    assert good in text
    (folder / file).write_text(text.replace(good, bad))
    found = terraform("test", folder=folder)
    assert found.returncode != 0
    assert told in found.stdout + found.stderr


def test_its_outputs_are_what_the_overlay_leaves_open() -> None:
    kustomization = (OVERLAY / "kustomization.yaml").read_text()
    values = "\n".join(line for line in kustomization.splitlines() if not line.lstrip().startswith("#"))
    left_open = set(re.findall(r"\b[A-Z]{6,}(?:-[A-Z]+)?\b(?!_)", re.sub(r"\b\w*_\w*\b|PGSSL\w*", "", values)))
    overlay = (MODULE / "outputs.tf").read_text().split("overlay = {")[1].split("}")[0]
    names = re.findall(r"^\s+\"?([A-Z-]+)\"?\s+=", overlay, re.MULTILINE)
    assert left_open == set(names)
    script = "; ".join(rf"s|\b{name}\b|filled|g" for name in names)  # as the output `fill_in` has it
    filled = subprocess.run(["sed", script], input=kustomization, capture_output=True, text=True, check=True).stdout
    assert "AWS_REGION=filled" in filled
    assert yaml.safe_load(filled)["images"][0]["newName"] == "filled.dkr.ecr.filled.amazonaws.com/swath"


def test_its_machines_carry_what_the_pods_ask_for() -> None:
    patches = (OVERLAY / "ray-nodes.yaml").read_text()
    asked = set(re.findall(r"swath/pool: (\w+)", patches))
    tolerated = set(re.findall(r"key: ([\w./]+)", patches + (INFRA / "kubernetes/base/ray/cluster.yaml").read_text()))
    cluster = (MODULE / "cluster.tf").read_text()
    groups = dict(re.findall(r"^    (\w+)\s+= \{ types = .*taints = \[(.*)\] \}$", cluster, re.MULTILINE))
    assert asked <= set(groups)
    assert {taint.strip(' "') for one in groups.values() for taint in one.split(",") if taint} <= tolerated
    account = next(
        one
        for one in yaml.safe_load_all((INFRA / "kubernetes/base/service-accounts.yaml").read_text())
        if one["metadata"]["name"] == "swath"
    )
    assert f'account = "swath:{account["metadata"]["name"]}"' in (MODULE / "roles.tf").read_text()


def test_its_catalog_is_the_overlays() -> None:
    kustomization = (OVERLAY / "kustomization.yaml").read_text()
    uri = re.search(r'"uri": "([^"]+)"', kustomization)
    assert uri is not None
    assert uri[1].replace("DATABASE-HOST", "${aws_db_instance.this.address}") in (MODULE / "catalog.tf").read_text()
