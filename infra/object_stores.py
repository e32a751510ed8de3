"""obstore's clients of S3, Azure Blob Storage and Google Cloud Storage, from each cloud's usual variables.

Their errors become Python's own by `plain_errors`, which `filesystems.attempt` does for whatever it tries.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from swath.infra.settings import settings
from swath.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, ObjectStore, RetryConfig, S3Config, S3Credential

CONNECT_S, READ_S = 5, 60
CREDENTIALS_ASKED = timedelta(minutes=10)
"""How often those of S3 are asked for again; who gives them knows when they expire."""
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_CONNECTION_STRING, or an identity)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
"""The variables that a message names, by scheme."""
ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "az": "AZURE_STORAGE_ENDPOINT", "gs": "STORAGE_EMULATOR_HOST"}
GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
"""What a service account asks for; without one, Google refuses its signature."""
REFUSED = re.compile(r"status code: 40[13]\b")
NO_BUCKET = ("ContainerNotFound", "NoSuchBucket")
"""What the stores say where it is not the object that is missing."""


def open_store(scheme: str, bucket: str, *, patient: bool = False) -> ObjectStore:
    """The client of a bucket or container. It gives up at once, as `attempt` tries again; a `patient` one, for
    libraries that call it themselves, does so itself.

    Raises ConfigurationError and PermissionError where the environment names no account and no credentials.
    """
    from obstore.exceptions import BaseError

    options = settings()
    client: ClientConfig = {
        "allow_http": True,
        "connect_timeout": f"{CONNECT_S} seconds",
        "read_timeout": f"{READ_S} seconds",
        "timeout": "1 day",  # of a whole object, however large
    }
    retry: RetryConfig = {"max_retries": 0}
    if patient:
        retry = {
            "max_retries": options.storage_attempts,
            "retry_timeout": timedelta(seconds=options.storage_patience_s),
        }
    try:
        return {"s3": _s3, "az": _azure, "gs": _google}[scheme](bucket, client, retry)
    except BaseError as error:
        said = _first_line(error)
        raise ConfigurationError(f"{scheme}://{bucket}: {said}; check {CREDENTIALS[scheme]}") from None


def _s3(bucket: str, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
    from obstore.store import S3Store

    options = settings()
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        client["root_certificate"] = Path(bundle).read_bytes()
    config: S3Config = {"region": options.s3_region, "skip_signature": options.s3_anonymous}
    if options.s3_endpoint:
        config |= {"endpoint": options.s3_endpoint, "virtual_hosted_style_request": False}
    provider = None if options.s3_anonymous else _of_botocore()
    return S3Store(bucket, config=config, client_options=client, retry_config=retry, credential_provider=provider)


def _of_botocore() -> Callable[[], S3Credential]:
    """What botocore finds, as for s3fs: the environment, a profile, a role."""
    from botocore.exceptions import NoCredentialsError
    from botocore.session import get_session

    found = get_session().get_credentials()
    if found is None:
        raise NoCredentialsError

    def now() -> S3Credential:
        held = found.get_frozen_credentials()
        return {
            "access_key_id": held.access_key,
            "secret_access_key": held.secret_key,
            "token": held.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_ASKED,
        }

    return now


def _azure(bucket: str, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
    """A container, of the account that its name says after an @, else of the environment's. Keys, signatures,
    a service principal, a workload's or a machine's identity are found by obstore in the variables `AZURE_*`."""
    from obstore.store import AzureStore

    container, _, host = bucket.partition("@")
    config = _connection_string(os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    if host:
        config["account_name"] = host.partition(".")[0]
    return AzureStore(container, config=config, client_options=client, retry_config=retry)


def _connection_string(text: str) -> AzureConfig:
    """The settings in a connection string as the Azure portal shows it: `AccountName=...;AccountKey=...`."""
    said = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    if not said:
        return {}
    account = said.get("AccountName", "")
    suffix, protocol = said.get("EndpointSuffix", "core.windows.net"), said.get("DefaultEndpointsProtocol", "https")
    found = {
        "account_name": account,
        "account_key": said.get("AccountKey"),
        "sas_key": said.get("SharedAccessSignature"),
        "endpoint": said.get("BlobEndpoint", f"{protocol}://{account}.blob.{suffix}").rstrip("/"),
    }
    return {name: value for name, value in found.items() if value}  # type: ignore[return-value]


def _google(bucket: str, client: ClientConfig, retry: RetryConfig) -> ObjectStore:
    """A bucket, with what Google's own library finds (a file of credentials, gcloud's, the machine's account); an
    emulator at STORAGE_EMULATOR_HOST without."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from obstore.auth.google import GoogleCredentialProvider
    from obstore.store import GCSStore

    config: GCSConfig = {}
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
        base = emulator if "://" in emulator else f"http://{emulator}"
        config = {"base_url": base.rstrip("/"), "skip_signature": True}
    anonymous = emulator or os.environ.get("GOOGLE_SKIP_SIGNATURE", "").lower() in ("1", "true")
    try:
        provider = None if anonymous else GoogleCredentialProvider(google.auth.default(scopes=[GOOGLE_SCOPE])[0])
    except GoogleAuthError as error:
        raise PermissionError(f"no credentials: {_first_line(error)}") from error
    return GCSStore(bucket, config=config, client_options=client, retry_config=retry, credential_provider=provider)


def etag_of(meta: ObjectMeta) -> str:
    """The ETag without its quotes; empty where the store has none."""
    return (meta["e_tag"] or "").strip('"')


@contextmanager
def plain_errors() -> Iterator[None]:
    """The errors of obstore as those of Python."""
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        if not str(error).startswith("Object at location"):  # not obstore's
            raise
        raise FileNotFoundError(_missing(error)) from error
    except exceptions.AlreadyExistsError as error:
        raise FileExistsError("there is an object already") from error
    except exceptions.PreconditionError as error:
        raise FileNotFoundError("the object was replaced while it was being read") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise PermissionError("the store refuses") from error
    except exceptions.InvalidPathError as error:
        raise OSError(errno.EINVAL, f"a name there cannot be read; rename it: {_first_line(error)}") from error
    except exceptions.BaseError as error:
        if any(code in str(error) for code in NO_BUCKET):
            raise FileNotFoundError(_missing(error)) from error
        if "token request" in str(error):
            raise PermissionError(f"no credentials: {_first_line(error)}") from error
        if REFUSED.search(str(error)):  # of a listing, of which obstore tells no kind
            raise PermissionError("the store refuses") from error
        raise OSError(_first_line(error)) from error


def _missing(error: Exception) -> str:
    return "there is no such bucket" if any(code in str(error) for code in NO_BUCKET) else "there is no such object"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
