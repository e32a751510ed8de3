"""Which files of a source a pipeline takes, and what it leaves aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

from pathspec import GitIgnoreSpec

from swath.schemas.errors import ConfigurationError

EXTENSIONS_TOLD = 100
"""How many extensions are counted by name before the rest is counted as `other`."""


class Selection:
    """Takes or leaves files by their path below the source.

    Globs mean what they mean in a .gitignore, whatever their case: `*` and `?` stay within one folder,
    `**` crosses folders, a glob without a slash is looked for in every folder, one with a slash stands
    below the source, and a folder's name means all that is in it. Without an include glob every file with
    a readable extension is taken; with one, whatever it matches, readable or not. What stands `beside` the pictures
    and tells of them is taken unless it is excluded.
    """

    def __init__(
        self,
        include: Iterable[str],
        exclude: Iterable[str],
        readable: Collection[str],
        beside: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._include = _globs(include)
        self._exclude = _globs(exclude)
        self._readable = frozenset(readable)
        self._beside = beside
        self.listed = 0
        """How many files have been looked at."""
        self.left_aside: Counter[str] = Counter()
        """How many of them were not taken, by extension; '' for none."""

    def takes(self, path: str) -> bool:
        """Whether the file is taken; counts it where not."""
        self.listed += 1
        name = path.lower()
        extension = extension_of(name)
        included = self._include.match_file(name) if self._include else extension in self._readable
        if (included or self._beside(path)) and not (self._exclude and self._exclude.match_file(name)):
            return True
        if extension not in self.left_aside and len(self.left_aside) >= EXTENSIONS_TOLD:
            extension = "other"
        self.left_aside[extension] += 1
        return False


def extension_of(path: str) -> str:
    """The extension of a file name, lower case, without the dot; '' for none."""
    stem, _, extension = path.rpartition("/")[2].rpartition(".")
    return extension.lower() if stem else ""


def _globs(patterns: Iterable[str]) -> GitIgnoreSpec | None:
    lines = [pattern.lower() for pattern in patterns]
    try:
        return GitIgnoreSpec.from_lines(lines) if lines else None
    except ValueError as error:
        raise ConfigurationError(f"a glob among {', '.join(lines)} is wrong: {error}") from error
