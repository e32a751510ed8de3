"""A lock object with a lease: two drivers of one run are kept apart, a dead one blocks nobody."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from swath.infra import storage
from swath.schemas.errors import RunLocked, StorageUnavailable


class Lease:
    """Context manager: holds the lock object `uri` and renews it in a thread, every third of `ttl_s` seconds.

    A lock is taken over where it has expired, or where its owner was a process of this machine that is dead. The
    clocks of the machines may differ by a fraction of `ttl_s`. Raises RunLocked where somebody else holds it.
    """

    def __init__(self, uri: str, owner: str, ttl_s: float = 30) -> None:
        self.uri = uri
        self.owner = owner
        self.ttl_s = ttl_s
        self._token = uuid.uuid4().hex
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._etag: str | None = None
        self._until = 0.0
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._renew, name=f"lease {uri}", daemon=True)

    def held(self) -> bool:
        """Whether the lock is still ours; False once somebody took it or it could not be renewed in time."""
        return time.monotonic() < self._until

    def regain(self) -> bool:
        """Whether the lock is ours, also after it could not be renewed for a while: unless somebody took it then."""
        with self._turn:
            return self.held() or self._renewed()

    def __enter__(self) -> Lease:
        for _ in range(3):  # lost a race: look again at who won
            started = time.monotonic()
            if storage.create(self.uri, self._content()) or self._take_over():
                if not self._keep(started):
                    continue
                self._thread.start()
                return self
        raise RunLocked(f"{self.uri} is being fought over; try again")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(timeout=self.ttl_s)
        try:
            # the conditional write proves that it is still ours, and gives the time to delete it
            if self.held() and self._etag and storage.replace_if(self.uri, self._content(), self._etag):
                storage.delete(self.uri)
        except (OSError, StorageUnavailable):
            pass  # it expires by itself
        self._until = 0.0

    def _content(self) -> bytes:
        return json.dumps({
            "owner": self.owner, "host": socket.gethostname(), "pid": os.getpid(), "since": self._since,
            "machine": _machine(), "started": _started(os.getpid()), "token": self._token,
            "expires": time.time() + self.ttl_s,
        }).encode()  # fmt: skip

    def _take_over(self) -> bool:
        """Replaces a lock that nobody holds any more. Raises RunLocked where somebody does."""
        tag = storage.etag(self.uri)  # before the content: what is renewed in between has another tag
        try:
            lock = _parse(storage.read(self.uri))
        except FileNotFoundError:
            return False
        if lock["token"] == self._token:  # written, but the answer was lost
            return True
        if lock["expires"] > time.time() and not _is_dead(lock):
            raise RunLocked(
                f"run {lock['owner']} is being driven by process {lock['pid']} on {lock['host']} "
                f"since {lock['since']}; wait for it, or end it"
            )
        return tag is not None and storage.replace_if(self.uri, self._content(), tag)

    def _keep(self, started: float) -> bool:
        """Notes the version that is ours; False where somebody else's stands there by now."""
        tag = storage.etag(self.uri)  # before the content, as above
        try:
            ours = bool(_parse(storage.read(self.uri))["token"] == self._token)
        except FileNotFoundError:
            ours = False
        self._etag, self._until = (tag, started + self.ttl_s) if ours else (None, 0.0)
        return ours

    def _renewed(self) -> bool:
        started = time.monotonic()
        if self._etag:
            storage.replace_if(self.uri, self._content(), self._etag)
        return self._keep(started)  # what stands there tells, where the answer was lost

    def _renew(self) -> None:
        while not self._stop.wait(self.ttl_s / 3):
            try:
                with self._turn:
                    if not self._renewed():
                        return
            except (OSError, StorageUnavailable):
                continue  # until it expires


def _parse(content: bytes) -> dict[str, Any]:
    """The fields of a lock object; one that cannot be read has expired."""
    unknown = {
        "owner": "?",
        "host": "?",
        "pid": 0,
        "since": "?",
        "machine": None,
        "started": 0,
        "token": "",
        "expires": 0,
    }
    try:
        found = json.loads(content)
    except ValueError:
        return unknown
    return {**unknown, **found} if isinstance(found, dict) else unknown


def _is_dead(lock: dict[str, Any]) -> bool:
    """Whether its owner was a process that this machine would see, and does not. A process id is used again, a start
    time is not."""
    machine = _machine()
    return machine is not None and lock["machine"] == machine and _started(lock["pid"]) != lock["started"]


def _started(pid: int) -> int:
    """When the process started, in the kernel's ticks since the boot, which no clock that is set can move; 0 where
    there is none or only its corpse."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if state in (b"Z", b"X") else int(fields[18])


def _machine() -> str | None:
    """This boot and this process-id namespace (a container has its own); None where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + ":" + os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
