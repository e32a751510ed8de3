"""Tokens that a user's own servers ask for, so that nobody else on the machine is let in."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from swath.infra.settings import settings
from swath.schemas.errors import ConfigurationError


def own_token(server: str) -> Path:
    """The file with the token, for this user alone; made when it is first asked for. Raises ConfigurationError where
    the state folder cannot be written."""
    path = settings().home_path() / f"{server}.token"
    if path.exists():
        return path
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(draft, path)  # whoever comes first makes it, and it is never seen empty
        draft.unlink()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}); set SWATH_HOME to a folder") from None
    return path
