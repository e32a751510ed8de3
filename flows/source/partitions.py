"""Which partition of the table a file belongs to, by the folders it stands in."""

from __future__ import annotations

import re
from collections.abc import Callable

from swath.schemas.errors import ConfigurationError

WHOLE = "all"
"""The one partition where there is no pattern."""
NONE = "none"
"""The partition of files whose folders the pattern does not match."""

_PIECE = re.compile(r"\{([A-Za-z_]\w*)\}|([^{}]+)")


def partition_by(pattern: str | None, anywhere: bool = False) -> Callable[[str], str]:
    """A function from a file's path below the source to its partition.

    A pattern such as `site={site}/dt={date}` describes the first folders below the source: `{name}` stands for
    a part of one folder's name, and folders further down may follow. The partition is the text it matched,
    `site=a/dt=2026-01-01`. A folder of the pattern without a `=` is written with its names,
    `{site}/{date}` as `site=a/date=2026-01-01`, or left out where it has none. Other files: `none`. With `anywhere`,
    the folders need not be the first: those that match first count.

    Raises ConfigurationError for a pattern that is none.
    """
    if pattern is None:
        return lambda path: WHOLE
    names: list[str] = []
    folders = [_folder(folder, pattern, names) for folder in pattern.strip("/").split("/")]
    if not names:
        raise ConfigurationError(
            f"partition pattern {pattern!r} has no {{name}} in it; write for example site={{site}}"
        )
    if len(set(names)) < len(names):
        raise ConfigurationError(f"partition pattern {pattern!r} uses a name twice; give each {{name}} one of its own")
    before = "(?:[^/]+/)*?" if anywhere else ""
    expression = re.compile(before + "/".join(folder for folder, _ in folders) + "/", re.DOTALL)
    template = "/".join(text for _, text in folders if text)

    def partition(path: str) -> str:
        match = expression.match(path)
        return template.format_map(match.groupdict()) if match else NONE

    return partition


def _folder(folder: str, pattern: str, names: list[str]) -> tuple[str, str]:
    """The regular expression of one folder of the pattern, and how it is written in the partition."""
    pieces = list(_PIECE.finditer(folder))
    if not folder or "".join(piece[0] for piece in pieces) != folder:
        raise ConfigurationError(
            f"partition pattern {pattern!r} is wrong at {folder!r}; write folders with {{name}} in them, "
            "such as site={site}/dt={date}"
        )
    names.extend(piece[1] for piece in pieces if piece[1])
    expression = "".join(f"(?P<{piece[1]}>[^/]+?)" if piece[1] else re.escape(piece[2]) for piece in pieces)
    if "=" in folder:
        return expression, folder
    return expression, "/".join(f"{piece[1]}={{{piece[1]}}}" for piece in pieces if piece[1])
