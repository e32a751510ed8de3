"""Prometheus and its tool: of the system, or as `make setup` has unpacked them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

UNPACKED = Path(__file__).parents[1] / ".venv" / "prometheus" / "usr" / "bin"


def _found(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], str(UNPACKED)]))


PROMTOOL, PROMETHEUS = _found("promtool"), _found("prometheus")
MISSING = "Prometheus is not there; `make setup` unpacks it where there is apt-get"


class Prometheus:
    """A server that scrapes targets of this machine, by job."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **query: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def until(self, path: str, holds: Callable[[Any], Any], seconds: float, **query: str) -> Any:
        """What it answers when that holds at last."""
        deadline = time.monotonic() + seconds
        while not holds(found := self.ask(path, **query)):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found


@contextmanager
def prometheus(
    folder: Path, jobs: dict[str, str], rules: Path | None = None, every: str = "1s"
) -> Iterator[Prometheus]:
    """A Prometheus of its own on a free port of loopback; `jobs` are targets by job."""
    assert PROMETHEUS
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scraped = [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in jobs.items()]
    config = folder / "prometheus.json"  # which is YAML
    config.write_text(json.dumps({
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": [str(rules)] if rules else [], "scrape_configs": scraped,
    }))  # fmt: skip
    data, listen = f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen([PROMETHEUS, f"--config.file={config}", data, listen], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1)
                break
            except OSError:
                assert time.monotonic() < deadline, (folder / "prometheus.log").read_text()
                time.sleep(0.1)
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(20)
