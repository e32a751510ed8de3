"""Azure Blob Storage by Azurite, Microsoft's own emulator: an npm package, which `make setup` installs beside .venv."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

from tests.servers.process import Server, free_port, listens, start

PROGRAM = Path(sys.prefix) / "node" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


class Azurite(Server):
    """Context manager: a server with one account, whose key is drawn anew, that keeps its blobs in `directory`."""

    account = "swathtest"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.key = base64.b64encode(os.urandom(64)).decode()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.account}"

    def environment(self) -> dict[str, str]:
        """The variables with which Azure's users name an account."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": self.account,
            "AZURE_STORAGE_ACCOUNT_KEY": self.key,
            "AZURE_STORAGE_ENDPOINT": self.endpoint,
        }

    def create_bucket(self, name: str) -> str:
        """Makes a container, and returns its URI."""
        from azure.storage.blob import BlobServiceClient

        credential = {"account_name": self.account, "account_key": self.key}
        BlobServiceClient(self.endpoint, credential=credential).create_container(name)
        return f"az://{name}"

    def start(self) -> None:
        command = ["node", str(PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        options = ["--location", str(self.directory), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        accounts = {"AZURITE_ACCOUNTS": f"{self.account}:{self.key}"}
        log = self.directory / "azurite.log"
        self._process = start([*command, *options], lambda: listens(self.port), log, env=os.environ | accounts)
