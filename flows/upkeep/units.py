"""Ages and sizes as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

from swath.schemas.errors import ConfigurationError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "K": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def age(text: str) -> timedelta:
    """`7d`, `12h`, `30m`, `90s`, `2w`. Raises ConfigurationError."""
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if match is None:
        raise ConfigurationError(f"{text!r} is no age; write a number and s, m, h, d or w, such as 7d")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def size(text: str) -> int:
    """Bytes: `128MB`, `1GB`, `500kB`. Raises ConfigurationError."""
    match = re.fullmatch(r"(\d{1,9})\s*([KMG]?)B?", text.strip().upper())
    if match is None or int(match[1]) == 0:
        raise ConfigurationError(f"{text!r} is no size; write a number and kB, MB or GB, such as 128MB")
    return int(match[1]) * _BYTES[match[2]]


def human_bytes(count: int) -> str:
    """`812 B`, `4.2 kB`, `1.3 GB`."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:,.1f} {unit}"
