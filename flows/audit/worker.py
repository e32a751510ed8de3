"""A process of its own for the audit, because importing Great Expectations costs seconds.

`python -m swath.flows.audit.worker --socket PATH [--parent PID]` answers JSON lines on a Unix socket, one audit at a
time. A run starts one at its beginning, so that the import overlaps with everything else; `swath up` keeps one warm.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import socket as sockets
import socketserver
import stat
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from swath.infra.scratch import Scratch
from swath.infra.settings import PREFIXES
from swath.schemas import errors
from swath.schemas.checks import AuditReport, AuditRequest
from swath.schemas.errors import ConfigurationError, RunFailed, SwathError

OPTIONS = {"SWATH_WAREHOUSE", "SWATH_RAY", "SWATH_DEBUG", "SWATH_METRICS_TOKEN"}
"""Variables that stand for options of a command; no worker reads them."""
START_S = 120
"""How long a worker may take until its socket is there."""
ANSWER_S = 1800
"""How long a worker may take to judge a wave, and those that were asked for before; one that hangs is left."""
HELLO_S = 5
"""How long a warm worker may take to say who it is; it does so beside an audit, too."""
STOP_S = 5
LONGEST_PATH = 103
"""Bytes that every system allows in the path of a Unix socket."""


def environment_digest() -> str:
    """What a worker must share with its client to read the same stores: version of swath, settings, credentials."""
    names = sorted(name for name in os.environ if name.startswith(PREFIXES) and name not in OPTIONS)
    told = json.dumps([version("swath"), sys.prefix, {name: os.environ[name] for name in names}])
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


class AuditClient:
    """A connection to an audit worker, which is its own unless a warm one was found."""

    def __init__(self, socket: Path | None) -> None:
        self._warm = socket
        self._scratch = Scratch("audit")
        self._folder = self._scratch.path
        self._process: subprocess.Popen[bytes] | None = None
        if socket is None:
            self._spawn()

    @classmethod
    def start(cls, socket: Path | None = None) -> AuditClient:
        """Finds the warm worker at `socket`, if one with this environment answers; else starts one, without waiting."""
        return cls(socket if socket is not None and _answers(socket) else None)

    @property
    def pid(self) -> int | None:
        """The worker that this client started; None where it uses a warm one."""
        return self._process.pid if self._process else None

    @property
    def socket(self) -> Path:
        return self._warm or self._folder / "audit.sock"

    def audit(self, request: AuditRequest) -> AuditReport:
        """Has the wave judged. Raises what the audit raised, and RunFailed where two workers died of it or hung."""
        asked = {"audit": request.model_dump(mode="json")}
        try:
            answer = self._ask(asked)
        except (OSError, EOFError):
            self._stop()
            self._warm = None
            self._spawn()
            try:
                answer = self._ask(asked)
            except (OSError, EOFError) as error:
                raise RunFailed(f"the audit worker died or hung twice; its last words: {self._last_words()}") from error
        if "error" in answer:
            kind = getattr(errors, answer["error"], SwathError)
            raise kind(answer["text"])
        return AuditReport.from_json(json.dumps(answer["report"]))

    def close(self) -> None:
        """Ends the worker that this client started; a warm one stays."""
        self._stop()
        self._scratch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _spawn(self) -> None:
        command = [sys.executable, "-P", "-m", "swath.flows.audit.worker"]
        command += ["--socket", str(self.socket), "--parent", str(os.getpid())]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the run, which then closes its worker
                env=os.environ | {"TMPDIR": str(self._folder)},  # what a killed worker spilled goes with the folder
            )

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(STOP_S)
        self._process = None

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + START_S
        while True:
            with sockets.socket(sockets.AF_UNIX) as connection:
                try:
                    connection.connect(str(self.socket))
                except OSError:
                    dead = self._process is None or self._process.poll() is not None
                    if dead or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
                    continue
                connection.settimeout(ANSWER_S)
                return _exchange(connection, message)

    def _last_words(self) -> str:
        lines = (self._folder / "log").read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "none")


def _answers(socket: Path) -> bool:
    with sockets.socket(sockets.AF_UNIX) as connection:
        connection.settimeout(HELLO_S)
        try:
            connection.connect(str(socket))
            return bool(_exchange(connection, {"hello": None}).get("environment") == environment_digest())
        except (OSError, EOFError, ValueError):
            return False


def _exchange(connection: sockets.socket, message: dict[str, Any]) -> dict[str, Any]:
    """One JSON line there, one back; EOFError where the other side is gone."""
    with connection.makefile("rwb") as stream:
        stream.write(json.dumps(message).encode() + b"\n")
        stream.flush()
        line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError("the audit worker closed the connection")
    answer: dict[str, Any] = json.loads(line)
    return answer


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    warm = threading.Event()
    one_at_a_time = threading.Lock()


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        message = json.loads(self.rfile.readline())
        if "hello" in message:
            answer: dict[str, Any] = {"environment": environment_digest(), "pid": os.getpid()}
        else:
            self.server.warm.wait()
            with self.server.one_at_a_time:
                answer = _audited(message["audit"])
        with contextlib.suppress(BrokenPipeError):  # the client is gone; nobody wants the answer
            self.wfile.write(json.dumps(answer).encode() + b"\n")


def _audited(request: dict[str, Any]) -> dict[str, Any]:
    from swath.flows.audit.gate import audit

    try:
        return {"report": json.loads(audit(AuditRequest.model_validate(request)).to_json())}
    except SwathError as error:
        return {"error": type(error).__name__, "text": str(error)}
    except Exception as error:
        return {"error": "SwathError", "text": f"the audit could not be done: {type(error).__name__}: {error}"}


def serve(socket: Path, parent: int | None = None) -> None:
    """Answers on the socket until the parent, or this process, is ended. Raises ConfigurationError for a folder
    that others may enter, and where another worker is serving there."""
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = socket.parent.stat()
    if folder.st_uid != os.getuid() or stat.S_IMODE(folder.st_mode) & 0o077:
        raise ConfigurationError(f"{socket.parent} must be yours alone (mode 0700) to hold the audit worker's socket")
    if len(os.fsencode(socket)) > LONGEST_PATH:
        raise ConfigurationError(f"{socket} is too long a name for a socket; choose a shorter one, or a shorter TMPDIR")
    watched = psutil.Process(parent) if parent else None
    with sockets.socket(sockets.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(socket))
        raise ConfigurationError(f"another audit worker is serving {socket}")
    socket.unlink(missing_ok=True)
    before = os.umask(0o177)
    server = _Server(str(socket), _Handler)
    os.umask(before)
    try:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        from swath.flows.audit.gate import warm_up

        warm_up()
        server.warm.set()
        while watched is None or (watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE):
            time.sleep(0.5)
    finally:
        socket.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m swath.flows.audit.worker")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen; its folder must have mode 0700")
    parser.add_argument("--parent", type=int, help="process whose end ends this one")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        serve(options.socket, options.parent)
    except (SwathError, psutil.NoSuchProcess) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
