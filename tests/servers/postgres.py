"""Postgres, from the system's packages, as it stands in production: TLS only, passwords by SCRAM, no default ones."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from tests.certificates import certificate
from tests.servers.process import Server, free_port, listens, start

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nowhere"))
ACCESS = "hostssl all all 127.0.0.1/32 scram-sha-256\n"


class Postgres(Server):
    """Context manager: a server on a free loopback port, in a temporary folder, as a user without rights."""

    user = "swath"

    def __init__(self) -> None:
        self.port = free_port()
        self.password = secrets.token_urlsafe(16)
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:  # as which Postgres does not run
            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def environment(self) -> dict[str, str]:
        """What libpq asks for beside the URI: the password, and the authority that must have signed the server."""
        authority = str(self.folder / "ca.crt")
        return {"PGPASSWORD": self.password, "PGSSLMODE": "verify-full", "PGSSLROOTCERT": authority}

    def uri(self, database: str, driver: str = "postgresql+psycopg") -> str:
        return f"{driver}://{self.user}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Makes a database, and returns the URI of SQLAlchemy, which holds no password."""
        self.execute("postgres", f'CREATE DATABASE "{name}"')
        return self.uri(name)

    def connect(self, database: str) -> psycopg.Connection[Any]:
        parts = {"host": "127.0.0.1", "port": str(self.port), "user": self.user, "password": self.password}
        options = {"sslmode": "verify-full", "sslrootcert": str(self.folder / "ca.crt")}
        return psycopg.connect(psycopg.conninfo.make_conninfo(dbname=database, **parts, **options), autocommit=True)

    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        with self.connect(database) as connection:
            answer = connection.execute(statement.encode())
            return answer.fetchall() if answer.description else []

    def start(self) -> None:
        if not (self.folder / "data").exists():
            self._make()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "ssl": "on",
            "ssl_cert_file": self.folder / "postgres.crt",
            "ssl_key_file": self.folder / "postgres.key",
            "hba_file": self.folder / "hba.conf",
        }
        command = [str(BINARIES / "postgres"), "-D", str(self.folder / "data")]
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._process = start([*command, *options], self._answers, self.folder / "log", cwd="/", **self._as)

    def _make(self) -> None:
        certificate(self.folder, "postgres", "127.0.0.1")
        (self.folder / "hba.conf").write_text(ACCESS)
        secret = self.folder / "secret"
        secret.write_text(self.password)
        if self._as:
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, self._as["user"], self._as["group"])
        command = [BINARIES / "initdb", "-D", self.folder / "data", "-U", self.user, "--auth=scram-sha-256"]
        options = ["--pwfile", secret, "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([*command, *options], check=True, capture_output=True, cwd="/", **self._as)
        secret.unlink()

    def _answers(self) -> bool:
        try:
            return listens(self.port) and bool(self.execute("postgres", "SELECT 1"))
        except psycopg.OperationalError:
            return False

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)
