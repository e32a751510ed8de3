"""What is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from swath.infra import storage
from swath.infra.catalog import told
from swath.infra.lake import Lake
from swath.infra.settings import settings
from swath.schemas.errors import SwathError

PACKAGES = (
    *("ray", "prefect", "great_expectations", "pyiceberg", "duckdb", "pyarrow", "torch", "torchvision"),
    *("opencv-python-headless", "onnxruntime", "rapidocr", "s3fs", "obstore", "psycopg"),
)
FREE_GIB = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    name: str
    found: bool
    detail: str
    remedy: str = ""
    required: bool = True


def examine() -> list[Finding]:
    """Everything Swath needs or can use on this machine."""
    return [
        *map(_package, PACKAGES),
        _packages_once(),
        _ocr(),
        _tessdata(),
        _gpu(),
        _home(),
        _warehouse(),
        _catalog(),
        _shared_memory(),
        _disk(),
    ]


def print_findings(console: Console, findings: list[Finding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mark = "[green]✓[/]" if finding.found else "[red]✗[/]" if finding.required else "[yellow]–[/]"
        remedy = f"  [dim]{finding.remedy}[/]" if finding.remedy and not finding.found else ""
        table.add_row(mark, finding.name, finding.detail + remedy)
    console.print(table)


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        return Finding(name, False, "not installed", f"pip install {name}")


def _packages_once() -> Finding:
    """Two builds of OpenCV overwrite each other's files."""
    variants = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    there = [name for name in variants if _package(name).found]
    remedy = f"pip uninstall {' '.join(there)}, then pip install opencv-python-headless"
    return Finding("one OpenCV", len(there) == 1, ", ".join(there), remedy)


def _ocr() -> Finding:
    from swath.operators.documents.ocr import available_engines

    engines = available_engines("eng")
    remedy = "pip install rapidocr, or install tesseract-ocr and tesseract-ocr-eng"
    return Finding("OCR engine", bool(engines), ", ".join(engines) or "none", remedy)


def _tessdata() -> Finding:
    from swath.operators.documents.ocr import tessdata_dir

    folder = tessdata_dir("eng")
    remedy = "apt-get install tesseract-ocr-eng (RapidOCR reads meanwhile, several times slower)"
    return Finding("tessdata 'eng'", folder is not None, str(folder or "not found"), remedy, required=False)


def _gpu() -> Finding:
    found = shutil.which("nvidia-smi") is not None and any(Path("/dev").glob("nvidia[0-9]*"))
    return Finding("GPU", found, "NVIDIA" if found else "none; everything runs on the CPU", required=False)


def _home() -> Finding:
    home = settings().home_path()
    parent = next(folder for folder in (home, *home.parents) if folder.exists())
    return Finding("state folder", os.access(parent, os.W_OK), str(home), "set SWATH_HOME to a folder you may write to")


def _warehouse() -> Finding:
    """Whether it can be written to; a local one is made by the first run."""
    uri = storage.normalize(settings().warehouse)
    if storage.is_local(uri):
        folder = storage.local_path(uri)
        there = next(one for one in (folder, *folder.parents) if one.exists())
        return Finding("warehouse", os.access(there, os.W_OK), uri, "set SWATH_WAREHOUSE to a place you may write to")
    try:
        storage.check_writable(uri)
    except SwathError as error:
        return Finding("warehouse", False, str(error))
    return Finding("warehouse", True, f"{uri} can be written")


def _catalog() -> Finding:
    """What SWATH_CATALOG names, and whether it answers."""
    if not settings().catalog:
        return Finding("catalog", True, "SQLite, a file for each warehouse")
    try:
        tables = Lake(settings().warehouse).tables()
    except SwathError as error:
        return Finding("catalog", False, str(error))
    return Finding("catalog", True, f"{told(settings().catalog)} answers, with {len(tables)} tables")


def _shared_memory() -> Finding:
    if not Path("/dev/shm").exists():
        return Finding("shared memory", True, "no /dev/shm here; Ray uses files", required=False)
    free = shutil.disk_usage("/dev/shm").free / 2**30
    return Finding("shared memory", free > 0.5, f"{free:.1f} GiB", "give the container --shm-size=2g")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return Finding("disk here", free > FREE_GIB, f"{free:.0f} GiB free", f"free at least {FREE_GIB} GiB")
