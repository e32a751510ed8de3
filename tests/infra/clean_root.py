"""Runs what a Dockerfile says in clean roots, for machines on which no container engine can run.

    sudo .venv/bin/python -m tests.infra.clean_root WORK --build-arg ACCELERATOR=cuda build
    sudo .venv/bin/python -m tests.infra.clean_root WORK --read-only run swath doctor

The base image is stood in for by the Debian release it is made of (debootstrap) and that release's Python; every stage
is an overlay of its own over it, so that nothing is there but what the Dockerfile brings. The final stage's command
runs as the image's user, with its variables, and on a read-only root where asked. Needs root and Debian's debootstrap.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pathspec
from dockerfile_parse import DockerfileParser

TOP = Path(__file__).resolve().parents[2]
DOCKERFILE = TOP / "infra/docker/Dockerfile"
RELEASE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
STAND_IN = ("python3.11", "python3.11-venv")
"""Debian's packages for what the base image brings beyond the release itself."""
DOCKER_CLEAN = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
"""How Docker's images of Debian have apt keep nothing that it has fetched."""
OUTSIDE = ("PIP_CERT", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")
"""Variables that say how this machine reaches the registries."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """A root with what the instructions so far say of how commands run in it."""

    name: str
    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": SYSTEM_PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    layers: list[tuple[str, int]] = field(default_factory=list)
    """What each instruction has added, in bytes."""

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def inside(self, path: str) -> Path:
        """Where a path of this root is outside of it."""
        return self.root / os.path.normpath(os.path.join(self.workdir, path)).lstrip("/")

    def mount(self, base: Path, read_only: bool = False) -> None:
        for name in ("root", "upper", "work"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={base},upperdir={self.folder / 'upper'},workdir={self.folder / 'work'}"
        if read_only:
            options = f"lowerdir={self.folder / 'upper'}:{base}"
        sh("mount", "-t", "overlay", "overlay", "-o", options, str(self.root))
        for name in ("proc", "sys", "dev"):
            sh("mount", "--rbind", f"/{name}", str(self.root / name))
        if read_only:
            for place in ("tmp", "home/swath"):
                sh("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(self.root / place))

    def run(self, command: list[str], check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """A command in this root, as its user."""
        outside = {name: os.environ[name] for name in OUTSIDE if name in os.environ}
        home = {"HOME": "/root" if self.user.startswith("0") else "/home/swath"}
        before = ["chroot", f"--userspec={self.user}", "--groups=", str(self.root)]
        there = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', self.workdir, *command]
        environment = outside | home | self.arguments | self.environment
        return subprocess.run(
            ["env", "-i", *(f"{k}={v}" for k, v in environment.items()), *before, *there], check=check
        )


def sh(*command: str) -> None:
    subprocess.run(command, check=True)


def bootstrap(base: Path) -> None:
    """The stand-in for the base image; made once."""
    if (base / ".whole").exists():
        return
    shutil.rmtree(base, ignore_errors=True)
    sh("debootstrap", "--variant=minbase", "--include=ca-certificates", RELEASE, str(base), MIRROR)
    shutil.copy("/etc/resolv.conf", base / "etc/resolv.conf")
    shutil.rmtree(base / "etc/ssl/certs")
    sh("cp", "-aL", "/etc/ssl/certs", str(base / "etc/ssl/certs"))  # a registry may stand behind a private authority
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *STAND_IN]
    sh("chroot", str(base), "env", "DEBIAN_FRONTEND=noninteractive", *install)
    (base / "etc/apt/apt.conf.d/docker-clean").write_text(DOCKER_CLEAN)
    (base / ".whole").touch()


def context_files(dockerfile: Path = DOCKERFILE, top: Path = TOP) -> Iterator[Path]:
    """What a build is given of the tree: its `.dockerignore` is the one that lies beside the Dockerfile."""
    ignored = pathspec.PathSpec.from_lines("gitignore", Path(f"{dockerfile}.dockerignore").read_text().splitlines())
    kept = {path.strip("!/") for path in Path(f"{dockerfile}.dockerignore").read_text().splitlines() if path[:1] == "!"}
    for name in sorted(kept):
        entry = top / name
        found = [entry] if not entry.is_dir() else (path for path in entry.rglob("*"))
        for path in found:
            relative = path.relative_to(top)
            if (path.is_symlink() or path.is_file()) and not ignored.match_file(str(relative)):
                yield relative


def instructions(dockerfile: Path = DOCKERFILE) -> list[dict[str, Any]]:
    with dockerfile.open("rb") as file:
        return [one for one in DockerfileParser(fileobj=file).structure if one["instruction"] != "COMMENT"]


def build(work: Path, given: dict[str, str], reuse: tuple[str, ...] = ()) -> Stage:
    """Every stage, in order, but for those to `reuse` as an earlier build has left them; the last. Raises
    CalledProcessError where a command fails."""
    bootstrap(work / "base")
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for one in instructions():
        kind, value = one["instruction"], one["value"]
        if kind == "FROM":
            name = value.partition(" AS ")[2] or "final"
            stage = stages[name] = Stage(name, work / name)
            if name not in reuse:
                shutil.rmtree(stage.folder, ignore_errors=True)
            stage.mount(work / "base")
        elif kind == "ARG" and stage is not None:
            name, _, default = value.partition("=")
            stage.arguments[name] = given.get(name, default)
        elif stage is not None and stage.name not in reuse:
            print(f"--- {stage.name}: {kind} {value[:100]}", flush=True)
            before = size(stage.folder / "upper")
            carry_out(stage, kind, value, stages)
            stage.layers.append((" ".join(f"{kind} {value}".split())[:60], size(stage.folder / "upper") - before))
    assert stage is not None
    keep(stage)
    return stage


def carry_out(stage: Stage, kind: str, value: str, stages: dict[str, Stage]) -> None:
    if kind == "WORKDIR":
        stage.workdir = value
        stage.inside(".").mkdir(parents=True, exist_ok=True)
    elif kind == "USER":
        stage.user = value
    elif kind == "ENV":
        for pair in shlex.split(value):
            name, _, text = pair.partition("=")
            stage.environment[name] = re.sub(r"\$\{?(\w+)\}?", lambda m: stage.environment.get(m[1], ""), text)
    elif kind == "COPY":
        *sources, target = [word for word in value.split() if not word.startswith("--")]
        into = stage.inside(target)
        if origin := re.search(r"--from=(\w+)", value):
            into.mkdir(parents=True, exist_ok=True)
            sh("cp", "-a", f"{stages[origin[1]].inside(sources[0])}/.", str(into))
        else:
            copy_context(sources, into)
    elif kind == "RUN":
        mounts = re.findall(r"--mount=type=bind,from=(\w+),source=(\S+?),target=(\S+)", value)
        for origin, source, target in mounts:
            stage.inside(target).mkdir()
            sh("mount", "--bind", str(stages[origin].inside(source)), str(stage.inside(target)))
        stage.run(["/bin/sh", "-c", re.sub(r"--mount=\S+\s+", "", value)])
        for _, _, target in mounts:
            sh("umount", str(stage.inside(target)))
            stage.inside(target).rmdir()
    elif kind not in ("ENTRYPOINT", "CMD"):
        raise ValueError(f"{kind} is not understood here")


def copy_context(sources: list[str], into: Path) -> None:
    """Raises FileNotFoundError for a source of which the build is given nothing, as an engine's build would end."""
    wanted = {Path(source): 0 for source in sources}
    for path in context_files():
        source = next((one for one in wanted if path.is_relative_to(one)), None)
        if source is not None:
            # COPY of a folder takes what is in it, of a file the file.
            target = into / (path.relative_to(source) if source != path else path.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / path, target, follow_symlinks=False)
            wanted[source] += 1
    if missing := [str(source) for source, count in wanted.items() if not count]:
        raise FileNotFoundError(f"COPY {' '.join(missing)}: not in the tree, or kept from the build by .dockerignore")


def size(folder: Path) -> int:
    return int(subprocess.run(["du", "-sb", folder], capture_output=True, check=True, text=True).stdout.split()[0])


def keep(stage: Stage) -> None:
    """How commands run in the final stage, for later calls."""
    told = {"environment": stage.environment, "workdir": stage.workdir, "user": stage.user, "layers": stage.layers}
    (stage.folder / "image.json").write_text(json.dumps(told, indent=1))


def built(work: Path) -> Stage:
    """The final stage that an earlier `build` has left in this folder."""
    told = json.loads((work / "final/image.json").read_text())
    return Stage("final", work / "final", **told)


def in_own_mounts() -> None:
    """Starts this program again where its mounts are its own: they are gone when it ends, however that is."""
    if os.environ.get("_CLEAN_ROOT") != "1":
        os.environ["_CLEAN_ROOT"] = "1"
        again = [sys.executable, "-m", "tests.infra.clean_root", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *again])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=lambda text: Path(text).resolve())
    parser.add_argument("action", choices=("build", "run"))
    parser.add_argument("--build-arg", action="append", default=[])
    parser.add_argument("--reuse", action="append", default=[], help="a stage to leave as an earlier build made it")
    parser.add_argument("--read-only", action="store_true", help="only /tmp and the home folder can be written")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    in_own_mounts()
    if options.action == "build":
        given = dict(pair.split("=", 1) for pair in options.build_arg)
        stage = build(options.work, given, tuple(options.reuse))
        for name, added in stage.layers:
            print(f"{added / 2**20:9.1f} MiB  {name}")
        return 0
    stage = built(options.work)
    stage.mount(options.work / "base", options.read_only)
    return stage.run([word for word in options.command if word != "--"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
