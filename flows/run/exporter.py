"""The server that Prometheus scrapes: plain on loopback, with TLS and a token wherever others could reach it."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from swath.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PATIENCE_S = 30
"""How long a client may take to say what it wants; one that never does holds a thread, not the server."""


def serve(
    registry: CollectorRegistry,
    port: int,
    host: str,
    token: str | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> tuple[WSGIServer, Thread]:
    """Answers scrapes in a thread; port 0 takes any. A token is asked for as `Authorization: Bearer TOKEN`.

    Raises ConfigurationError for a host beyond loopback without all three of token, certificate and key, and for files
    that are none; OSError where the port is taken.
    """
    from prometheus_client import make_wsgi_app
    from prometheus_client.exposition import ThreadingWSGIServer

    family, *_, (address, *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    if not (ipaddress.ip_address(address).is_loopback or (token and certificate and key)):
        raise ConfigurationError(
            f"{host} can be reached by others: give --tls-cert and --tls-key, and a token in SWATH_METRICS_TOKEN"
        )
    tls = _tls(certificate, key) if certificate or key else None

    class Server(ThreadingWSGIServer):
        address_family = family

        def get_request(self) -> tuple[Any, Any]:
            connection, client = super().get_request()
            connection.settimeout(PATIENCE_S)
            # The handshake waits for the first read, which is in the client's own thread.
            shaken = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) if tls else connection
            return shaken, client

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that breaks off, or speaks no TLS, is no news."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """A scrape every few seconds is no news either."""

    app = make_wsgi_app(registry)
    server = make_server(str(address), port, guarded(app, token) if token else app, Server, Quiet)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return server, thread


def guarded(app: Callable[..., Iterable[bytes]], token: str) -> Callable[..., Iterable[bytes]]:
    """The WSGI application for those who know the token; 401 for all others."""
    expected = f"Bearer {token}".encode()

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if secrets.compare_digest(environ.get("HTTP_AUTHORIZATION", "").encode("latin-1"), expected):
            return app(environ, start_response)
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer")])
        return [b""]

    return application


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    if not (certificate and key):
        raise ConfigurationError("--tls-cert and --tls-key belong together: give both")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConfigurationError(f"{certificate} and {key} are no certificate and its key: {error}") from None
    return context
