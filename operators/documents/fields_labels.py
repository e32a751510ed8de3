"""Labels on a page, and what they say about a value: the word left of it, or the head of its column."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from swath.operators.documents.cells import Cell, Page
from swath.operators.documents.shapes import spans
from swath.operators.documents.templates import Template, any_of

LEVELS = (("strong", 3.0), ("labels", 2.0), ("weak", 1.0))
OTHER, AVOID = "-", "!"
"""Names of hits that belong to no field: `-amounts`, `!total`."""
RANGE = {"amount": 40, "number": 40}
"""How many rows a column's head may stand above a value; 3 for what is no number."""


@dataclass(frozen=True)
class Hit:
    """A label in a cell."""

    name: str
    """The field it means; `-kind` for what is none, `!field` for what it is not."""
    weight: float
    start: int
    end: int


@dataclass(frozen=True)
class Link:
    """A label that says something about a value, and how surely: 0 to 1 for its place."""

    hit: Hit
    cell: Cell
    closeness: float
    above: bool = False

    @property
    def strength(self) -> float:
        return self.hit.weight * self.closeness


class Labels:
    """The compiled labels of a template."""

    def __init__(self, template: Template) -> None:
        patterns: list[tuple[str, float, Any]] = []
        for name, one in template.fields.items():
            for level, weight in LEVELS:
                phrases = _all(getattr(one, level))
                if phrases:
                    patterns.append((name, weight, any_of(phrases)))
            if one.avoid:
                patterns.append((AVOID + name, 3.0, any_of(_all(one.avoid))))
        for kind, by_language in template.other_labels.items():
            patterns.append((OTHER + kind, 2.5, any_of(_all(by_language))))
        for paid, listed in template.arithmetic.items():
            patterns.append((OTHER + paid, 0.0, any_of(listed)))
        self._patterns = patterns

    def hits(self, cell: Cell) -> list[Hit]:
        """The labels in a cell, from left to right; of overlapping ones the longest."""
        if not cell.has_letters:
            return []
        found: list[Hit] = []
        text, folded = cell.text, cell.folded
        for name, weight, regex in self._patterns:
            for start, end in spans(regex, folded):
                end = start + len(folded[start:end].rstrip())
                if not (text[start - 1 : start].isalnum() or text[end : end + 1].isalpha()):
                    found.append(Hit(name, weight, start, end))
        kept = [
            one
            for one in found
            if one.name.startswith(AVOID)
            or not any(
                other.start < one.end and one.start < other.end and other.end - other.start > one.end - one.start
                for other in found
            )
        ]
        return sorted(kept, key=lambda hit: (hit.start, -hit.weight))


def _all(phrases: dict[str, list[str]]) -> list[str]:
    return [phrase for words in phrases.values() for phrase in words]


class Labelled:
    """The pages of a document with their labels found."""

    def __init__(self, pages: list[Page], labels: Labels) -> None:
        self.pages = pages
        self._hits: dict[int, list[Hit]] = defaultdict(list)
        for page in pages:
            for cell in page.cells:
                found = labels.hits(cell)
                if found:
                    self._hits[id(cell)] = found

    def hits(self, cell: Cell) -> list[Hit]:
        return self._hits.get(id(cell), [])

    @cached_property
    def cells(self) -> list[Cell]:
        return [cell for page in self.pages for cell in page.cells]

    def links(self, cell: Cell, start: int, kind: str, same: dict[int, int]) -> list[Link]:
        """The labels of the value of a `kind` that begins at `start` in a cell. `same`: how many values of its kind
        each cell has, by the cell's id; a label reaches past them, but less surely."""
        found = self._in_cell(cell, start, kind)
        if not found:
            found = self._to_the_left(cell, kind, same)
        return [*found, *self._above(cell, start, kind, same)]

    def _in_cell(self, cell: Cell, start: int, kind: str) -> list[Link]:
        before = [hit for hit in self.hits(cell) if hit.end <= start]
        return _ranked(cell, before, kind, 1.0, start)

    def _to_the_left(self, cell: Cell, kind: str, same: dict[int, int]) -> list[Link]:
        closeness = 1.0
        for other in reversed(cell.page.rows[cell.row][: cell.column]):
            hits = self.hits(other)
            if hits:
                taken = kind == "identifier" and same.get(id(other))  # its label has a number of its own
                return _ranked(other, hits, kind, closeness * (0.3 if taken else 1.0), len(other.text))
            closeness *= 0.75 if same.get(id(other)) else 0.5 if _wordy(other) else 1.0
            if closeness < 0.2:
                break
        return []

    def _above(self, cell: Cell, start: int, kind: str, same: dict[int, int]) -> list[Link]:
        before = sum(c.isalpha() for c in cell.text[:start]) if kind == "amount" else start
        if before > 3:  # only what begins a cell, but for a currency, stands under a head
            return []
        page, closeness = cell.page, 0.75
        passed = 0
        for row in reversed(page.rows[max(0, cell.row - RANGE.get(kind, 3)) : cell.row]):
            for other in row:
                if not other.overlaps(cell):
                    continue
                hits = [hit for hit in self.hits(other) if hit.weight]
                if hits and (passed or cell.y - other.y < 4 * page.letter):
                    head = closeness if not _has_value(other, hits) else closeness * 0.4
                    return [Link(hit, other, head, above=True) for hit in hits]
                if same.get(id(other)):
                    passed += 1
                    closeness *= 0.95
                elif _wordy(other):
                    closeness *= 0.5
            if closeness < 0.2 or cell.y - row[0].y > (60 if kind in RANGE else 5) * page.letter:
                break
        return []


def _ranked(cell: Cell, hits: list[Hit], kind: str, closeness: float, start: int) -> list[Link]:
    """Of several labels before a value: an amount's is the first (`total incl. tax`), any other's the last."""
    if not hits:
        return []
    main = hits[0].start if kind in RANGE else hits[-1].start
    links = []
    for hit in hits:
        far = 0.6 if start - hit.end > 30 else 1.0
        links.append(Link(hit, cell, closeness * far * (1.0 if hit.start == main else 0.4)))
    return links


def _wordy(cell: Cell) -> bool:
    return sum(character.isalpha() for character in cell.text) > 3


def _has_value(cell: Cell, hits: list[Hit]) -> bool:
    """Whether a cell holds more than its labels: then it is no head of a column, but a pair of its own."""
    rest = sum(c.isdigit() for c in cell.text[max(hit.end for hit in hits) :])
    return rest > 1


def best(links: list[Link], name: str, rivals: frozenset[str]) -> float:
    """How surely the labels mean a field; those of the fields of the same type (and of none) count against it."""
    own = max((link.strength for link in links if link.hit.name == name), default=0.0)
    against = max((link.strength for link in links if link.hit.name in rivals and link.hit.name != name), default=0.0)
    avoided = any(link.hit.name == AVOID + name for link in links)
    return own - (3.0 if avoided else 0.0) - (0.5 * against if against > own else 0.0)


KINDS = {"amount": "-amounts", "date": "-dates", "identifier": "-numbers", "tax_id": "-numbers"}


def rivals_of(template: Template) -> dict[str, frozenset[str]]:
    """By type, the labels that mean another value of that type."""
    types = {one.type for one in template.fields.values()}
    return {
        kind: frozenset(
            [name for name, one in template.fields.items() if one.type == kind]
            + ([KINDS[kind]] if kind in KINDS else [])
        )
        for kind in types
    }
