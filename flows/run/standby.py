"""What a run needs and what takes seconds to start, started side by side and without waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from swath.flows.audit.worker import AuditClient
from swath.flows.work import engine
from swath.flows.work.place import without_ray


class Standby:
    """An audit worker, and Ray where there is work for it."""

    def __init__(self, address: str, audit_socket: Path | None, most: Callable[[], int]) -> None:
        """`most` tells how many items the largest wave may have; it is asked in a thread, and may take its time."""
        self._address, self._socket, self._most = address, audit_socket, most
        self._audit: AuditClient | None = None
        self._ray: _Background | None = None

    def open(self) -> None:
        self.audit()
        if self._ray is None and self._address != "off":
            self._ray = _Background(
                lambda: not without_ray(self._address, self._most()) and engine.start(self._address)
            )

    def audit(self) -> AuditClient:
        if self._audit is None:
            self._audit = AuditClient.start(self._socket)
        return self._audit

    def join_ray(self) -> None:
        """Returns when Ray is there. Raises ConfigurationError where it cannot be reached."""
        self.open()
        assert self._ray is not None
        if not self._ray.result():  # not started for want of items, or by somebody else
            self._ray.release()
            self._ray = _Background(lambda: engine.start(self._address))
            self._ray.result()

    def close(self) -> None:
        if self._ray is not None:
            if self._ray.end():
                engine.stop()
            self._ray.release()
        if self._audit is not None:
            self._audit.close()


class _Background:
    """An action in a thread that stays until `release`: Linux ends Ray's processes with the thread that started
    them."""

    def __init__(self, action: Callable[[], bool]) -> None:
        self._error: BaseException | None = None
        self._value = False
        self._done, self._over = threading.Event(), threading.Event()
        threading.Thread(target=self._run, args=(action,), daemon=True).start()

    def _run(self, action: Callable[[], bool]) -> None:
        try:
            self._value = action()
        except BaseException as error:
            self._error = error
        self._done.set()
        self._over.wait()

    def result(self) -> bool:
        """Waits for the action; its value, or what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def end(self) -> bool:
        """Waits for the action; its value, False where it raised."""
        self._done.wait()
        return self._value

    def release(self) -> None:
        self._over.set()
