"""How long partitions are kept: rules over their names, and the memory of what is over.

A partition that was dropped would come back at the next run for as long as its images lie in the source. So what was
dropped is written down, and runs leave it out of their manifests.
"""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase

from swath.flows.upkeep.units import age
from swath.infra import storage
from swath.schemas.errors import ConfigurationError

FOLDER = "_swath/retention"
_RULE = re.compile(r"(?:(?P<glob>\S+):\s*)?(?P<key>[A-Za-z_]\w*)\s*(?P<sign>[<>])\s*(?P<value>\S+)")
_DATE = re.compile(r"(\d{4})(?:-?(\d{2})(?:-?(\d{2}))?)?")


@dataclass(frozen=True)
class Rule:
    """Partitions that are over: those whose name matches, and whose date, where there is one in it, is past."""

    glob: str
    key: str = ""
    before: date = date.max

    def takes(self, partition: str) -> bool:
        if not fnmatchcase(partition, self.glob):
            return False
        return not self.key or ((end := end_of(partition, self.key)) is not None and end <= self.before)

    def __str__(self) -> str:
        if not self.key:
            return self.glob
        return f"{'' if self.glob == '*' else f'{self.glob}: '}{self.key}<{self.before.isoformat()}"


def parse(text: str, today: date) -> Rule:
    """`dt<2026-01-01`: before that day. `dt>400d`: more than 400 days ago. `site=a/*: dt>90d`: only there.
    `site=test/*`: all of them. Raises ConfigurationError."""
    match = _RULE.fullmatch(text.strip())
    if match is None:
        if re.fullmatch(r"[^<>\s]*[^<>\s/]=[^<>\s/][^<>\s]*", text):
            return Rule(text)
        raise ConfigurationError(
            f"{text!r} is no retention; write dt<2026-01-01, dt>400d, 'site=a/*: dt>90d' or 'site=test/*'"
        )
    glob, key, value = match["glob"] or "*", match["key"], match["value"]
    if match["sign"] == ">":
        return Rule(glob, key, today - age(value))
    if (start := _start(value)) is None:
        raise ConfigurationError(f"{text!r}: {value!r} is no date; write dt<2026-01-01, or dt>400d for an age")
    return Rule(glob, key, start)


def end_of(partition: str, key: str) -> date | None:
    """The day after the last one of a partition, by a key in its name whose value is a year, a month or a day."""
    value = next((rest for name, _, rest in (part.partition("=") for part in partition.split("/")) if name == key), "")
    match, start = _DATE.fullmatch(value), _start(value)
    if match is None or start is None:
        return None
    days = 1 if match[3] else calendar.monthrange(start.year, start.month)[1]
    return start + timedelta(days=days) if match[2] else date(start.year + 1, 1, 1)


def remembered(warehouse: str, table: str) -> list[Rule]:
    """What was dropped of a table, and is left out by its runs."""
    try:
        told = json.loads(storage.read(_memory(warehouse, table)))
    except FileNotFoundError:
        return []
    return [parse(text, date.min) for text in told["dropped"]]


def remember(warehouse: str, table: str, rules: Iterable[Rule]) -> None:
    """Writes down what is dropped, beside what was before; of one key and glob the latest date counts."""
    latest: dict[tuple[str, str], Rule] = {}
    for rule in [*remembered(warehouse, table), *rules]:
        before = latest.get((rule.glob, rule.key))
        if before is None or rule.before > before.before:
            latest[rule.glob, rule.key] = rule
    told = {"dropped": sorted(str(rule) for rule in latest.values())}
    storage.write(_memory(warehouse, table), json.dumps(told, indent=1).encode())


def lift(warehouse: str, table: str) -> None:
    """From here on runs take again whatever lies in the source."""
    storage.delete(_memory(warehouse, table))


def over(rules: Collection[Rule], partitions: Iterable[str]) -> set[str]:
    """The partitions that any of the rules takes."""
    return {partition for partition in partitions if any(rule.takes(partition) for rule in rules)}


def _start(value: str) -> date | None:
    match = _DATE.fullmatch(value)
    try:
        return date(int(match[1]), int(match[2] or 1), int(match[3] or 1)) if match else None
    except ValueError:
        return None


def _memory(warehouse: str, table: str) -> str:
    return storage.join(warehouse, FOLDER, f"{table}.json")
