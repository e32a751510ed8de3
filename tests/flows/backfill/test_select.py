"""Which partitions patterns name, and their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from swath.flows.backfill.select import in_order, matcher, read_patterns
from swath.schemas.errors import ConfigurationError

DAYS = [f"site={site}/dt=2026-{month:02}-{day:02}" for site in "ab" for month in (1, 2, 7) for day in (1, 28)]


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("site=a/dt=2026-01-01", 1),
        ("dt=2026-0[1-6]-*", 8),
        ("site=b", 6),
        ("site=b/dt=2026-07-*", 2),
        ("dt=2026-01-28..2026-02-01", 4),
        ("dt=2026-02..2026-07", 8),
        ("site=a/dt=2026-01-01..dt=2026-01-31", 2),
        ("dt=2026-03-01..2026-06-30", 0),
        ("dt=2026", 0),
        ("*", 12),
    ],
)
def test_a_pattern_names_one_or_more_neighbouring_folders(pattern: str, count: int) -> None:
    assert sum(map(matcher([pattern]), DAYS)) == count


def test_any_of_several_patterns_is_enough_and_none_is_all() -> None:
    assert sum(map(matcher(["site=a/dt=2026-01-01", "site=b"]), DAYS)) == 7
    assert all(map(matcher([]), DAYS))


def test_numbers_are_compared_as_such() -> None:
    found = [f"week={number}" for number in range(1, 13) if matcher(["week=9..11"])(f"week={number}")]
    assert found == ["week=9", "week=10", "week=11"]


@pytest.mark.parametrize("pattern", ["", "dt=2026-02..2026-01", "dt=..2026-01", "dt=2026-01.."])
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError):
        matcher([pattern])


def test_a_file_names_partitions(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# of spring\nsite=a\n\n  site=b/dt=2026-01-01 \n")
    assert read_patterns(str(tmp_path / "list")) == ["site=a", "site=b/dt=2026-01-01"]
    (tmp_path / "empty").write_text("# none\n")
    for name in ("empty", "missing"):
        with pytest.raises(ConfigurationError):
            read_patterns(str(tmp_path / name))


def test_order_is_by_date_wherever_it_stands_in_the_name() -> None:
    assert in_order(["site=a/dt=2026-02-01", "site=b/dt=2026-01-01", "none"], newest_first=False) == [
        "none",
        "site=b/dt=2026-01-01",
        "site=a/dt=2026-02-01",
    ]
    assert in_order(["y=2026/m=9", "y=2026/m=10", "y=2025/m=12"], newest_first=True) == [
        "y=2026/m=10",
        "y=2026/m=9",
        "y=2025/m=12",
    ]
    assert in_order(["b", "a"], newest_first=False) == ["a", "b"]
