"""The user's own tables (purchase orders, vendors), read once a worker and looked up by number or name."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from swath.operators.documents.cells import unaccented
from swath.schemas.errors import ConfigurationError

_LEGAL_FORMS = frozenset(
    (
        *("ab", "ag", "as", "bhd", "bv", "co", "company", "corp", "corporation", "eg", "gmbh", "inc", "incorporated"),
        *("kg", "kgaa", "limited", "llc", "llp", "lp", "ltd", "ltda", "mbh", "nv", "og", "ohg", "oy", "plc", "pte"),
        *("pty", "sa", "sarl", "sas", "sdn", "se", "spa", "srl", "ug"),
    )
)
"""Words of a company's name that say what kind of company it is, and that are left out or abbreviated at will."""
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")


@dataclass
class Reference:
    """The rows of a reference table. Rows are named by their position, from 0."""

    texts: Mapping[str, Sequence[str | None]]
    amounts: Mapping[str, Sequence[Decimal | None]]
    numbers: Mapping[str, str]
    """Field of the document to column."""
    names: Mapping[str, str]
    _by_code: dict[str, dict[str, list[int]]] = field(init=False)
    _by_name: dict[str, dict[str, list[int]]] = field(init=False)

    def __post_init__(self) -> None:
        self._by_code = {one: _index(map(code, self.texts[column])) for one, column in self.numbers.items()}
        self._by_name = {one: _index(map(name, self.texts[column])) for one, column in self.names.items()}

    def text(self, column: str, row: int) -> str | None:
        return self.texts[column][row]

    def amount(self, column: str, row: int) -> Decimal | None:
        return self.amounts[column][row]

    def by_number(self, field: str, wanted: str) -> list[int]:
        """The rows whose number is that code."""
        return self._by_code[field].get(wanted, []) if wanted else []

    def near_number(self, field: str, wanted: str, length: int) -> list[int]:
        """The rows whose number is one character off, where it has at least `length`."""
        from rapidfuzz import process
        from rapidfuzz.distance import Levenshtein

        if len(wanted) < length:
            return []
        known = list(self._by_code[field])
        near = process.extract(wanted, known, scorer=Levenshtein.distance, score_cutoff=1, limit=None)
        return [row for number, *_ in near for row in self._by_code[field][number]]

    def by_name(self, field: str, wanted: str | None, similarity: float) -> list[int]:
        """The rows whose name is as like the wanted one as any, and at least that like."""
        from rapidfuzz import fuzz, process

        if not (like := name(wanted)):
            return []
        known = self._by_name[field]
        if like in known:
            return known[like]
        found = process.extract(like, list(known), scorer=fuzz.token_sort_ratio, score_cutoff=similarity * 100, limit=5)
        return [row for one, score, _ in found if score == found[0][1] for row in known[one]]


def code(text: str | None) -> str:
    """A number's letters and digits in capitals: `PO-00 17` and `po0017` are one."""
    return "".join(character for character in unicodedata.normalize("NFKC", text or "") if character.isalnum()).upper()


def name(text: str | None) -> str:
    """A company's name without case, accents, punctuation and legal form."""
    words = re.findall(r"\w+", re.sub(r"(?<=\b\w)\.(?=\w\b)", "", unaccented(text or "")).replace("'", ""))
    return " ".join([word for word in words if word not in _LEGAL_FORMS] or words)


def reference_path(reference: str) -> Path:
    """The file behind a path or `file://` URI; ConfigurationError where there is none, or its kind is unknown."""
    parts = urlsplit(reference)
    if "://" in reference and parts.scheme != "file":
        raise ConfigurationError(f"reference {reference!r} is not on this machine; copy it and give its path")
    path = Path(unquote(parts.path) if parts.scheme == "file" else reference).expanduser()
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigurationError(f"reference {reference!r} is of an unknown kind; use .csv or .parquet")
    if not path.is_file():
        raise ConfigurationError(f"reference {reference!r} not found; give the path of an existing file")
    return path


def read_reference(
    reference: str,
    columns: Sequence[str],
    amounts: Iterable[str],
    numbers: Mapping[str, str],
    names: Mapping[str, str],
) -> Reference:
    """The columns of a table as texts, and the amounts as decimals; ConfigurationError names the row that is wrong."""
    path = reference_path(reference)
    first_line, table = _parquet(path, columns) if path.suffix.lower() == ".parquet" else _csv(path, columns)
    decimals = {column: [_decimal(path, first_line + i, column, one) for i, one in enumerate(table[column])]
                for column in amounts}  # fmt: skip
    return Reference(table, decimals, numbers, names)


def _index(keys: Iterable[str]) -> dict[str, list[int]]:
    rows = defaultdict(list)
    for row, key in enumerate(keys):
        if key:
            rows[key].append(row)
    return dict(rows)


def _csv(path: Path, columns: Sequence[str]) -> tuple[int, dict[str, list[str | None]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            rows = csv.DictReader(file, delimiter=max(",;\t", key=header.count), strict=True)
            _must_have(path, columns, rows.fieldnames or ())
            table: dict[str, list[str | None]] = {column: [] for column in columns}
            for row in rows:
                if None in row:
                    raise ConfigurationError(f"{path} line {rows.line_num}: more cells than the header has; quote them")
                for column in table:
                    table[column].append((row[column] or "").strip() or None)
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: no UTF-8 text; save it as CSV UTF-8") from None
    except (OSError, csv.Error) as error:
        raise ConfigurationError(f"{path}: cannot be read as CSV ({error}); mend it or use Parquet") from None
    return 2, table


def _parquet(path: Path, columns: Sequence[str]) -> tuple[int, dict[str, list[str | None]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _must_have(path, columns, file.schema_arrow.names)
            table = file.read(list(dict.fromkeys(columns)))
    except (OSError, pa.ArrowException) as error:
        raise ConfigurationError(f"{path}: cannot be read as Parquet ({error}); write it again") from None
    return 1, {column: [_text(value) for value in table[column].to_pylist()] for column in table.column_names}


def _must_have(path: Path, columns: Sequence[str], names: Sequence[str]) -> None:
    missing = [column for column in columns if column not in names]
    if missing:
        raise ConfigurationError(f"{path} has no column {missing[0]!r}; it has {', '.join(map(str, names)) or 'none'}")


def _text(value: Any) -> str | None:
    """A cell as text; a whole number that a table keeps as 17.0 is 17."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None else str(value).strip() or None


def _decimal(path: Path, row: int, column: str, text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        value = Decimal(text.replace(",", "") if _GROUPED.fullmatch(text) else text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ConfigurationError(f"{path} row {row}: {column} {text!r} is no amount; write it as 1234.50")
    return value
