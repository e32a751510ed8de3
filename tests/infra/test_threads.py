"""A generator with threads may be closed where a lock of Python's own threads is held."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import swath

CLOSED_BY_THE_COLLECTOR = """
import threading
from concurrent.futures import ThreadPoolExecutor
from swath.infra.threads import Threads

def answers(pool):
    with pool:
        for one in [pool.submit(int, "1"), pool.submit(int, "2")]:
            yield one.result()

reading = answers({pool}(2))
print(next(reading), flush=True)
with threading._shutdown_locks_lock:  # as when the collector runs in threading._maintain_shutdown_locks
    del reading
print("closed", flush=True)
"""


def closed(pool: str) -> str:
    command = [sys.executable, "-c", CLOSED_BY_THE_COLLECTOR.format(pool=pool)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode()


def test_a_generator_that_is_left_does_not_wait_for_its_threads() -> None:
    assert closed("Threads").split() == ["1", "closed"]


def test_a_pool_of_pythons_own_would_wait_for_ever() -> None:
    assert closed("ThreadPoolExecutor").split() == ["1"]


def test_an_error_drops_what_has_not_begun_and_waits_for_the_rest() -> None:
    code = """
import time
from swath.infra.threads import Threads
done = []
try:
    with Threads(1) as pool:
        pool.submit(lambda: (time.sleep(0.3), done.append(1)))
        pool.submit(done.append, 2)
        time.sleep(0.1)
        raise KeyError
except KeyError:
    print(done)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[1]\n"


def test_no_generator_has_a_pool_that_is_joined_when_it_is_closed() -> None:
    wrong = []
    for top in swath.__path__:
        for path in Path(top).glob("*/**/*.py"):
            for function in ast.walk(ast.parse(path.read_text())):
                if isinstance(function, ast.FunctionDef):
                    inside = list(ast.walk(function))
                    withs = [ast.unparse(one.items[0]) for one in inside if isinstance(one, ast.With)]
                    if any(isinstance(one, (ast.Yield, ast.YieldFrom)) for one in inside):
                        wrong += [f"{path}: {one}" for one in withs if one.startswith("ThreadPoolExecutor")]
    assert wrong == []
