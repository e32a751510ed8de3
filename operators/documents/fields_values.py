"""What could be the value of a field: everything on the pages that has the shape of its type, and its score."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import Any

from swath.operators.documents import identifiers
from swath.operators.documents.amounts import amounts, written
from swath.operators.documents.cells import Box, Cell
from swath.operators.documents.dates import Order, dates, order_of
from swath.operators.documents.fields_labels import Labelled, Link, best
from swath.operators.documents.shapes import pattern, spans
from swath.operators.documents.templates import FieldTemplate

Value = str | date | Decimal
MAX_CANDIDATES = 5_000
"""Of one type in a document; what stands after them is not looked at."""


@dataclass(eq=False)
class Candidate:
    """A value on a page."""

    value: Value
    cell: Cell
    start: int
    end: int
    checksum: bool | None = None
    decimals: int = 2
    other: date | None = None
    compact: bool = False
    remark: bool = False
    links: list[Link] = field(default_factory=list)

    @property
    def raw(self) -> str:
        return self.cell.text[self.start : self.end]

    @property
    def box(self) -> Box | None:
        return self.cell.box(self.start, self.end)

    @property
    def read(self) -> float:
        """The engine's confidence in it, 0 to 1."""
        return self.cell.confidence(self.start, self.end)


@dataclass(frozen=True)
class Choice:
    """What was chosen for a field."""

    name: str
    value: Value | None
    raw: str | None
    cell: Cell | None
    box: Box | None
    score: float
    margin: float
    """How much better it is than the next other value."""
    read: float
    checksum: bool | None = None
    derived: bool = False


def text_of(value: Value | None) -> str | None:
    """As the table has it: a date as YYYY-MM-DD, a number with a point."""
    if value is None or isinstance(value, str):
        return value
    return value.isoformat() if isinstance(value, date) else written(value)


def choice(name: str, one: Candidate, score: float, margin: float) -> Choice:
    return Choice(name, one.value, one.raw, one.cell, one.box, score, margin, one.read, one.checksum)


class Values:
    """The candidates of a document by type, each with its labels."""

    def __init__(
        self, labelled: Labelled, order: Order | None, rivals: Mapping[str, frozenset[str]], latest: date
    ) -> None:
        self.rivals = rivals
        self.latest = latest
        self.order = order
        """No paper was issued after it."""
        self._labelled = labelled
        self._made: dict[str, list[Candidate]] = {}
        self._rows: dict[str, set[tuple[int, int]]] = {}

    def of(self, kind: str) -> list[Candidate]:
        """All candidates of a type, in reading order."""
        if kind not in self._made:
            found = list(islice((o for cell in self._labelled.cells for o in self._find(kind, cell)), MAX_CANDIDATES))
            same = Counter(id(one.cell) for one in found)
            for one in found:
                one.links = self._labelled.links(one.cell, one.start, kind, same)
            self._made[kind] = found
        return self._made[kind]

    def near(self, kind: str, one: Candidate) -> bool:
        """Whether a value of a type stands on the row of a candidate, or right above or below."""
        if kind not in self._rows:
            self._rows[kind] = {(other.cell.page.index, other.cell.row) for other in self.of(kind)}
        page, row = one.cell.page.index, one.cell.row
        return any((page, row + step) in self._rows[kind] for step in (-1, 0, 1))

    def _find(self, kind: str, cell: Cell) -> list[Candidate]:
        text = cell.text
        if kind == "date":
            return [
                Candidate(one.value, cell, one.start, one.end, other=one.other, compact=one.compact)
                for one in map(self._ordered, dates(text))
            ]
        if kind in ("amount", "number"):
            taken = [(one.start, one.end) for one in dates(text)]
            return [
                Candidate(one.value, cell, one.start, one.end, decimals=one.decimals, remark=one.remark)
                for one in amounts(text)
                if not any(start < one.end and one.start < end for start, end in taken)
            ]
        finders: dict[str, Callable[[str], list[identifiers.Identifier]]] = {
            "iban": identifiers.ibans,
            "bic": identifiers.bics,
            "tax_id": identifiers.tax_ids,
            "email": identifiers.mails,
            "phone": identifiers.phones,
            "website": identifiers.webs,
        }
        return [Candidate(one.value, cell, one.start, one.end, one.checksum) for one in finders[kind](text)]

    def _ordered(self, found: Any) -> Any:
        if self.order == "month_first" and found.other is not None and not found.compact:
            from dataclasses import replace

            return replace(found, value=found.other, other=found.value)
        return found


def date_order(cells: Sequence[Cell], dollars: bool) -> Order:
    """The order of day and month in a document: what its unambiguous dates say, else month first where it counts in
    US dollars."""
    votes = Counter(order for cell in cells if (order := order_of(cell.text)))
    if votes["month_first"] > votes["day_first"]:
        return "month_first"
    return "month_first" if dollars and not votes["day_first"] else "day_first"


def choose(name: str, template: FieldTemplate, values: Values, labelled: Labelled) -> Choice | None:
    """The best value of a field of a plain type; None where nothing speaks for any."""
    if template.type in ("text", "identifier"):
        candidates = _tokens(name, template, labelled)
    else:
        candidates = values.of(template.type)
    candidates = _on_pages(_of_shape(candidates, template), template, labelled)
    often = Counter(one.value for one in candidates)
    scored = [(one, _score(name, template, one, often, values)) for one in candidates]
    floor = 0.0 if "anywhere" in template.where or template.type in _TELLING else 0.4
    scored = [(one, score) for one, score in scored if score > floor]
    if not scored:
        return None
    top, score = max(scored, key=lambda pair: pair[1])
    margin = score - max((s for one, s in scored if one.value != top.value), default=0.0)
    return choice(name, top, score, margin)


_TELLING = ("iban", "bic", "email", "website", "date")
"""Types whose shape says enough without a label."""


def _score(name: str, template: FieldTemplate, one: Candidate, often: Counter[Value], values: Values) -> float:
    links = [link for link in one.links if ("below" if link.above else "right") in template.where]
    rivals = values.rivals.get(template.type, frozenset())
    labelled = best(links, name, rivals)
    score = labelled
    if "anywhere" in template.where:
        score += 0.5
    if one.checksum is not None:
        score += 2.0 if one.checksum else -0.5
    elif template.type == "bic":
        score -= 1.0
    depth = (one.cell.page.index + one.cell.page.depth(one.cell)) / max(one.cell.page.index + 1, 1)
    if template.type == "date":
        score += 0.5 if _has_time(one) else 0.0
        score += 0.15 * min(often[one.value] - 1, 3)
        score += 0.6 if name == "issue_date" and labelled >= 0 else 0.0
        score -= 0.3 * depth + (0.5 if one.compact else 0.0)
        if isinstance(one.value, date) and one.value > values.latest and name != "due_date":
            score -= 1.0
        if name != "issue_date" and labelled <= 0:
            return -1.0
    elif template.type in ("bic", "email", "website", "phone", "iban"):
        score += 0.3 - 0.1 * depth
        score += 1.5 if template.type in ("email", "website") else 0.0  # the shape says enough
        if labelled <= 0:
            score -= 3.0 if template.type == "bic" and not values.near("iban", one) else 0.0
            # What begins as a telephone number does, beside an address of mail or web.
            reached = one.raw[:1] in "+(0" and (values.near("email", one) or values.near("website", one))
            score += 0.5 if template.type == "phone" and reached else 0.0
    elif template.type == "tax_id":
        score -= 0.2 * depth
        score -= 2.0 if one.checksum is None and labelled <= 0 else 0.0
    else:
        score += 0.3 - 0.3 * depth
    return score


_TIME = pattern(r"[0-9]{1,2}[:.][0-9]{2}(?:[:.][0-9]{2})?")


def _has_time(one: Candidate) -> bool:
    """A time of day stands right after it: then it says when the paper was printed."""
    row = one.cell.page.rows[one.cell.row]
    after = one.cell.text[one.end : one.end + 12]
    if one.end >= len(one.cell.text) - 1 and one.cell.column + 1 < len(row):
        after += " " + row[one.cell.column + 1].text[:12]
    return any(start <= 3 for start, _ in spans(_TIME, after))


def _of_shape(candidates: list[Candidate], template: FieldTemplate) -> list[Candidate]:
    if template.shape is None:
        return candidates
    shape, found = pattern(template.shape), []
    for one in candidates:
        match = shape.fullmatch(one.raw)
        if match:
            if shape.groups and isinstance(one.value, str):
                one = Candidate(match.group(1) or match.group(0), one.cell, one.start, one.end, links=one.links)
            found.append(one)
    return found


def _on_pages(candidates: list[Candidate], template: FieldTemplate, labelled: Labelled) -> list[Candidate]:
    wanted = {"first": 0, "last": len(labelled.pages) - 1}.get(template.pages)
    return candidates if wanted is None else [one for one in candidates if one.cell.page.index == wanted]


# Texts and numbers of papers: what follows a label, so that the labels are looked at first.


def _tokens(name: str, template: FieldTemplate, labelled: Labelled) -> list[Candidate]:
    found: list[Candidate] = []
    shaped = pattern(template.shape) if template.shape else None
    for cell in labelled.cells:
        if shaped is not None:
            found += _shaped(cell, shaped)
        elif template.type == "identifier":
            found += _numbers(cell)
        elif "anywhere" not in template.where:
            found += _rest(cell, labelled)
    same: dict[int, int] = defaultdict(int)
    if template.type == "identifier":
        for one in found:
            same[id(one.cell)] += 1
    for one in found:
        one.links = labelled.links(one.cell, one.start, template.type, same)
    return found


def _shaped(cell: Cell, shape: Any) -> list[Candidate]:
    return [Candidate(cell.text[start:end], cell, start, end) for start, end in spans(shape, cell.text)]


def _rest(cell: Cell, labelled: Labelled) -> list[Candidate]:
    """The text after a cell's labels, or all of it where it has none."""
    hits = [hit for hit in labelled.hits(cell) if hit.weight]
    start = max((hit.end for hit in hits), default=0)
    while start < len(cell.text) and not cell.text[start].isalnum() and cell.text[start] not in "([":
        start += 1
    return [Candidate(cell.text[start:], cell, start, len(cell.text))] if cell.text[start:].strip() else []


def _numbers(cell: Cell) -> list[Candidate]:
    """Tokens with a digit that are no date, amount or share; a token of letters before one belongs to it."""
    text = cell.text
    taken = [(one.start, one.end) for one in dates(text) if not one.compact]
    taken += [(one.start, one.end) for one in amounts(text) if one.decimals == 2]
    found = []
    for token in identifiers.tokens(text):
        digits = sum(character.isdigit() for character in token.value)
        inside = any(start < token.end and token.start < end for start, end in taken)
        if digits and not inside and text[token.end : token.end + 1] not in ("%", ":", "@"):
            value = token.value.lstrip("#") if token.value.startswith("##") else token.value
            if len(value) >= 2 and not _is_time(value):
                found.append(Candidate(value, cell, token.start, token.end))
    return found


def _is_time(text: str) -> bool:
    return any(start == 0 and end == len(text) for start, end in spans(_TIME, text)) and ":" in text
