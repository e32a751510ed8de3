"""The Iceberg catalog of a warehouse: how it is opened and asked. Its errors become Python's own.

`SWATH_CATALOG` holds the properties of any PyIceberg catalog; three more are ours. `name` is what a SQL catalog's rows
are kept under, `namespace` is where the tables stand: a catalog that several warehouses share has one or the other
for each. Where `location` is `catalog`, a table's metadata stand where the catalog wants them (Amazon's S3 Tables and
SeaweedFS take no other place); its data are in the warehouse as ever.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from swath.infra import storage
from swath.infra.filesystems import attempt
from swath.infra.listing import FIRST_CONTACT_S
from swath.infra.settings import settings
from swath.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

T = TypeVar("T")

NAME = "swath"
OWNER = "swath.warehouse"
"""Property of a catalog that was configured, and of its tables: whose they are."""
_PASSES = re.compile(
    r"closed|terminat|timed? ?out|timeout|locked|could not serialize|deadlock|EOF|already exists|nsp_index",
    re.IGNORECASE,
)
"""What a database says to a statement that it may take later; the last two where several make a new catalog at once."""
_WRONG = re.compile(r"does not exist|translate host name|not known", re.IGNORECASE)
_REFUSED = re.compile(r"authentication failed|permission denied|no pg_hba|not permitted|certificate", re.IGNORECASE)


def open_catalog(warehouse: str) -> Catalog:
    """The catalog of a warehouse: what SWATH_CATALOG names, or a file of its own. Raises as `ask` does, and
    ConfigurationError where its properties are wrong."""
    from pyiceberg.catalog import load_catalog
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    options = settings()
    local = storage.local_path(warehouse) if storage.is_local(warehouse) else None
    properties = {"warehouse": warehouse, **options.catalog_for(warehouse, local)}
    if local:
        local.mkdir(parents=True, exist_ok=True)
    else:
        properties["py-io-impl"] = "swath.infra.iceberg_io.StoreIO"
    if options.catalog:
        properties = {"pool_pre_ping": "true", **properties, OWNER: warehouse}
    elif not local:
        (options.home_path() / "catalogs").mkdir(parents=True, exist_ok=True)
    name = properties.pop("name", NAME)
    try:
        return attempt(told(properties), lambda: _plainly(lambda: load_catalog(name, **properties)), FIRST_CONTACT_S)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise ConfigurationError(f"SWATH_CATALOG: {error}; see PyIceberg's configuration of catalogs") from error


def namespace(catalog: Catalog) -> str:
    """Where the tables stand."""
    return str(catalog.properties.get("namespace", NAME))


def told(properties: dict[str, str]) -> str:
    """How a message calls a catalog: without its secrets."""
    uri = re.sub(r"://[^/@]*@", "://", properties.get("uri", "")).partition("?")[0]
    return f"the catalog {uri or properties.get('type', '')}"


def ask(catalog: Catalog, action: Callable[[], T]) -> T:
    """What the catalog answers, asked again while it does not.

    Raises StorageUnavailable when patience ends, PermissionError, and what PyIceberg raises of tables.
    """
    return attempt(told(catalog.properties), lambda: _plainly(action))


def _plainly(action: Callable[[], T]) -> T:
    with plain_errors():
        return action()


@contextmanager
def plain_errors() -> Iterator[None]:
    """ConnectionError where a catalog may answer later, PermissionError where it refuses."""
    from botocore.exceptions import BotoCoreError, ClientError
    from pyiceberg import exceptions
    from sqlalchemy.exc import DBAPIError

    refused = (exceptions.UnauthorizedError, exceptions.ForbiddenError, exceptions.AuthorizationExpiredError)
    busy = (exceptions.ServiceUnavailableError, exceptions.TooManyRequestsError, exceptions.ServerError)
    try:
        yield
    except DBAPIError as error:
        said = " ".join(str(error.orig).split())
        if _REFUSED.search(said):
            raise PermissionError(said) from error
        unreached = error.statement is None and type(error.orig).__module__ != "sqlite3"  # whose files do not come back
        if error.connection_invalidated or (unreached and not _WRONG.search(said)) or _PASSES.search(said):
            raise ConnectionError(said) from error
        raise
    except ClientError as error:  # of Glue
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if status >= 500 or "Throttl" in str(error):
            raise ConnectionError(_brief(error)) from error
        raise PermissionError(_brief(error)) from error
    except BotoCoreError as error:
        raise ConnectionError(_brief(error)) from error
    except (*refused, exceptions.OAuthError) as error:
        raise PermissionError(_brief(error)) from error
    except busy as error:
        raise ConnectionError(_brief(error)) from error
    except exceptions.CommitStateUnknownException:
        raise
    except exceptions.RESTError as error:
        raise OSError(errno.EINVAL, _brief(error)) from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
