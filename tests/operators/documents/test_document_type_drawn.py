"""Types of drawn papers: those in words that the types know are told, and those in other words are doubted."""

from __future__ import annotations

import pytest
from tests.operators.documents.drawn import Half
from tests.operators.documents.drawn_types import PARTS, paper
from tests.operators.documents.papers import page

from swath.operators.documents.cells import document
from swath.operators.documents.document_type import load_types, probabilities, scores


def told(kind: str, half: Half) -> list[tuple[bool, float]]:
    """Of twenty papers of a type: whether it was told, and with which probability."""
    types = load_types(())
    ranked = [probabilities(scores(document([page(paper(kind, seed, half))]), types)) for seed in range(20)]
    return [(one[0][0] == kind, one[0][1]) for one in ranked]


@pytest.mark.parametrize("kind", list(PARTS))
def test_papers_in_known_words_are_told(kind: str) -> None:
    assert sum(right for right, _ in told(kind, "dev")) >= 17


def test_a_type_that_was_told_wrong_is_less_sure() -> None:
    found = [one for kind in PARTS for one in told(kind, "test")]
    wrong, right = ([sure for ok, sure in found if ok is wanted] for wanted in (False, True))
    assert sum(right) / len(right) > sum(wrong) / len(wrong) + 0.1
