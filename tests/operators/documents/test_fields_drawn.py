"""Invoices of many wordings and layouts: what must hold of them whoever worded them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.operators.documents.drawn import Half, invoice, noisy
from tests.operators.documents.papers import TODAY, page

from swath.operators.documents.cells import document
from swath.operators.documents.fields import Reader
from swath.operators.documents.templates import load_templates

SURE = 0.8
"""The confidence from which nobody is asked: `SWATH_REVIEW_THRESHOLD`'s default."""


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(load_templates(())[""])


def read(reader: Reader, lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in reader.read(document([page(lines)]), TODAY)}


def test_every_field_of_papers_in_known_words_is_right(reader: Reader) -> None:
    for seed in range(60):
        paper = invoice(seed, "dev")
        found = read(reader, paper.lines)
        assert {name: found.get(name, {}).get("value") for name in paper.told} == paper.told, paper.about


@pytest.mark.parametrize("half", ["dev", "test"])
def test_no_sum_is_wrong_without_a_word_about_it(reader: Reader, half: Half) -> None:
    for seed in range(60):
        paper = invoice(seed, half)
        found = read(reader, paper.lines)
        for name in ("net", "tax", "total"):
            row = found.get(name)
            if row and row["value"] and not row["failed_checks"]:
                assert Decimal(row["value"]) == Decimal(paper.told[name]), f"{paper.about}: {name}"


def test_a_clean_paper_on_which_all_is_right_needs_nobody(reader: Reader) -> None:
    passed = 0
    for seed in range(60):
        rows = read(reader, invoice(seed, "dev").lines).values()
        passed += all(row["confidence"] >= SURE and not row["failed_checks"] for row in rows)
    assert passed >= 54


def test_what_was_read_wrong_is_less_sure_than_what_was_read_right(reader: Reader) -> None:
    sure: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(60):
        paper = invoice(seed, "test")
        found = read(reader, noisy(paper.lines, seed, 0.02))
        for name, value in paper.told.items():
            if name in found and found[name]["value"] is not None:
                sure[found[name]["value"] == value].append(found[name]["confidence"])
    means = {right: sum(values) / len(values) for right, values in sure.items()}
    assert means[True] > means[False] + 0.12
