"""What is looked for when an object is forgotten: its URIs in every writing, and the ids made from them."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swath.infra import storage
from swath.schemas.items import item_id, object_id

PAGES = 2_000
"""Ids of so many pages are looked for whether a row has told them or not."""
INSTEAD = b"forgotten"
BOUND = 16
"""Characters of a text that a manifest keeps of a column's bounds."""
_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_HAS_ID = "[0-9a-f]{32}"


@dataclass(frozen=True)
class Sought:
    """URIs of objects' files, and ids of the objects and their items."""

    uris: frozenset[str]
    objects: frozenset[str]
    items: frozenset[str]

    @cached_property
    def ids(self) -> frozenset[str]:
        """All ids, those of pages that nobody has told of among them."""
        pages = (item_id(uri, page) for uri in self.uris for page in (None, *range(1, PAGES + 1)))
        return self.objects.union(self.items, pages)

    @cached_property
    def _written(self) -> list[str]:
        """The URIs in every writing, the longest first, without what comes before the path: texts leave it out."""
        names = {text for uri in self.uris for text in _writings(uri.partition("://")[2])}
        return sorted(names, key=lambda name: (-len(name), name))

    @cached_property
    def _pattern(self) -> re.Pattern[bytes]:
        names = b"|".join(re.escape(name.encode()) for name in self._written)
        return re.compile(rb"(?:[a-z0-9]+://)?(?<![\w.-])(?:" + names + rb")(?![\w%/-]|\.\w)")

    def is_in(self, content: bytes) -> bool:
        """Whether a text, or any other content, names one of them."""
        return bool(self._pattern.search(content)) or any(
            match[0].decode() in self.ids for match in _ID.finditer(content)
        )

    def without(self, content: bytes) -> bytes:
        """The text with another word in their place."""
        content = self._pattern.sub(INSTEAD, content)
        return _ID.sub(lambda match: INSTEAD if match[0].decode() in self.ids else match[0], content)

    def is_bound(self, value: str | bytes) -> bool:
        """Whether a value of a manifest names one of them; bounds of texts are cut to 16 characters there, and the
        upper one has its last character raised."""
        content = value.encode() if isinstance(value, str) else value
        return content in self._bounds or self.is_in(content)

    @cached_property
    def _bounds(self) -> frozenset[bytes]:
        cut = {one[:BOUND] for one in self.objects | self.items if len(one) > BOUND}
        return frozenset(text.encode() for text in cut | {one[:-1] + chr(ord(one[-1]) + 1) for one in cut})

    def is_in_parquet(self, content: bytes) -> bool:
        """Whether a Parquet file names one of them: in a value, a statistic of its footer, or its metadata."""
        file = pq.ParquetFile(io.BytesIO(content))
        footer = file.metadata
        told = [part for pair in (footer.metadata or {}).items() for part in pair if part != b"ARROW:schema"]
        for group in range(footer.num_row_groups):
            for column in range(footer.num_columns):
                statistics = footer.row_group(group).column(column).statistics
                if statistics is not None and statistics.has_min_max:
                    told += [v.encode() if isinstance(v, str) else v for v in (statistics.min, statistics.max)]
        if any(self.is_in(one) for one in told if isinstance(one, bytes)):
            return True
        batches = file.iter_batches(batch_size=10_000)
        return any(self._in_texts(texts) for batch in batches for column in batch.columns for texts in _texts(column))

    def _in_texts(self, texts: pa.Array) -> bool:
        if pc.any(pc.is_in(texts, value_set=self._values)).as_py():
            return True
        suspect = [pc.match_substring(texts, pattern=name) for name in self._written]
        longer = pc.greater(pc.binary_length(texts), 32)
        suspect.append(pc.and_(longer, pc.match_substring_regex(texts, pattern=_HAS_ID)))
        mask = suspect[0]
        for one in suspect[1:]:
            mask = pc.or_(mask, one)
        return any(self.is_in(text.encode()) for text in texts.filter(mask).to_pylist() if text is not None)

    @cached_property
    def _values(self) -> pa.Array:
        return pa.array(sorted(self.uris | self.ids), pa.string())

    def is_in_row(self, row: Any) -> bool:
        """Whether a record names one of them."""
        return self.is_in(json.dumps(row, default=str, ensure_ascii=False).encode("utf-8", "replace"))


def sought(uris: Iterable[str], objects: Iterable[str], items: Iterable[str]) -> Sought:
    """What to look for, of the URIs of all their files and what is known of their ids."""
    uris = frozenset(uris)
    return Sought(uris, frozenset(objects).union(object_id(uri) for uri in uris), frozenset(items))


def uri_of(given: str) -> str:
    """The URI under which an object stands in tables."""
    uri = storage.normalize(given)
    return storage.uri_of(str(storage.local_path(uri))) if storage.is_local(uri) else uri


def _writings(name: str) -> set[str]:
    """How a name may be written in JSON, HTML, and as a part of a URL."""
    plain = {name, quote(name), quote(name, safe="/:")}
    plain |= {json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1], html.escape(name)}
    return plain


def _texts(column: pa.Array) -> Iterator[pa.Array]:
    """The texts of a column, those in lists, structs and maps too."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        yield from _texts(column.dictionary)
    elif pa.types.is_string(kind):
        yield column
    elif pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        yield column.cast(pa.string())
    elif pa.types.is_struct(kind):
        for position in range(kind.num_fields):
            yield from _texts(column.field(position))
    elif pa.types.is_map(kind):
        yield from _texts(column.keys)
        yield from _texts(column.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _texts(column.flatten())
