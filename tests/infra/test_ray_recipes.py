"""What infra/ray says is what Ray, Prefect, uvicorn, systemd and Terraform understand."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import machine_recipe
from tests.machine_recipe import PLACE, RAY, UNITS

from swath.flows.cli import app

CLUSTER = RAY / "cluster.yaml"
PAGE = (RAY / "on_premises.md").read_text()
VARIABLES = {"ADDRESS": "10.0.8.11", "RAY_ADDRESS": "10.0.8.10:6379", "RAY_HEAD_IP": "10.0.8.10"}
ROOT = RAY.parents[1]


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """The file as `ray up` reads it."""
    from ray.autoscaler._private.util import prepare_config

    prepared: dict[str, Any] = prepare_config(yaml.safe_load(CLUSTER.read_text()))
    return prepared


def understood(words: list[str]) -> None:
    """Raises where the command's own parser does not know a word."""
    program, *arguments = words
    name = Path(program).name
    if name == "ray":
        from ray.scripts.scripts import cli

        cli.commands[arguments[0]].make_context(f"ray {arguments[0]}", arguments[1:])
    elif name == "uvicorn":
        from uvicorn.main import main

        main.make_context("uvicorn", arguments)
    elif name == "swath":
        import typer

        group = typer.main.get_command(app)
        group.commands[arguments[0]].make_context(f"swath {arguments[0]}", arguments[1:])  # type: ignore[attr-defined]
    else:
        told = subprocess.run([program, *arguments[:2], "--help"], capture_output=True, text=True, check=True).stdout
        assert all(word.split("=")[0] in told for word in arguments if word.startswith("--")), told


def test_ray_up_takes_the_file(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(cluster)
    kinds = cluster["available_node_types"]
    assert {name: (kind["min_workers"], kind["max_workers"]) for name, kind in kinds.items()} == {
        "head": (0, 0), "cpu": (0, 16), "gpu": (0, 4),
    }  # fmt: skip
    assert all(kinds[name]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot" for name in ("cpu", "gpu"))
    counted = dict(re.findall(r"SWATH_CLUSTER_(\w+)=(\d+)", "\n".join(cluster["head_setup_commands"])))
    assert counted == {
        f"{name}S": str(sum(kind["max_workers"] * kind["resources"].get(name, 0) for kind in kinds.values()))
        for name in ("CPU", "GPU")
    }
    for kind in kinds.values():
        machine = kind["node_config"]
        assert machine["SecurityGroupIds"], "Ray would make one that opens SSH to the world"
        assert machine["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in machine["BlockDeviceMappings"])
    assert cluster["auth"]["ssh_user"] != "root"
    assert cluster["provider"]["use_internal_ips"]


def test_ray_up_starts_what_ray_understands(cluster: dict[str, Any]) -> None:
    lines = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    commands = [
        re.sub(r"\$(\w+)", lambda name: VARIABLES[name[1]], part.strip())
        for line in lines for part in line.split(";") if part.strip().startswith("ray ")
    ]  # fmt: skip
    assert [command.split()[1] for command in commands] == ["stop", "start", "stop", "start"]
    for command in commands:
        understood(shlex.split(command))


def test_ray_up_ships_what_there_is(cluster: dict[str, Any]) -> None:
    made = {"dist", "secret"}  # by the commands at its top
    assert all((ROOT / source).exists() for source in cluster["file_mounts"].values() if source not in made)
    used = set(re.findall(r"[\w.]+\.sh|constraints\.txt", "\n".join(cluster["setup_commands"])))
    assert used <= {Path(there).name for there in cluster["file_mounts"]}


def test_ray_up_leaves_open_what_terraform_says() -> None:
    values = "\n".join(line.split("#")[0] for line in CLUSTER.read_text().splitlines())
    left_open = set(re.findall(r"\b(?:[A-Z]+-[A-Z]+|REGION|BUCKET|SUBNET)\b", values))
    output = (ROOT / "infra/terraform/aws/ray.tf").read_text().split('output "ray_up"')[1]
    told = set(re.findall(r"^\s+\"?([A-Z-]+)\"?\s+=", output, re.MULTILINE))
    assert left_open - told == {"UBUNTU-IMAGE", "GPU-IMAGE", "KEY-NAME"}
    assert told <= left_open
    profiles = set(re.findall(r"Name: swath-ray-(\w+)", values))
    assert profiles == {"head", "worker"}


def test_a_machine_that_is_set_up_has_what_the_units_ask_for(tmp_path: Path) -> None:
    folder = tmp_path / "swath"
    made = machine_recipe.set_up(folder)
    before = (folder / "environment").read_text()
    subprocess.run(["bash", folder / "machine.sh"], check=True, capture_output=True)
    assert (folder / "environment").read_text() == before
    assert (folder / "environment").stat().st_mode & 0o077 == 0
    assert not [
        file for file in (folder / "secret").rglob("*") if file.suffix != ".crt" and file.stat().st_mode & 0o077
    ]
    for unit in UNITS:
        understood(machine_recipe.command(unit, folder, made | VARIABLES))


def test_a_machine_without_the_authoritys_key_makes_no_authority_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "swath"
    machine_recipe.set_up(folder)
    before = (folder / "secret" / "tls" / "ca.crt").read_text()
    (folder / "secret" / "tls" / "ca.key").unlink()
    again = subprocess.run(["bash", folder / "machine.sh"], capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert "not its ca.key" in again.stderr
    assert (folder / "secret" / "tls" / "ca.crt").read_text() == before


def test_an_older_wheel_beside_the_new_one_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "swath"
    machine_recipe.set_up(folder)
    for version in ("0.1.0", "0.2.0"):
        (folder / "dist" / f"swath-{version}-py3-none-any.whl").touch()
    os.utime(folder / "venv" / ".installed", (0, 0))
    again = subprocess.run(["bash", folder / "machine.sh"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "leave one wheel" in again.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    folder = tmp_path / "swath"
    made = machine_recipe.set_up(folder)
    copies = []
    for unit in UNITS:
        text = unit.read_text().replace(PLACE, str(folder)).replace("User=swath", "User=daemon")
        for name, value in (made | VARIABLES).items():
            text = text.replace(f"${{{name}}}", value)
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(text)
    found = subprocess.run(["systemd-analyze", "verify", *copies], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert not [line for line in found.stderr.splitlines() if any(unit.name in line for unit in UNITS)]


def test_the_page_names_what_there_is() -> None:
    for file in re.findall(r"infra/[\w/.*-]+\.\w+", PAGE):
        assert list(ROOT.glob(file)), file
    for unit in re.findall(r"swath-[a-z]+-?[a-z]*(?=[ `\n])", PAGE):
        assert (RAY / "systemd" / f"{unit}.service").exists(), unit
    secrets = set(re.findall(rf"EnvironmentFile={PLACE}/secret/([\w-]+)", "".join(unit.read_text() for unit in UNITS)))
    assert all(f"{PLACE}/secret/{name}" in PAGE for name in secrets)


def test_a_shell_reads_the_drivers_variables_as_systemd_does() -> None:
    block = next(
        block for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) if block.startswith("PREFECT_API_URL")
    )
    show = 'set -eua; eval "$1"; printf %s "$SWATH_CATALOG"'
    said = subprocess.run(["bash", "-c", show, "-", block], capture_output=True, text=True, check=True).stdout
    assert json.loads(said)["type"] == "sql"


def test_the_page_reads_every_file_that_the_units_of_drivers_do() -> None:
    unit = (RAY / "systemd" / "swath-prefect-worker.service").read_text()
    by_hand = PAGE.split("**Runs by hand**")[1]
    for file in re.findall(r"EnvironmentFile=(\S+)", unit):
        assert f". {file};" in by_hand


def test_every_command_of_the_page_is_one_that_bash_can_read() -> None:
    for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL):
        subprocess.run(["bash", "-n", "-c", block], check=True)
