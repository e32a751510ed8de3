"""Who may scrape: anybody on this machine, nobody else without TLS and a token."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge
from tests.certificates import Certificate, certificate
from typer.testing import CliRunner

from swath.flows.cli import app
from swath.flows.run import exporter
from swath.schemas.errors import ConfigurationError

TOKEN = "a-token-of-twenty-six-bytes"
GOOD = f"Bearer {TOKEN}"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"), "metrics", "127.0.0.1")


@contextmanager
def serving(host: str, certificate: Certificate | None, token: str | None = TOKEN) -> Iterator[int]:
    registry = CollectorRegistry()
    Gauge("answer", "to everything", registry=registry).set(42)
    files = (certificate.certificate, certificate.key) if certificate else ()
    server, thread = exporter.serve(registry, 0, host, token, *files)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def scrape(url: str, bearer: str = "", trusted: Path | None = None) -> str:
    request = urllib.request.Request(url, headers={"Authorization": bearer} if bearer else {})
    context = ssl.create_default_context(cafile=trusted)
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        text: str = answer.read().decode()
    return text


def test_beyond_loopback_it_takes_tls_and_the_token(own: Certificate) -> None:
    with serving("0.0.0.0", own) as port:
        url = f"https://127.0.0.1:{port}/metrics"
        assert "answer 42" in scrape(url, GOOD, own.authority)
        for wrong in ("", "Bearer ", "Bearer another", TOKEN, GOOD + "x", "Basic dG9rZW4="):
            with pytest.raises(urllib.error.HTTPError, match="401") as refused:
                scrape(url, wrong, own.authority)
            assert refused.value.read() == b""
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            scrape(url, GOOD)
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            scrape(url.replace("https", "http"), GOOD)


def test_a_client_that_says_nothing_keeps_no_other_waiting(own: Certificate) -> None:
    with serving("127.0.0.1", own) as port, socket.create_connection(("127.0.0.1", port)):
        assert "answer 42" in scrape(f"https://127.0.0.1:{port}/", GOOD, own.authority)


@pytest.mark.parametrize(("with_tls", "token"), [(False, None), (False, TOKEN), (True, None)])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_beyond_loopback_nothing_less_is_served(own: Certificate, host: str, with_tls: bool, token: str | None) -> None:
    with (
        pytest.raises(ConfigurationError, match="can be reached by others: give --tls-cert"),
        serving(host, own if with_tls else None, token),
    ):
        pass


def test_on_loopback_a_token_is_optional() -> None:
    with serving("localhost", None, None) as port:
        assert "answer 42" in scrape(f"http://localhost:{port}/")
    with serving("127.0.0.1", None) as port, pytest.raises(urllib.error.HTTPError, match="401"):
        scrape(f"http://127.0.0.1:{port}/")


def test_the_command_refuses_what_others_could_read(
    own: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SWATH_METRICS_TOKEN", raising=False)
    command = ["metrics", "--serve", "0", "--warehouse", str(tmp_path)]
    beyond = [*command, "--host", "0.0.0.0"]

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, ConfigurationError)
        return str(result.exception)

    assert "SWATH_METRICS_TOKEN" in told(*beyond)
    assert "SWATH_METRICS_TOKEN" in told(*beyond, "--tls-cert", str(own.certificate), "--tls-key", str(own.key))
    assert "belong together" in told(*command, "--tls-key", str(own.key))
    assert "no certificate and its key" in told(*command, "--tls-cert", str(own.key), "--tls-key", str(own.certificate))
    monkeypatch.setenv("SWATH_METRICS_TOKEN", "short")
    assert "metrics_token" in told(*beyond)
