"""Memory that arrays give back stays with the process."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest

LOOP = """
import resource, sys
import numpy as np
from swath.flows.work.heap import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()

def pages(size):
    def work():
        plane = np.ones(size, np.float32)
        return (plane * 2 + 1).sum()
    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(max(pages(size << 18) for size in (1, 4, 12)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how another C library keeps memory is its own matter")
def test_an_array_as_large_as_the_last_one_asks_the_system_for_nothing() -> None:
    asked = {
        how: int(subprocess.run([sys.executable, "-c", LOOP, how], capture_output=True, check=True).stdout)
        for how in ("kept", "as it is")
    }
    assert asked["kept"] < 100 < 20 * (1 << 20) // resource.getpagesize() // 2 < asked["as it is"]
