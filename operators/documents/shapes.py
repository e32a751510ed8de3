"""Patterns that run in time linear in the text, whoever wrote them: RE2, which does not backtrack."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import re2

from swath.schemas.errors import ConfigurationError

MAX_PATTERN = 20_000
"""Characters."""
MEMORY = 16 << 20
"""Bytes that one compiled pattern may take."""


@cache
def pattern(text: str, longest: bool = False) -> Any:
    """The compiled pattern; `longest`: of all that match at a place the longest, as POSIX wants it.

    Raises ConfigurationError where RE2 refuses it.
    """
    if len(text) > MAX_PATTERN:
        raise ConfigurationError(f"a pattern of {len(text)} characters is too long; at most {MAX_PATTERN}")
    options = re2.Options()
    options.longest_match = longest
    options.max_mem = MEMORY
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        why = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ConfigurationError(
            f"{text[:80]!r} is no pattern that RE2 takes ({why}); it knows no lookaround and no backreferences"
        ) from None


def spans(regex: Any, text: str) -> Iterator[tuple[int, int]]:
    """Where the pattern matches, left to right, without the empty matches."""
    for match in regex.finditer(text):
        start, end = match.span()
        if end > start:
            yield start, end
