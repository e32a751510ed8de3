"""The environment as typed settings; secrets stay there, where the stores' clients read them themselves."""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from swath.schemas.errors import ConfigurationError

PREFIXES = ("SWATH_", "AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR_HOST", "PG", "PYICEBERG_")
"""What the names of the variables begin with by which stores and catalogs are found."""


class Settings(BaseSettings):
    """What the variables `SWATH_*` and `AWS_*` say. `SWATH_CATALOG` is JSON."""

    model_config = SettingsConfigDict(env_prefix="SWATH_", frozen=True, extra="ignore", populate_by_name=True)

    warehouse: str = "./warehouse"
    """URI or path under which tables, staged files and run records stand."""
    home: Path = Path("~/.local/state/swath")
    """State of local services, and the catalogs of remote warehouses."""
    catalog: dict[str, str] = Field(default={}, repr=False)
    """Properties of any PyIceberg catalog (`type`, `uri`, `token` ...); empty: SQLite, see `catalog_for`."""
    review_threshold: float = Field(default=0.8, ge=0, le=1)
    """Confidence below which a person must look at a value."""
    review_required: str = ""
    """Fields that every document must have, with commas: `total,document_number`."""
    review_fields: str = ""
    """The only fields that a person is asked about, with commas; empty: those that payments hang on, and any that a
    check contradicts."""
    storage_patience_s: float = Field(default=120, ge=0)
    """How long an object store that does not answer is tried again, in seconds."""
    storage_attempts: int = Field(default=20, ge=1)
    """How often it is tried within that time."""
    concurrency_limit: str = "swath"
    """Prefect's global concurrency limit from which every run, and every partition of a backfill, takes a slot."""
    concurrency_slots: int = Field(default=4, ge=1)
    """Its size where the server has no such limit yet; afterwards it is changed there."""
    cluster_cpus: float = Field(default=0, ge=0)
    cluster_gpus: float = Field(default=0, ge=0)
    """What a Ray cluster that scales by itself may grow to: plans count on it, the workers of a wave call for it. Ray
    itself does not know. 0: what is there is all there is."""
    core_hour_price: float | None = Field(default=None, ge=0)
    gpu_hour_price: float | None = Field(default=None, ge=0)
    """What `swath backfill --dry-run` reckons costs with, in a currency of your own."""
    webhook_url: str | None = Field(default=None, repr=False)
    """Where the failure of a run that Prefect drives is told, as JSON whose `text` is a sentence."""
    metrics_token: str | None = Field(default=None, min_length=16, repr=False)
    """What `swath metrics --serve` asks of who scrapes it; beyond loopback there must be one."""
    s3_endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("SWATH_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    )
    """URL of a server that speaks S3; None: Amazon's."""
    s3_region: str = Field(
        default="us-east-1",
        validation_alias=AliasChoices("SWATH_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
    )
    s3_anonymous: bool = False
    """Reads public buckets without credentials."""

    def home_path(self) -> Path:
        """`home` without `~`, absolute."""
        return self.home.expanduser().resolve()

    def catalog_for(self, warehouse: str, local: Path | None) -> dict[str, str]:
        """Properties of the catalog of a warehouse: the configured one, else SQLite, in `<local>/catalog.db`
        where the warehouse is a local folder and in `<home>/catalogs/<digest>.db` where it is not."""
        if self.catalog:
            given = dict(self.catalog)
            if "uri" in given:  # of Postgres, with the driver that comes with Swath
                given["uri"] = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", given["uri"])
            return given
        digest = hashlib.blake2b(warehouse.encode(), digest_size=8).hexdigest()
        database = local / "catalog.db" if local else self.home_path() / "catalogs" / f"{digest}.db"
        return {"type": "sql", "uri": f"sqlite:///{database}?timeout=30"}


def environment() -> frozenset[tuple[str, str]]:
    """The variables that decide the settings and the clients of the object stores, as they are now."""
    return frozenset((name, value) for name, value in os.environ.items() if name.startswith(PREFIXES))


def settings() -> Settings:
    """The settings of the environment as it is now. Raises ConfigurationError naming the variable that is wrong."""
    return _settings(environment())


@lru_cache(maxsize=8)
def _settings(_environment: frozenset[tuple[str, str]]) -> Settings:
    try:
        return Settings()
    except (ValidationError, SettingsError) as error:
        raise ConfigurationError(f"a SWATH_* variable of the environment is wrong: {_first(error)}") from error


def _first(error: ValidationError | SettingsError) -> str:
    if isinstance(error, ValidationError):
        found = error.errors(include_input=False)[0]
        return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    return str(error)
