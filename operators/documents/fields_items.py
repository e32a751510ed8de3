"""Line items: the rows of a table between the heads of its columns and its sums."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf
from typing import Any

from swath.operators.documents.amounts import amounts
from swath.operators.documents.cells import Box, Cell, Page
from swath.operators.documents.dates import dates
from swath.operators.documents.fields_labels import Labelled
from swath.operators.documents.fields_tables import ItemColumns, Table, column_of, has_money, table_of
from swath.operators.documents.fields_values import Choice, Value
from swath.operators.documents.shapes import pattern, spans

MAX_ITEMS = 2_000
CENT = Decimal("0.02")
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


def line_items(columns: ItemColumns, labelled: Labelled, sums: Sequence[Decimal] = ()) -> list[Entry]:
    """The items of a document, in reading order. `sums`: what they may add up to."""
    found: list[Entry] = []
    for page in labelled.pages:
        table = table_of(page, columns)
        if table is not None:
            found += _rows(page, table, labelled)
    if not found:
        for page in labelled.pages[:1]:
            found += _rows(page, Table(_after_head(page), []), labelled, headless=True)
        if sum(entry.number("amount") or 0 for entry in found) not in sums:
            pages = [_by_indent(page) for page in labelled.pages]
            found = list(next(filter(None, (_adding_up(lists, wanted) for wanted in sums for lists in pages)), found))
    return found[:MAX_ITEMS]


def _adding_up(lists: Sequence[Sequence[Entry]], wanted: Decimal) -> Sequence[Entry]:
    """The longest run of entries of one list, none said twice, that adds up to a sum."""
    best: Sequence[Entry] = []
    for listed in lists:
        said: set[str] = set()
        start, total = 0, Decimal(0)
        for end, entry in enumerate(listed, 1):
            amount, text = entry.number("amount"), entry.parts["description"].raw
            if not amount or not 0 < amount < wanted:
                said.clear()
                start, total = end, Decimal(0)
                continue
            while text in said or total + amount > wanted:
                total -= listed[start].number("amount") or 0
                said.remove(listed[start].parts["description"].raw)
                start += 1
            total += amount
            said.add(text)
            if total == wanted and end - start > max(len(best), 1):
                best = listed[start:end]
    return best


def _by_indent(page: Page) -> list[list[Entry]]:
    """Texts with money at the end of their rows, by where they begin, in reading order: the items of a paper without a
    table stand at one indent, and what each consists of at another."""
    rows: list[tuple[Cell, Entry]] = []
    for row in page.rows:
        money = [one for one in amounts(row[-1].text) if one.decimals == 2]
        if len(row) == 2 and len(money) == 1 and row[0].has_letters:
            parts: dict[str, Part] = {}
            _put(parts, "amount", row[-1], money[0])
            rows.append((row[0], Entry(parts | {"description": _text(row[:1])})))
    places = sorted(cell.x_min for cell, _ in rows)
    starts = [x for x, left in zip(places, [-inf, *places], strict=False) if x - left > page.letter / 4]
    lists: list[list[Entry]] = [[] for _ in starts]
    for cell, entry in rows:
        lists[bisect_right(starts, cell.x_min) - 1].append(entry)
    return lists


def _after_head(page: Page) -> int:
    """Where items may begin on a page without heads: below the last date or title of its upper half."""
    for index in range(min(len(page.rows), len(page.rows) // 2 + 1) - 1, -1, -1):
        if any(dates(cell.text) for cell in page.rows[index]):
            return index + 1
    return 0


def _rows(page: Page, table: Table, labelled: Labelled, headless: bool = False) -> list[Entry]:
    entries: list[Entry] = []
    waiting: list[Cell] = []
    quantity: dict[str, Part] = {}
    text_first: bool | None = None
    has_amount = any(name == "amount" for name, *_ in table.columns)
    last = -1 if headless else max((r[0].row for r in page.rows[table.first :] if _adds_up(r, table)), default=-1)
    for row in page.rows[table.first :]:
        if _is_sum(row, labelled, bool(entries) or not headless):
            if row[0].row < last:  # the sum of a part of the table
                continue
            break
        parts, texts = _parts(row, table, headless)
        if len(row) == 1 and row[0].text[:2] == row[0].text[-2:] and not row[0].text[:1].isalnum():
            continue  # --- a part of the table ---
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


def _adds_up(row: Sequence[Cell], table: Table) -> bool:
    """A row of a table whose amount is quantity times price."""
    parts, _ = _parts(row, table, headless=False)
    quantity, price, amount = map(Entry(parts).number, ("quantity", "unit_price", "amount"))
    return bool(quantity and price and amount and abs(quantity * price - amount) <= CENT)


def _is_sum(row: Sequence[Cell], labelled: Labelled, begun: bool) -> bool:
    """A row of a sum, a payment, or what follows the items."""
    sums = {hit.name for cell in row for hit in labelled.hits(cell)[:1] if hit.name in SUMS}
    if begun and len(sums) > 1:
        return True
    for cell in row[:3]:
        for hit in labelled.hits(cell):
            if hit.name in SUMS and hit.weight >= 2 and hit.start < 4 and begun:
                return any(character.isdigit() for other in row for character in other.text) or hit.weight == 3
            if hit.name == "-amounts" and hit.start < 4 and begun and any(has_money(other) for other in row):
                return True
    return False


def _parts(row: Sequence[Cell], table: Table, headless: bool) -> tuple[dict[str, Part], list[Cell]]:
    """The numbers of a row by column, and the cells that are text."""
    parts: dict[str, Part] = {}
    texts: list[Cell] = []
    everything: list[tuple[Cell, Any]] = []
    for cell in row:
        numbers = [] if any(True for _ in spans(_PERCENT, cell.text)) and not has_money(cell) else amounts(cell.text)
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
                    "amount" if headless else column_of(table, cell, numbers[-1].start, numbers[-1].end),
                    cell,
                    numbers[-1],
                )
            continue
        everything += [(cell, one) for one in numbers]
        for one in numbers:
            name = ("amount" if one.decimals == 2 else None) if headless else column_of(table, cell, one.start, one.end)
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
