"""Who wrote a paper and to whom: names by where they stand and what they look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from swath.operators.documents import identifiers
from swath.operators.documents.amounts import amounts
from swath.operators.documents.cells import Cell, Page, fold, unaccented
from swath.operators.documents.dates import dates
from swath.operators.documents.fields_addresses import (
    HEAD,
    Line,
    address_like,
    count,
    is_registration,
    mended,
    plain,
    union,
)
from swath.operators.documents.fields_labels import Hit, Labelled
from swath.operators.documents.fields_values import Choice
from swath.operators.documents.shapes import pattern, spans
from swath.operators.documents.templates import FieldTemplate, words

_REGISTRATION = pattern(r" ?[(\[][^()\[\]]{0,40}[0-9][^()\[\]]{0,40}[)\]]? *[.,]?$| +[A-Z]{0,3}[0-9]{5,}[- ]?[A-Z]?$")
"""A registration number after a company's name."""
BANK = {"iban", "tax_id", "bic", "email", "phone", "website"}
SUMS = {"net", "tax", "total", "line_items"}


def issuer(
    labelled: Labelled, heads: Sequence[Cell] = (), others: Iterable[str] = ()
) -> tuple[Choice | None, list[Line]]:
    """The name of who wrote the paper, and the lines that it takes; `heads` of a table are none,
    and `others` on the paper neither."""
    scored, no_names = [], {id(cell) for cell in heads}
    domains = _domains(labelled)
    for page in labelled.pages[:1] + labelled.pages[-1:] if len(labelled.pages) > 1 else labelled.pages:
        for row in page.rows:
            for cell in row:
                line = None if id(cell) in no_names else _line(cell, labelled)
                if line is not None:
                    scored.append((line, _named(line, page, labelled, domains)))
    taken = {plain(other) for other in others}
    scored = [(line, score) for line, score in scored if plain(line.text) not in taken]
    said = Counter(plain(line.text) for line, score in scored if score > 0)
    marked = {plain(line.text) for line, score in scored if score > 0 and line.marked}
    # A name that stands in several places where a name may stand is surer, and so is one that is called the seller's or
    # the account holder's in one of them.
    scored = [
        (line, score + 0.6 * min(said[plain(line.text)] - 1, 2) + (0.0 if line.marked else plain(line.text) in marked))
        for line, score in scored
        if score > 0
    ]
    if not scored:
        return None, []
    top, score = max(scored, key=lambda pair: pair[1])
    name = plain(top.text)
    rest = [s for line, s in scored if plain(line.text) != name]
    lines = [top, *_continued(top, labelled)]
    raw = " ".join(line.text for line in lines)
    text = _as_elsewhere(mended(raw), labelled)
    read = min(line.cell.confidence(line.start, line.start + len(line.text)) for line in lines)
    box = union([line.box for line in lines])
    return Choice("issuer", text, raw, top.cell, box, score, score - max(rest, default=0.0), read), lines


def _as_elsewhere(text: str, labelled: Labelled) -> str:
    """The words of a name with the accents that most of the paper writes them with: OCR adds some and loses some."""
    spellings: dict[str, Counter[str]] = {}
    for cell in labelled.cells:
        for word in cell.text.split():
            if word.isalpha():
                spellings.setdefault(unaccented(word), Counter())[word.casefold()] += 1
    words = text.split(" ")
    for place, word in enumerate(words):
        known = spellings.get(unaccented(word), Counter())
        usual, times = known.most_common(1)[0] if known else ("", 0)
        if len(usual) == len(word) and times > 1 + 2 * known[word.casefold()]:
            words[place] = "".join(
                was if was.casefold() == now else now.upper() if was.isupper() else now
                for was, now in zip(word, usual, strict=True)
            )
    return " ".join(words)


def _line(cell: Cell, labelled: Labelled) -> Line | None:
    text, start, marked = cell.text, 0, False
    for begin, end in spans(words().patterns["owner"], cell.folded):
        named = text[end:].lstrip()[:1] == ":" and not text[begin - 1 : begin].isalnum()
        if (begin <= 2 and not text[end : end + 1].isalpha()) or named:
            start, marked = end, True
            break
    while start < len(text) and not text[start].isalnum():
        start += 1
    cut = _form_inside(text, start)
    if cut is not None:
        text = text[:cut]
    for begin, end in spans(words().patterns["also_known"], cell.folded[: len(text)]):
        if begin > start + 3 and not text[begin - 1].isalnum() and not text[end : end + 1].isalnum():
            text = text[:begin].rstrip()
            break
    for begin, _ in spans(_REGISTRATION, text):
        if begin > start + 3:
            text = text[:begin]
            break
    text = text.rstrip(" ,:;-*")
    if sum(character.isalpha() for character in text[start:]) < 3 or len(text) - start > 80:
        return None
    if not marked and not start:
        above = cell.page.above(cell)
        marked = above is not None and bool(count(above.text, "owner")) and len(above.text) < 24
    return Line(cell, text[start:], cell.row, start, marked)


def _named(line: Line, page: Page, labelled: Labelled, domains: frozenset[str]) -> float:
    """How much a line looks like the name of who wrote the paper; 0 or less: not at all."""
    cell, text = line.cell, line.text
    form = _ends_in(text, "legal_forms")
    firm = count(text, "business")
    if count(text, "not_address") and not form:
        return 0.0
    if any(hit.weight >= 2 and hit.start < 2 for hit in labelled.hits(cell)) and not (form or line.marked):
        return 0.0
    if dates(text) or identifiers.mails(text) or identifiers.phones(text):
        return 0.0
    if identifiers.webs(text) and not form:
        return 0.0
    letters = sum(character.isalpha() for character in text)
    digits = sum(character.isdigit() for character in text)
    if digits > letters or form == len(text) or _ends_in(text, "regions") == len(text):
        return 0.0
    if not form and any(hit.name in SUMS for hit in labelled.hits(cell)):
        return 0.0
    form = form or _form_below(line, labelled)
    top = cell.row < HEAD and page.index == 0 and page.depth(cell) < 0.4
    score = 1.5 - 1.2 * min(cell.row, HEAD) / HEAD if top else -0.5
    score += 2.2 if form else 0.0
    score += 1.0 if line.marked else 0.0
    score += 0.6 if firm else 0.0
    score += min(0.5 * (cell.height / page.letter - 1.0), 1.2) if top else 0.0
    below = [address_like(c) for row in page.rows[cell.row + 1 : cell.row + 4] for c in row if c.overlaps(cell)]
    score += 0.8 if any(below) else 0.0
    score -= 1.2 if address_like(cell) and not form else 0.0
    score -= 1.5 if text[-1:].isdigit() and not form else 0.0  # as a street ends
    score -= 0.5 if letters and text == text.lower() else 0.0
    score -= 0.8 if letters < 4 else 0.0
    score -= 0.6 if cell.confidence(line.start, line.start + len(text)) < 0.7 else 0.0
    score -= 4.0 if _is_customer(cell, labelled) else 0.0
    score -= 1.0 if not form and _has_amount(cell, labelled) else 0.0
    name = plain(text[: len(text) - (form if form == _ends_in(text, "legal_forms") else 0)])
    score += 1.2 if name in domains else 0.8 if form and name.startswith(tuple(domains)) else 0.0
    if not top:
        score += 2.4 if _heads_foot(cell, labelled) else 1.6 if form and _beside_bank(cell, labelled) else 0.0
    return score


def _has_amount(cell: Cell, labelled: Labelled) -> bool:
    """Money stands on its row, to the right: then it is an item or a sum."""
    after = cell.page.rows[cell.row][cell.column + 1 :]
    return any(one.decimals == 2 for other in after for one in amounts(other.text))


def _heads_foot(cell: Cell, labelled: Labelled) -> bool:
    """Alone on a row at the foot of a page, where the lines below it say what a registered company must."""
    page = cell.page
    below = page.rows[cell.row + 1 : cell.row + 4]
    said = {hit.name for row in below for c in row for hit in labelled.hits(c) if hit.weight >= 2}
    return page.depth(cell) > 0.8 and len(page.rows[cell.row]) == 1 and len(cell.text) < 40 and len(said & BANK) >= 2


def _domains(labelled: Labelled) -> frozenset[str]:
    """The names in the web and mail addresses of a document: who writes as a rule puts theirs on the paper."""
    found = set()
    for cell in labelled.cells:
        for one in identifiers.webs(cell.text):
            host = one.value.partition("//")[2] or one.value
            found |= {plain(part) for part in host.partition("/")[0].split(".")[:-1]}
        found |= {plain(one.value.partition("@")[2].partition(".")[0]) for one in identifiers.mails(cell.text)}
    return frozenset(name for name in found if len(name) >= 4)


def _beside_bank(cell: Cell, labelled: Labelled) -> bool:
    """Whether an account, a tax number or the like stands a few lines from it, as at the foot of a letter."""
    rows = cell.page.rows[max(0, cell.row - 5) : cell.row + 6]
    names = {hit.name for row in rows for c in row for hit in labelled.hits(c) if hit.weight >= 2}
    return len(names & BANK) >= 2


def _is_customer(cell: Cell, labelled: Labelled) -> bool:
    """A word like `bill to` stands before it or a few lines above."""
    row = cell.page.rows[cell.row]
    around = [*row[: cell.column + 1]]
    for above in cell.page.rows[max(0, cell.row - 3) : cell.row]:
        around += [c for c in above if c.overlaps(cell)]
    return any(hit.name == "customer" for c in around for hit in labelled.hits(c))


def _form_inside(text: str, start: int) -> int | None:
    """Where a legal form ends that more words follow, if it is written as one: with points, or mixed case."""
    for begin, end in spans(words().patterns["legal_forms"], fold(text)):
        form = text[begin:end].rstrip()
        after = text[begin + len(form) :].lstrip(".")
        sure = "." in form or (len(form) >= 3 and form != form.lower() and form != form.upper())
        if (
            begin > start + 3
            and sure
            and _is_form(form)
            and not text[begin - 1].isalnum()
            and after[:1] in (" ", ",", "(")
        ):
            return begin + len(form) + (len(text) - begin - len(form) - len(after))
    return None


def _form_below(line: Line, labelled: Labelled) -> int:
    below = _below(line, labelled)
    form = _ends_in(below.text, "legal_forms") if below else 0
    return form if below and form and (len(below.text) < 16 or line.text.count("(") > line.text.count(")")) else 0


def _below(line: Line, labelled: Labelled) -> Line | None:
    """The next line, right below."""
    cell = line.cell.page.below(line.cell)
    near = cell is not None and cell.y - line.cell.y < 2.0 * max(cell.height, line.cell.height)
    return _line(cell, labelled) if cell is not None and near else None


def _continued(line: Line, labelled: Labelled) -> list[Line]:
    """What of a name stands on the line below it: its legal form, or its second half right above the address."""
    below = _below(line, labelled)
    if below is None or _ends_in(line.text, "legal_forms"):
        return []
    if _form_below(line, labelled):
        return [below]
    like = 0.75 < below.cell.height / line.cell.height < 1.33
    bare = not any(c.isdigit() or c in ",:;@" for c in below.text) and not count(below.text, "not_address")
    bare = (
        bare and not labelled.hits(below.cell) and not count(below.text, "streets") and not count(below.text, "regions")
    )
    after = line.cell.page.below(below.cell)
    ends = after is not None and (address_like(after) or is_registration(after.text))
    return [below] if like and bare and ends and not _ends_in(below.text, "legal_forms") else []


def party(name: str, template: FieldTemplate, labelled: Labelled) -> Choice | None:
    """A name after a label: on its line, else right below it."""
    found: list[tuple[float, Line]] = []
    for cell in labelled.cells:
        for hit in labelled.hits(cell):
            if hit.name == name:
                line = _after(cell, hit, labelled)
                if line is not None:
                    found.append((hit.weight - 0.3 * cell.page.depth(cell), line))
    if not found:
        return None
    found.sort(key=lambda pair: -pair[0])
    score, line = found[0]
    read = line.cell.confidence(line.start, line.start + len(line.text))
    rest = [s for s, other in found if plain(other.text) != plain(line.text)]
    return Choice(name, line.text, line.text, line.cell, line.box, score, score - max(rest, default=0.0), read)


def _after(cell: Cell, hit: Hit, labelled: Labelled) -> Line | None:
    start = hit.end
    while start < len(cell.text) and not cell.text[start].isalnum():
        start += 1
    rest = cell.text[start:].rstrip()
    if len(rest) >= 3 and not (rest.endswith(":") or _is_label(rest)):
        only = cell.text[hit.end : start].strip()
        return _person(Line(cell, cell.text[start:], cell.row, start), labelled) if only or hit.start < 2 else None
    page = cell.page
    for other in page.rows[cell.row][cell.column + 1 : cell.column + 2]:
        if not labelled.hits(other) and other.x_min - cell.x_max < 12 * page.letter and _is_name(other.text):
            return _person(Line(other, other.text, other.row), labelled)
    for row in page.rows[cell.row + 1 : cell.row + 3]:
        for other in row:
            if other.overlaps(cell) and not any(one.weight >= 2 for one in labelled.hits(other)):
                return _person(Line(other, other.text, other.row), labelled)
    return None


def _person(line: Line, labelled: Labelled) -> Line | None:
    for start, end in spans(words().patterns["attention"], line.cell.folded):
        if start <= line.start and not line.text[end - line.start : end - line.start + 1].isalpha():
            rest = line.cell.text[end:].lstrip(" :.,-")
            line = replace(line, text=rest, start=len(line.cell.text) - len(rest))
            break
    return line if _is_name(line.text) and not dates(line.text) and not line.text.endswith(":") else None


def _is_label(text: str) -> bool:
    """`Bill to address`: more of the label, no name."""
    folded = fold(text)
    found = spans(words().patterns["address_prefix"], folded)
    return any(start == 0 and not folded[end:].strip() for start, end in found)


def _is_name(text: str) -> bool:
    letters = sum(character.isalpha() for character in text)
    return letters >= 3 and letters > 2 * sum(character.isdigit() for character in text)


def _ends_in(text: str, kind: str) -> int:
    """How many letters of a text, at its end, are one of the words; 0: none."""
    folded = fold(text)
    for start, end in spans(words().patterns[kind], folded):
        whole = start == 0 or not text[start - 1].isalnum()
        whole = whole and (kind != "legal_forms" or _is_form(text[start:end]))
        if whole and not folded[end:].strip() and not text[end : end + 1].isalpha():
            return len(text) - start
    return 0


@cache
def _forms() -> frozenset[str]:
    return frozenset(plain(form) for form in words().legal_forms)


def _is_form(text: str) -> bool:
    """Whether a short one is really written so: `Sri` is no `Srl`, though OCR confuses the letters."""
    letters = plain(text)
    return len(letters) > 3 or letters in _forms()
