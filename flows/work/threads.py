"""One policy for every library in a process that brings threads of its own."""

from __future__ import annotations

import os


def limit_threads(threads: int) -> None:
    """Lets OpenCV, BLAS, OpenMP and Tesseract use so many; early, most look only once."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["OMP_THREAD_LIMIT"] = str(threads)  # Tesseract: 6 times slower where several fight for the cores
    import cv2

    cv2.setNumThreads(threads)
