"""A machine of one's own as infra/ray/on_premises.md sets it up: what infra/ray/machine.sh makes of it, and the
commands of its systemd units."""

from __future__ import annotations

import configparser
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.certificates import SCRIPT, certificate

RAY = Path(__file__).parents[1] / "infra" / "ray"
UNITS = sorted((RAY / "systemd").glob("*.service"))
PLACE = "/opt/swath"


def set_up(folder: Path) -> dict[str, str]:
    """Runs the script in a folder where everything is installed already; the variables that it leaves."""
    folder.mkdir()
    for file in (RAY / "machine.sh", SCRIPT):
        shutil.copy(file, folder)
    (folder / "constraints.txt").touch()
    (folder / "dist").mkdir()
    (folder / "venv").mkdir()
    (folder / "venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
    (folder / "venv" / ".installed").touch()
    certificate(folder / "secret" / "tls", "driver")
    (folder / "secret" / "token").write_text(secrets.token_hex(32))
    subprocess.run(["bash", folder / "machine.sh"], check=True, capture_output=True)
    lines = (folder / "environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def command(unit: Path, folder: Path, environment: dict[str, str], **options: str) -> list[str]:
    """What the unit starts, of the machine in the folder. `options` replaces values of long options."""
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.read(unit)
    line = re.sub(r"\$\{(\w+)\}", lambda name: environment[name[1]], parsed["Service"]["ExecStart"])
    words = shlex.split(line.replace(PLACE, str(folder)))
    for name, value in options.items():
        at = next(number for number, word in enumerate(words) if word.split("=")[0] == f"--{name}")
        words[at : at + 1 + ("=" not in words[at])] = [f"--{name}={value}"]
    return words


def without_ours() -> dict[str, str]:
    """This process's environment without what it says to Ray, Prefect and Swath."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SWATH_", "PREFECT_"))}
