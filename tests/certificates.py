"""Certificates by a private authority, made by infra/tls/make_certs.sh."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "infra" / "tls" / "make_certs.sh"


@dataclass(frozen=True)
class Certificate:
    """One of a server, its key, and the authority that signed it."""

    certificate: Path
    key: Path
    authority: Path


def certificate(folder: Path, name: str, *addresses: str) -> Certificate:
    """One that is good for the name and the addresses."""
    subprocess.run([SCRIPT, folder, name, *addresses], check=True, capture_output=True)
    return Certificate(folder / f"{name}.crt", folder / f"{name}.key", folder / "ca.crt")
