"""What waits for a person as a file, and the file with the decisions back: JSON, CSV, Label Studio."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from swath.flows.ask.results import json_value
from swath.flows.review import label_studio
from swath.flows.review.crops import Crop
from swath.flows.review.desk import Row, Wanted
from swath.infra import storage
from swath.schemas.corrections import Decision
from swath.schemas.errors import ConfigurationError

Format = Literal["json", "csv", "label-studio"]
MAX_BYTES = 256 << 20
ANSWER = ("decision", "after", "why", "by")
"""What a person fills in, beside the columns that say what it is about."""
_FIRST = ("review_id", "source_uri", "page", "field", "value", "confidence", "reason", "detail", *ANSWER)
"""What a person needs to answer, at the left of a sheet."""
_FORMULA = re.compile(r"^\s*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*")


def write(rows: Sequence[Row], format: Format, picture: Callable[[Row], Crop | None]) -> str:
    """The rows as text, with room for the answers."""
    match format:
        case "json":
            filled = [json_value({**row, **dict.fromkeys(ANSWER)}) for row in rows]
            return json.dumps(filled, indent=1, ensure_ascii=False) + "\n"
        case "csv":
            return _csv([{**row, **dict.fromkeys(ANSWER)} for row in rows])
        case _:
            tasks = [label_studio.task(json_value(row), picture(row)) for row in rows]
            return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"


def read(uri: str, format: Format, by: str) -> list[Wanted]:
    """The decisions in a file; rows without one are left aside. Raises ConfigurationError with line and remedy."""
    name = uri.rpartition("/")[2]
    try:
        content = storage.read(storage.normalize(uri), MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{uri}: cannot be read ({error.strerror or error}); give the path of a file"
        ) from None
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"{uri}: more than {MAX_BYTES >> 20} MB; import it in parts")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name}: no UTF-8 text; save it as {format} in UTF-8") from None
    if format == "csv":
        return [one for place, row in _lines(text, name) if (one := _wanted(row, place, by))]
    wanted = []
    for at, entry in enumerate(_json(text, name), 1):
        place = f"{name} entry {at}"
        row = label_studio.answer(entry, place) if format == "label-studio" else entry
        if row and (one := _wanted(row, place, by)):
            wanted.append(one)
    return wanted


def _wanted(row: Mapping[str, Any], place: str, by: str) -> Wanted | None:
    """The decision of one row; None where it has none."""
    said = {name: _given(row.get(name)) for name in ("review_id", "item_id", "path", "etag", *ANSWER)}
    if said["decision"] is None and said["after"] is None:
        return None
    decision = said["decision"] or Decision.CORRECTED
    if decision not in list(Decision):
        raise ConfigurationError(f"{place}: decision {decision!r} is not one of {', '.join(Decision)}; mend it, or "
                                 "leave it empty and fill in `after`")  # fmt: skip
    if decision == Decision.CORRECTED and said["after"] is None:
        raise ConfigurationError(f"{place}: corrected, but to what? fill in `after`")
    if decision == Decision.ABSENT and said["after"] is not None:
        raise ConfigurationError(f"{place}: absent, but `after` is {said['after']!r}; empty one of the two")
    key = said["review_id"] or (f"{said['item_id']}/{said['path']}" if said["item_id"] and said["path"] else None)
    if key is None:
        raise ConfigurationError(f"{place}: says not what it is about; fill in review_id, or item_id and path")
    who = said["by"] or by
    return Wanted(key, Decision(decision), said["after"], said["why"], who, said["etag"], place)


def _given(value: Any) -> str | None:
    """A cell as text without what `_cell` put before it; None where it is empty."""
    text = "" if value is None else str(value).strip()
    if text.startswith("'") and _FORMULA.match(text[1:]):
        text = text[1:]
    return text or None


def _csv(rows: Sequence[Row]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    there = list(rows[0]) if rows else ["review_id", *ANSWER]
    names = sorted(there, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    writer.writerow(names)
    writer.writerows([_cell(json_value(row[name])) for name in names] for row in rows)
    return file.getvalue()


def _cell(value: Any) -> str:
    """A value as a cell that no spreadsheet takes for a formula: what a document says is a stranger's text."""
    text = "" if value is None else str(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _lines(text: str, name: str) -> Iterator[tuple[str, Row]]:
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        names = reader.fieldnames or []
        if not ({"decision", "after"} <= set(names) and ("review_id" in names or {"item_id", "path"} <= set(names))):
            raise ConfigurationError(
                f"{name} line 1: the columns must be review_id (or item_id and path), decision and after, as "
                f"`swath review export` writes them; found {', '.join(names)[:200] or 'nothing'}"
            )
        for row in reader:
            place = f"{name} line {reader.line_num}"
            if None in row or None in row.values():
                many = "more" if None in row else "fewer"
                raise ConfigurationError(f"{place}: {many} cells than the header has; quote texts that hold commas")
            yield place, row
    except csv.Error as error:
        raise ConfigurationError(
            f"{name} line {reader.line_num}: no CSV ({error}); export again and fill that in"
        ) from None


def _json(text: str, name: str) -> list[dict[str, Any]]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name}: no JSON ({error}); export again and fill that in") from None
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise ConfigurationError(f"{name}: must be a list of objects, as `swath review export` writes it")
    return given
