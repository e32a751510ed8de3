"""What the C library does with the memory that arrays give back."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""The parameters' numbers in glibc's malloc.h."""
OWN_BYTES = 32 << 20
"""From which size on memory comes from the system, and goes back there, each time: the largest that glibc takes."""
SPARE_BYTES = 256 << 20
"""What may lie free in the process before some goes back."""


def keep_freed_memory() -> None:
    """Keeps what is freed for the next array, in this process from now on; does nothing where there is no glibc.

    glibc gives a freed array back and gets the next one page by page, each zeroed by the kernel: steps over windows of
    a raster took twice as long in the statistics of an index. See mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, OWN_BYTES)
        mallopt(_TRIM_THRESHOLD, SPARE_BYTES)
