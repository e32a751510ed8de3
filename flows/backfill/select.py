"""Which partitions a backfill does, and in what order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from swath.infra import storage
from swath.schemas.errors import ConfigurationError

RANGE = ".."
_DATE = re.compile(r"(19|20)\d\d")


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a partition is one of those that the patterns name; without patterns, every one is.

    A pattern is a partition (`site=a/dt=2026-01-01`), or names one or several neighbouring folders of it, each as a
    glob (`dt=2026-0[1-6]-*`, `site=a/dt=2026-*`) or as a range with both its ends (`dt=2026-01-01..2026-03-31`).
    Numbers are compared as such, everything else as text. Raises ConfigurationError for a range that is none.
    """
    tests = [_test(pattern.strip().strip("/")) for pattern in patterns]
    return lambda partition: not tests or any(test(partition) for test in tests)


def read_patterns(uri: str) -> list[str]:
    """The patterns of a file, one a line; empty lines and those that start with `#` say nothing."""
    uri = storage.normalize(uri)
    try:
        lines = storage.read(uri).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{uri}: the partitions cannot be read from it ({error})") from None
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise ConfigurationError(f"{uri}: names no partitions; write one on each line")
    return found


def in_order(partitions: Iterable[str], newest_first: bool) -> list[str]:
    """The partitions by the date in their names, those of one date by name; by name where there is none."""
    named = sorted(partitions)
    return sorted(named, key=_time, reverse=newest_first) if newest_first else sorted(named, key=_time)


def _test(pattern: str) -> Callable[[str], bool]:
    if not pattern:
        raise ConfigurationError("an empty pattern names no partition; write one such as 'dt=2026-01-*'")
    folders = [_folder(folder, pattern) for folder in pattern.split("/")]

    def matches(partition: str) -> bool:
        if partition == pattern:
            return True
        names = partition.split("/")
        starts = range(len(names) - len(folders) + 1)
        return any(all(test(name) for test, name in zip(folders, names[start:], strict=False)) for start in starts)

    return matches


def _folder(folder: str, pattern: str) -> Callable[[str], bool]:
    if RANGE not in folder:
        return lambda name: fnmatchcase(name, folder)
    key, separator, ends = folder.partition("=") if "=" in folder.partition(RANGE)[0] else ("", "", folder)
    first, _, last = ends.partition(RANGE)
    last = last.removeprefix(f"{key}=") if key else last
    if not first or not last or RANGE in last or _value(first) > _value(last):
        raise ConfigurationError(f"{pattern!r} is no range; write its first and last value: dt=2026-01-01..2026-03-31")

    def within(name: str) -> bool:
        if not name.startswith(key + separator):
            return False
        value = name.removeprefix(key + separator)
        # `..2026-03` has all of March in it
        return _value(first) <= _value(value) and (_value(value) <= _value(last) or value.startswith(last))

    return within


def _value(text: str) -> tuple[int, float, str]:
    return (0, float(text), "") if re.fullmatch(r"-?\d+(\.\d+)?", text) else (1, 0, text)


def _time(partition: str) -> tuple[bool, list[int]]:
    """The numbers from the first value on that begins with a year."""
    values = [folder.partition("=")[2] or folder for folder in partition.split("/")]
    start = next((place for place, value in enumerate(values) if _DATE.match(value)), None)
    if start is None:
        return False, []
    return True, [int(number) for value in values[start:] for number in re.findall(r"\d+", value)]
