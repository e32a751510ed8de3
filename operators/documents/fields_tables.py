"""Tables on a page: the heads of their columns, and what stands under which."""

from __future__ import annotations

from dataclasses import dataclass

from swath.operators.documents.amounts import amounts
from swath.operators.documents.cells import Cell, Page
from swath.operators.documents.shapes import spans
from swath.operators.documents.templates import FieldTemplate, any_of


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
class Table:
    first: int
    """The first row below its heads."""
    columns: list[tuple[str, float, float]]
    """Column, left and right edge of its head."""
    heads: tuple[Cell, ...] = ()


def table_of(page: Page, columns: ItemColumns) -> Table | None:
    """The heads of a table: a row, or two close ones, that names at least two columns, one of them of money."""
    best: tuple[int, Table] | None = None
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
            and not any(has_money(c) for row in near for c in row)
            and (best is None or len(names) > best[0])
        ):
            best = (len(names), Table(index + len(near), heads, tuple(c for row in near for c in row)))
    return best[1] if best else None


def _short(cell: Cell) -> bool:
    return len(cell.text) <= 8 and not any(character.isdigit() for character in cell.text)


def _span(cell: Cell, start: int, end: int) -> tuple[float, float]:
    """Left and right edge of a part of a cell, by its share of the letters."""
    width = (cell.x_max - cell.x_min) / max(len(cell.text), 1)
    return cell.x_min + start * width, cell.x_min + end * width


def has_money(cell: Cell) -> bool:
    return any(one.decimals == 2 for one in amounts(cell.text))


def column_of(table: Table, cell: Cell, start: int, end: int) -> str | None:
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
