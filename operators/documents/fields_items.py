"""Line items: the rows of a table between the heads of its columns and its sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from swath.operators.documents.amounts import amounts
from swath.operators.documents.cells import Box, Cell, Page
from swath.operators.documents.dates import dates
from swath.operators.documents.fields_labels import Labelled
from swath.operators.documents.fields_values import Choice, Value
from swath.operators.documents.shapes import pattern, spans
from swath.operators.documents.templates import FieldTemplate, any_of

MAX_ITEMS = 2_000
COLUMNS = ("description", "quantity", "unit_price", "amount")
SUMS = ("net", "tax", "total")
_TIMES = pattern(r"([0-9]{1,5}(?:[.,][0-9]{1,3})?) ?[xX×*@] ?(?:[A-Z$€£]{0,3} ?([0-9]+(?:[.,][0-9]{1,4})?))?")
_PERCENT = pattern(r"[0-9]+(?:[.,][0-9]+)? ?%")


@dataclass
class Part:
    """One value of an item and where it stands."""

    value: Value
    raw: str
    cell: Cell
    box: Box | None
    read: float


@dataclass
class Entry:
    """A line item: column to value."""

    parts: dict[str, Part] = field(default_factory=dict)

    def number(self, column: str) -> Decimal | None:
        part = self.parts.get(column)
        return part.value if part is not None and isinstance(part.value, Decimal) else None


class ItemColumns:
    """The compiled heads of the columns."""

    def __init__(self, template: FieldTemplate) -> None:
        self._patterns = {name: any_of(words) for name, words in template.columns.items()}

    def heads(self, cell: Cell) -> list[tuple[str, int, int]]:
        """The columns that a cell is the head of: (column, start, end) in its text."""
        if len(cell.text) > 60 or sum(c.isdigit() for c in cell.text) > 2:
            return []
        found: list[tuple[str, int, int]] = []
        for name, regex in self._patterns.items():
            for start, end in spans(regex, cell.folded):
                end = start + len(cell.folded[start:end].rstrip())
                if not (cell.text[start - 1 : start].isalnum() or cell.text[end : end + 1].isalpha()):
                    found.append((name, start, end))
        kept = [
            one
            for one in found
            if not any(o[1] < one[2] and one[1] < o[2] and o[2] - o[1] > one[2] - one[1] for o in found)
        ]
        own = [one for one in kept if one[0] != "other"] or kept  # `Price incl. VAT` is no column of tax
        covered = sum(end - start for _, start, end in {(0, s, e) for _, s, e in kept})
        return own if covered >= 0.5 * sum(c.isalnum() for c in cell.text) else []


@dataclass
class _Table:
    first: int
    """The first row below its heads."""
    columns: list[tuple[str, float, float]]
    """Column, left and right edge of its head."""


def line_items(columns: ItemColumns, labelled: Labelled) -> list[Entry]:
    """The items of a document, in reading order."""
    found: list[Entry] = []
    for page in labelled.pages:
        table = _table(page, columns)
        if table is not None:
            found += _rows(page, table, labelled)
    if not found:
        for page in labelled.pages[:1]:
            found += _rows(page, _Table(_after_head(page), []), labelled, headless=True)
    return found[:MAX_ITEMS]


def _table(page: Page, columns: ItemColumns) -> _Table | None:
    """The heads of a table: a row, or two close ones, that names at least two columns, one of them of money."""
    best: tuple[int, _Table] | None = None
    for index in range(len(page.rows)):
        heads: list[tuple[str, float, float]] = []
        near = page.rows[index : index + 2]
        if len(near) == 2 and near[1][0].y - near[0][0].y > 2.2 * page.letter:
            near = near[:1]
        if len(near) == 2 and not all(columns.heads(cell) or _short(cell) for cell in near[1]):
            near = near[:1]
        for row in near:
            for cell in row:
                for name, start, end in columns.heads(cell):
                    box = _span(cell, start, end)
                    heads.append((name, *box))
        names = {name for name, *_ in heads}
        names.discard("other")
        money = names & {"amount", "unit_price"}
        if (
            len(names) >= 2
            and money
            and not any(_money(c) for row in near for c in row)
            and (best is None or len(names) > best[0])
        ):
            best = (len(names), _Table(index + len(near), heads))
    return best[1] if best else None


def _short(cell: Cell) -> bool:
    return len(cell.text) <= 8 and not any(character.isdigit() for character in cell.text)


def _span(cell: Cell, start: int, end: int) -> tuple[float, float]:
    """Left and right edge of a part of a cell, by its share of the letters."""
    width = (cell.x_max - cell.x_min) / max(len(cell.text), 1)
    return cell.x_min + start * width, cell.x_min + end * width


def _after_head(page: Page) -> int:
    """Where items may begin on a page without heads: below the last date or title of its upper half."""
    for index in range(min(len(page.rows), len(page.rows) // 2 + 1) - 1, -1, -1):
        if any(dates(cell.text) for cell in page.rows[index]):
            return index + 1
    return 0


def _money(cell: Cell) -> bool:
    return any(one.decimals == 2 for one in amounts(cell.text))


def _rows(page: Page, table: _Table, labelled: Labelled, headless: bool = False) -> list[Entry]:
    entries: list[Entry] = []
    waiting: list[Cell] = []
    quantity: dict[str, Part] = {}
    text_first: bool | None = None
    has_amount = any(name == "amount" for name, *_ in table.columns)
    for row in page.rows[table.first :]:
        if _is_sum(row, labelled, bool(entries) or not headless):
            break
        parts, texts = _parts(row, table, headless)
        key = "amount" if has_amount or headless else "unit_price"
        if key in parts:
            entry = Entry({**quantity, **parts})
            text_first = bool(waiting) if text_first is None else text_first
            own = texts if sum(c.isalpha() for cell in texts for c in cell.text) >= 3 else []
            described = (waiting if text_first else []) + own
            waiting, quantity = [], {}
            if described:
                entry.parts["description"] = _text(described)
            entries.append(entry)
        elif texts or parts:
            if (text_first is False and entries and texts and "description" in entries[-1].parts) or (
                not text_first and entries and texts
            ):
                _extend(entries[-1], texts)
            else:
                waiting += texts
                quantity |= parts
        if len(waiting) > 6:
            waiting = waiting[-6:]
    return entries


def _is_sum(row: Sequence[Cell], labelled: Labelled, begun: bool) -> bool:
    """A row of a sum, a payment, or what follows the items."""
    sums = {hit.name for cell in row for hit in labelled.hits(cell)[:1] if hit.name in SUMS}
    if begun and len(sums) > 1:
        return True
    for cell in row[:3]:
        for hit in labelled.hits(cell):
            if hit.name in SUMS and hit.weight >= 2 and hit.start < 4 and begun:
                return any(character.isdigit() for other in row for character in other.text) or hit.weight == 3
            if hit.name == "-amounts" and hit.start < 4 and begun and any(_money(other) for other in row):
                return True
    return False


def _parts(row: Sequence[Cell], table: _Table, headless: bool) -> tuple[dict[str, Part], list[Cell]]:
    """The numbers of a row by column, and the cells that are text."""
    parts: dict[str, Part] = {}
    texts: list[Cell] = []
    everything: list[tuple[Cell, Any]] = []
    for cell in row:
        numbers = [] if any(True for _ in spans(_PERCENT, cell.text)) and not _money(cell) else amounts(cell.text)
        letters = sum(character.isalpha() for character in cell.text)
        times = _TIMES.search(cell.text)
        if times is not None and (headless or letters <= 6):
            _quantity(cell, times, parts)
            continue
        if letters > 4 and not (numbers and numbers[-1].decimals == 2 and letters < 4 * len(numbers) + 4):
            texts.append(cell)
            if numbers and numbers[-1].decimals == 2 and numbers[-1].end >= len(cell.text) - 3:
                _put(
                    parts,
                    "amount" if headless else _column(table, cell, numbers[-1].start, numbers[-1].end),
                    cell,
                    numbers[-1],
                )
            continue
        everything += [(cell, one) for one in numbers]
        for one in numbers:
            name = ("amount" if one.decimals == 2 else None) if headless else _column(table, cell, one.start, one.end)
            _put(parts, name, cell, one)
        if not numbers and cell.has_letters and letters > 1:
            texts.append(cell)
    _completed(parts, everything)
    return parts, texts


def _completed(parts: dict[str, Part], numbers: Sequence[tuple[Cell, Any]]) -> None:
    """Quantity and price where no head tells them apart: the two numbers of the row whose product is the amount."""
    last = parts.get("amount") or parts.get("unit_price")
    if (
        last is None
        or not isinstance(last.value, Decimal)
        or not last.value
        or {"quantity", "unit_price"} <= parts.keys()
    ):
        return
    before = [(cell, one) for cell, one in numbers if cell is not last.cell or one.value != last.value]
    for cell, quantity in before:
        for other, price in numbers:
            if (
                (cell, quantity.start) == (other, price.start)
                or quantity.decimals == 2
                or not 0 < quantity.value < 10_000
            ):
                continue
            if other is last.cell and price.end >= len(other.text):
                continue
            if price.decimals and abs(quantity.value * price.value - last.value) <= Decimal("0.011"):
                for name, place, one in (("quantity", cell, quantity), ("unit_price", other, price)):
                    if name not in parts:
                        _put(parts, name, place, one)
                return


def _put(parts: dict[str, Part], name: str | None, cell: Cell, one: Any) -> None:
    if name in ("quantity", "unit_price", "amount") and (name != "amount" or name not in parts or one.decimals == 2):
        raw = cell.text[one.start : one.end]
        parts[name] = Part(one.value, raw, cell, cell.box(one.start, one.end), cell.confidence(one.start, one.end))


def _quantity(cell: Cell, times: Any, parts: dict[str, Part]) -> None:
    for group, name in ((1, "quantity"), (2, "unit_price")):
        raw = times.group(group)
        if raw:
            start, end = times.span(group)
            value = Decimal(raw.replace(",", "."))
            parts[name] = Part(value, raw, cell, cell.box(start, end), cell.confidence(start, end))
    rest = [one for one in amounts(cell.text[times.end() :]) if one.decimals == 2]
    if rest:
        start, end = times.end() + rest[-1].start, times.end() + rest[-1].end
        parts["amount"] = Part(
            rest[-1].value, cell.text[start:end], cell, cell.box(start, end), cell.confidence(start, end)
        )


def _column(table: _Table, cell: Cell, start: int, end: int) -> str | None:
    """The column whose head a number stands under: edges or middles in line, at most a few letters off."""
    left, right = _span(cell, start, end)
    best, off = None, 6.0 * cell.page.letter
    for name, head_left, head_right in table.columns:
        overlap = min(right, head_right) - max(left, head_left)
        distance = min(abs(left - head_left), abs(right - head_right), abs(left + right - head_left - head_right) / 2)
        if overlap > 0:
            distance *= 0.3
        if distance < off:
            best, off = name, distance
    return best if best in ("quantity", "unit_price", "amount") else None


def _text(cells: Sequence[Cell]) -> Part:
    text = " ".join(cell.text for cell in cells)[:400]
    read = min(cell.confidence(0, len(cell.text)) for cell in cells)
    return Part(text, text, cells[0], _union([cell.box(0, len(cell.text)) for cell in cells]), read)


def _extend(entry: Entry, cells: Sequence[Cell]) -> None:
    old = entry.parts.get("description")
    new = _text(cells)
    if old is None:
        entry.parts["description"] = new
    elif isinstance(old.value, str) and len(old.value) + len(str(new.value)) < 300:
        text = f"{old.value} {new.value}"
        entry.parts["description"] = Part(text, text, old.cell, _union([old.box, new.box]), min(old.read, new.read))


def _union(boxes: Sequence[Box | None]) -> Box | None:
    known = [box for box in boxes if box is not None]
    if not known:
        return None
    columns = list(zip(*known, strict=True))
    return min(columns[0]), min(columns[1]), max(columns[2]), max(columns[3])


def choices(entries: Sequence[Entry]) -> list[Choice]:
    """One choice a value: `line_items[1].amount`, numbered from 1."""
    found = []
    for number, entry in enumerate(entries, 1):
        for column in COLUMNS:
            part = entry.parts.get(column)
            if part is not None:
                name = f"line_items[{number}].{column}"
                found.append(Choice(name, part.value, part.raw, part.cell, part.box, 1.5, 1.0, part.read))
    return found
