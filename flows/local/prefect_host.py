"""A Prefect server in a process of its own: `python -m swath.flows.local.prefect_host --port N [--parent PID]`.

Beside what `prefect server start` does: databases are made by one process at a time, and with a parent it serves that
one run only (no UI, no scheduler) and ends when the run's process does, however that ends.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import threading
import time
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"


def serve(port: int, parent: int | None = None) -> None:
    """Answers on the loopback address until it is told to end, or its parent is gone."""
    watched = psutil.Process(parent) if parent else None
    _make_database()
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(final=True, ephemeral=parent is not None)
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="warning"))
    if watched is not None:
        threading.Thread(target=_end_with, args=(watched, server), daemon=True).start()
    server.run()


def _make_database() -> None:
    """Two servers that start at once would both make the tables, and one would fail."""
    from prefect.server.database import provide_database_interface

    home = Path(os.environ["PREFECT_HOME"])
    with (home / "database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asyncio.run(provide_database_interface().create_db())


def _end_with(watched: psutil.Process, server: object) -> None:
    while watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.5)
    server.should_exit = True  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m swath.flows.local.prefect_host")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parent", type=int, help="process whose end ends this one")
    options = parser.parse_args()
    serve(options.port, options.parent)


if __name__ == "__main__":
    main()
