"""The environment as typed settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from swath.infra.settings import settings
from swath.schemas.errors import ConfigurationError


def test_the_environment_is_read_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_WAREHOUSE", "s3://one/lake")
    assert settings().warehouse == "s3://one/lake"
    monkeypatch.setenv("SWATH_WAREHOUSE", "s3://two/lake")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    assert settings().warehouse == "s3://two/lake"
    assert settings().s3_endpoint == "http://store:9000"


def test_secrets_are_in_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("SWATH_CATALOG", '{"uri": "postgresql://swath:hunter2@db/catalog"}')
    monkeypatch.setenv("SWATH_METRICS_TOKEN", "hunter2-hunter2-hunter2")
    assert "hunter2" not in repr(settings())


def test_a_local_warehouse_holds_its_catalog_and_remote_ones_have_one_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    assert settings().catalog_for("file:///w", Path("/w"))["uri"] == "sqlite:////w/catalog.db?timeout=30"
    one, other = (settings().catalog_for(f"s3://{name}", None)["uri"] for name in ("one", "other"))
    assert one.startswith(f"sqlite:///{tmp_path}/catalogs/")
    assert one != other


def test_any_catalog_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_CATALOG", '{"type": "rest", "uri": "http://catalog"}')
    assert settings().catalog_for("s3://lake", None) == {"type": "rest", "uri": "http://catalog"}


@pytest.mark.parametrize(("name", "value"), [("SWATH_CATALOG", "no json"), ("SWATH_STORAGE_PATIENCE_S", "long")])
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name.removeprefix("SWATH_").lower()):
        settings()
