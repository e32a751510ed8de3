"""Checks of the chosen fields, and how sure they leave us."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

from swath.operators.documents.fields_items import Entry
from swath.operators.documents.fields_values import Choice
from swath.operators.documents.templates import Template

EARLIEST = date(1990, 1, 1)
WEIGHTS = {
    "bias": 0.003,
    "number": 0.454,
    "item": 2.231,
    "checksum": 2.401,
    "score": 0.225,
    "margin": 0.699,
    "read": 7.84,
    "passed": 0.883,
    "derived": -0.5,
    "failed": -2.5,
}
"""Of a logistic regression from what is known of a choice to the probability that it is right. Fitted by
`python -m tests.benchmarks.fields --calibrate`."""


def failed_checks(
    template: Template,
    chosen: dict[str, Choice],
    entries: Sequence[Entry],
    currencies: Sequence[str],
    today: date,
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """By field, the checks that failed and the number of those that passed."""
    failed: dict[str, list[str]] = defaultdict(list)
    passed: dict[str, int] = defaultdict(int)

    def say(names: Sequence[str], check: str, holds: bool | None) -> None:
        for name in names:
            if holds is False:
                failed[name].append(check)
            elif holds:
                passed[name] += 1

    values = {name: one.value for name, one in chosen.items() if isinstance(one.value, (date, Decimal))}
    columns = {
        f"line_items.{column}": [v for entry in entries if (v := entry.number(column)) is not None]
        for column in ("quantity", "unit_price", "amount")
    }
    for check, rule in template.checks.items():
        holds = rule.holds(values, columns)
        meant = rule.confirmed(values, columns) if holds else rule.names
        concerned = [name for name in meant if name in chosen]
        concerned += [f"line_items[{n}].amount" for n in range(1, len(entries) + 1) if "line_items" in meant]
        derived = any(chosen[name].derived for name in rule.names if name in chosen)
        say(concerned, check, None if derived and holds else holds)
    for number, entry in enumerate(entries, 1):
        quantity, price, amount = (entry.number(column) for column in ("quantity", "unit_price", "amount"))
        if quantity is not None and price is not None and amount is not None:
            holds = abs(quantity * price - amount) <= max(Decimal("0.02"), abs(amount) / 100)
            names = [f"line_items[{number}].{column}" for column in ("quantity", "unit_price", "amount")]
            say(names, "quantity_times_price", holds)
    for name, one in chosen.items():
        if isinstance(one.value, date):
            say([name], "date_plausible", one.value >= EARLIEST)
            if name != "due_date" and template.fields[name].type == "date":
                say([name], "date_in_future", one.value <= today + timedelta(days=1))
        if one.checksum is not None:
            say([name], f"{template.fields[name].type}_checksum", one.checksum)
    if "currency" in chosen:
        say(["currency"], "one_currency", len(set(currencies)) <= 1)
    return failed, passed


def features(one: Choice, failed: int, passed: int) -> dict[str, float]:
    """What is known of a choice, by the names of `WEIGHTS`."""
    return {
        "bias": 1.0,
        "number": float(isinstance(one.value, (date, Decimal))),
        "item": float("[" in one.name),
        "checksum": float(one.checksum is True),
        "score": min(max(one.score, 0.0), 5.0),
        "margin": min(max(one.margin, 0.0), 3.0),
        "read": math.log(max(one.read, 0.01)),
        "passed": float(min(passed, 2)),
        "derived": float(one.derived),
        "failed": float(failed),
    }


def confidence(one: Choice, failed: int, passed: int) -> float:
    """The probability, 0 to 1, that a value is right."""
    odds = sum(WEIGHTS[name] * value for name, value in features(one, failed, passed).items())
    return round(1 / (1 + math.exp(-odds)), 4)
