"""A TCP proxy before an S3 server, which makes its weather: busy, slow, cutting, silent or gone."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

Weather = Literal["fair", "busy", "slow", "cutting", "silent", "gone"]
BUSY = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: 97\r\n\r\n"
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"
).replace(b"Content-Length: 97", b"Content-Length: 93")
CHUNK = 1 << 16


class Proxy:
    """Context manager: listens on a port of `host` and hands on to `target`, as the weather allows.

    busy: two of three connections are answered 503 SlowDown; slow: every piece waits 20 to 200 ms; cutting: a
    connection ends after up to 30 kB (`cut`); silent: it is taken and never answered; gone: it is refused with a reset.
    """

    def __init__(self, target: str, seed: int = 0, host: str = "127.0.0.1") -> None:
        address = urlsplit(target)
        self._target = (address.hostname or "127.0.0.1", address.port or 80)
        self._random = random.Random(seed)
        self._weather: Weather = "fair"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((host, 0), backlog=256)
        self.endpoint = f"http://{host}:{self._listener.getsockname()[1]}"
        self.cut: Callable[[], int] = lambda: self._random.randrange(30_000)
        """Bytes, both ways together, after which the next connection ends where the weather is `cutting`."""
        self.spoiled = 0
        """Connections that met bad weather."""

    @property
    def weather(self) -> Weather:
        return self._weather

    @weather.setter
    def weather(self, now: Weather) -> None:
        """It breaks on what is under way, too: open connections end, so that all clients connect anew."""
        self._weather = now
        if now != "slow":
            with self._lock:
                for one in self._open:
                    with suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()
        self.weather = "gone"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        weather, left = self._weather, 1 << 62
        self.spoiled += weather != "fair"
        if weather == "gone":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end
            client.close()
            return
        if weather == "silent":
            with self._lock:
                self._open.add(client)
            return
        if weather == "busy" and self._random.random() < 2 / 3:
            with suppress(OSError), client:
                client.recv(CHUNK)
                client.sendall(BUSY)
            return
        if weather == "cutting":
            left = self.cut()
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        budget = [left]
        with self._lock:
            self._open |= {client, server}
        there = threading.Thread(target=self._pump, args=(client, server, budget), daemon=True)
        there.start()
        self._pump(server, client, budget)
        there.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, budget: list[int]) -> None:
        """Bytes one way, until either side ends or the budget of the connection is spent."""
        with suppress(OSError):
            while content := source.recv(CHUNK):
                if self._weather == "slow":
                    time.sleep(self._random.uniform(0.02, 0.2))
                sink.sendall(content[: max(0, budget[0])])
                budget[0] -= len(content)
                if budget[0] <= 0:
                    break
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
