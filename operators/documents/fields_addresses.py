"""Addresses: the lines under a name, or at the head of a page, that look like one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swath.operators.documents import identifiers
from swath.operators.documents.cells import Box, Cell, fold
from swath.operators.documents.dates import dates
from swath.operators.documents.fields_labels import Labelled
from swath.operators.documents.fields_values import Choice
from swath.operators.documents.shapes import pattern, spans
from swath.operators.documents.templates import words

HEAD = 18
"""Rows of the first page among which a name is looked for."""
LONGEST = 8
"""Lines of an address."""
_POSTCODE = pattern(
    r"\b(?:[A-Z]{1,2}[- ]?)?[0-9]{4,6}\b|\b[0-9]{4} ?[A-Z]{2}\b|\b[A-Z]{1,2}[0-9][0-9A-Z]? ?[0-9][A-Z]{2}\b"
)
_NUMBER = pattern(r"\b[0-9]+[A-Za-z]?(?:[-/][0-9A-Za-z]+)*\b")
_ZERO = pattern(r"\b(?:[A-Z]+0[A-Z]*|0[A-Z]+|0)\b")
_LETTER_O = pattern(r"\b[0-9]*[0-9]{2}O[0-9]*\b|\b[0-9]*O[0-9]{2}[0-9]*\b")


@dataclass(frozen=True)
class Line:
    """Neighbouring cells of a row that read as one line, without its registration number and leading label."""

    cell: Cell
    text: str
    row: int
    start: int = 0
    marked: bool = False
    """A word like `owned by` stands before it."""

    @property
    def box(self) -> Box | None:
        return self.cell.box(self.start, self.start + len(self.text))


def is_registration(text: str) -> bool:
    digits = sum(c.isdigit() for c in text)
    return digits >= 5 and digits > 2 * sum(c.isalpha() for c in text)


def address(name: Sequence[Line], labelled: Labelled) -> tuple[Choice | None, list[Line]]:
    """The address of who wrote the paper: the lines under the name that look like one, else those of the page's head
    that do."""
    if not name:
        return None, []
    found = _block(name[-1].cell, labelled, name[-1].row + 1)
    if _evidence(found) < 2:
        page = labelled.pages[0]
        blocks = [found]
        heads = [row[0] for row in page.rows[:HEAD] if page.depth(row[0]) < 0.4 and address_like(row[0])]
        blocks += [_block(head, labelled, head.row) for head in heads]
        found = max(blocks, key=_evidence)
    if not _evidence(found) or sum(len(line.text) for line in found) < 8:
        return None, []
    return _joined("issuer_address", found, 1.0 + 0.5 * min(_evidence(found), 4)), found


def _evidence(lines: Sequence[Line]) -> float:
    """How much lines look like an address."""
    text = " ".join(line.text for line in lines)
    codes = sum(1 for _ in spans(_POSTCODE, text))
    return 2.0 * bool(codes) + min(count(text, "streets"), 3) + 0.5 * ("," in text) + 0.5 * bool(count(text, "regions"))


def _joined(name: str, lines: list[Line], score: float) -> Choice:
    text = ""
    for line in lines:
        text += (" " if text else "") + line.text
    text = mended(text.strip(" .,;:-"))
    read = min(line.cell.confidence(line.start, line.start + len(line.text)) for line in lines)
    sure = score + 0.4 * sum(any(True for _ in spans(_POSTCODE, line.text)) for line in lines[:5])
    return Choice(name, text, text, lines[0].cell, union([line.box for line in lines]), sure, sure, read)


def _block(head: Cell, labelled: Labelled, first: int) -> list[Line]:
    """The lines of an address below a cell: from the first that looks like one, to the first that cannot be."""
    page, found, skipped = head.page, list[Line](), 0
    last_y, step = head.y, 0.0
    for row in page.rows[first : first + LONGEST + 4]:
        cells = [cell for cell in row if cell.overlaps(head) or any(cell.overlaps(line.cell) for line in found[-1:])]
        if not cells:
            continue
        cell = cells[0]
        line = _address_line(cells, labelled)
        if found and cell.y - last_y > (2.0 * step if step else 4.5 * page.letter):
            break
        if line is None:
            if found:
                break
            skipped += 1
            if skipped > 4:
                break
            continue
        if not found and not _starts(line):
            skipped += 1
            if skipped > 4:
                break
            continue
        if found:
            step = max(step, cell.y - last_y)
        found.append(line)
        last_y = cell.y
        if len(found) >= LONGEST:
            break
    return found


def _address_line(cells: Sequence[Cell], labelled: Labelled) -> Line | None:
    """The line where it could be one of an address; None for telephone, tax number, titles, dates."""
    cell = cells[0]
    text, start = cell.text, 0
    for begin, end in spans(words().patterns["address_prefix"], cell.folded):
        if begin <= 1 and cell.text[end : end + 2].lstrip()[:1] in (":", "."):
            start = end
            break
    while start < len(text) and not text[start].isalnum():
        start += 1
    stop = _stop(cell, start)
    if stop is not None:
        text = text[:stop].rstrip(" ,;(-")
        if len(text) - start < 12:
            return None
    rest = text[start:].rstrip()
    if (
        not rest
        or dates(rest)
        or identifiers.mails(rest)
        or identifiers.webs(rest)
        or cell.confidence(start, len(text)) < 0.5
    ):
        return None
    if rest[:1] + rest[-1:] == "()" or (text[:1] == "(" and text.rstrip()[-1:] == ")"):
        return None
    called = any(sum(c.isdigit() for c in one.value) >= 9 for one in identifiers.phones(rest))
    place = any(True for _ in spans(_POSTCODE, rest)) and any(c.isalpha() for c in rest)
    if called or (not place and sum(c.isalpha() for c in rest) < 3) or is_registration(rest):
        return None
    return Line(cell, rest, cell.row, start)


def _stop(cell: Cell, start: int) -> int | None:
    """Where the part of a line begins that is no address: a telephone, a tax number."""
    for begin, end in spans(words().patterns["not_address"], cell.folded):
        whole = not cell.text[begin - 1 : begin].isalnum() and not cell.text[end : end + 1].isalpha()
        if begin >= start and whole:
            return begin
    return None


def _starts(line: Line) -> bool:
    """A line with which an address may begin: a number first, a word for a street, places with commas, or a number
    last and the place with its code below."""
    text = line.text
    if text[:1].isdigit() or count(text, "streets") or "," in text:
        return True
    if not any(end == len(text) for _, end in spans(_NUMBER, text)):
        return False
    after = line.cell.page.below(line.cell)
    return after is not None and any(True for _ in spans(_POSTCODE, after.text))


def address_like(cell: Cell) -> bool:
    if any(True for _ in spans(words().patterns["not_address"], cell.folded)):
        return False
    numbers = any(True for _ in spans(_NUMBER, cell.text))
    return (numbers and bool(count(cell.text, "streets"))) or (
        any(True for _ in spans(_POSTCODE, cell.text)) and cell.has_letters
    )


def count(text: str, kind: str) -> int:
    folded = fold(text)
    return sum(
        not text[start - 1 : start].isalnum() and not text[end : end + 1].isalpha()
        for start, end in spans(words().patterns[kind], folded)
    )


def mended(text: str) -> str:
    """With the letter O among digits as a zero, and a zero among letters as an O."""
    for regex, wrong, right in ((_LETTER_O, "O", "0"), (_ZERO, "0", "O")):
        for start, end in spans(regex, text):
            text = text[:start] + text[start:end].replace(wrong, right) + text[end:]
    return text


def plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def union(boxes: Sequence[Box | None]) -> Box | None:
    known = [box for box in boxes if box is not None]
    if not known:
        return None
    columns = list(zip(*known, strict=True))
    return min(columns[0]), min(columns[1]), max(columns[2]), max(columns[3])
