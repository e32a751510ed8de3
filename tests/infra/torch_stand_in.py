"""Wheels in the place of PyTorch's own without CUDA, for machines that cannot reach its index: their names, versions
and requirements, and nothing to compute with."""

from __future__ import annotations

import base64
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import requires
from pathlib import Path
from urllib.request import urlopen

from tests.infra.clean_root import TOP, instructions

INDEX = next(one["value"].partition("=")[2] for one in instructions() if one["value"].startswith("TORCH_CPU_INDEX="))
NAMES = ("torch", "torchvision")
OF_CUDA = ("cuda", "nvidia", "triton")


def reached() -> bool:
    """Whether PyTorch's own index answers here."""
    try:
        return int(urlopen(f"{INDEX}/torch/", timeout=10).status) == 200
    except OSError:
        return False


def wheel(folder: Path, name: str, version: str) -> None:
    """Requires what the installed one does, but for CUDA."""
    wanted = [one for one in requires(name) or () if not one.startswith(OF_CUDA)]
    metadata = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in wanted)]
    files = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n",
        f"{name}-{version}.dist-info/METADATA": "\n".join(["Metadata-Version: 2.1", *metadata, ""]),
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-{version}.dist-info/RECORD"
    lines = [f"{path},sha256={digest(text)},{len(text.encode())}" for path, text in files.items()]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as made:
        for path, text in {**files, record: "\n".join([*lines, f"{record},,", ""])}.items():
            made.writestr(path, text)


def digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def index(folder: Path) -> Iterator[str]:
    """Both, in the versions that are pinned, as an index; its URL."""
    pinned = dict(line.split("==") for line in (TOP / "constraints.txt").read_text().split())
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        wheel(folder / name, name, f"{pinned[name]}+cpu")
    serve = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
