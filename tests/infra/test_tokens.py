"""A user's own token: one, whole, and nobody else's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swath.infra.tokens import own_token
from swath.schemas.errors import ConfigurationError


def test_it_is_one_however_many_ask_at_once_and_this_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    own_token("other")
    first = own_token("ray")
    told = first.read_text()
    with ThreadPoolExecutor() as pool:
        assert {path.read_text() for path in pool.map(own_token, ["ray"] * 20)} == {told}
    assert len(told) == 64
    assert first.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["other.token", "ray.token"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match="set SWATH_HOME to a folder"):
        own_token("ray")
