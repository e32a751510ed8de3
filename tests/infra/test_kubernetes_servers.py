"""The servers that the manifests bring, started here with the words that stand in the manifests."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.infra import manifests as kube
from tests.infra.manifests import Manifest
from tests.nodes import _own_address, joined
from tests.servers.postgres import BINARIES, Postgres
from tests.servers.process import free_port

from swath.flows.local import services

TLS = kube.TOP / "infra/tls"
pytestmark = pytest.mark.skipif(
    kube.kustomize() is None, reason="rendering needs kustomize, or kubectl 1.27 or newer, on the PATH"
)


@pytest.fixture(scope="module")
def local() -> list[Manifest]:
    return kube.render(kube.KUBERNETES / "overlays/local")


def data(manifests: list[Manifest], kind: str, name: str) -> dict[str, str]:
    found = next(one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name)["data"]
    return {key: base64.b64decode(text).decode() if kind == "Secret" else text for key, text in found.items()}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if not BINARIES.exists():
        pytest.skip("Postgres is not installed: apt-get install postgresql")
    with Postgres() as server:
        yield server


def test_each_gets_a_database_that_nobody_else_sees(postgres: Postgres, local: list[Manifest], tmp_path: Path) -> None:
    script = tmp_path / "initdb.sh"
    script.write_text(data(local, "ConfigMap", "postgres-initdb")["initdb.sh"])
    there = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), **postgres.environment()}
    passwords = {"prefect": "it's one: with % and $(signs)", "iceberg": "another"}
    own = {f"{name.upper()}_PASSWORD": password for name, password in passwords.items()}
    path = f"{BINARIES}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "PGUSER": postgres.user, **there, **own}
    subprocess.run(["sh", script], env=environment, check=True)

    tls = {"sslmode": "verify-full", "sslrootcert": there["PGSSLROOTCERT"]}
    for name, password in passwords.items():
        words = {"host": "127.0.0.1", "port": postgres.port, "user": name, "password": password, **tls}
        with psycopg.connect(dbname=name, **words) as mine:
            mine.execute("CREATE TABLE things (id integer)")
        [other] = set(passwords) - {name}
        with pytest.raises(psycopg.OperationalError, match=r"permission denied for database"):
            psycopg.connect(dbname=other, **words)
        with pytest.raises(psycopg.OperationalError, match=r"password authentication failed"):
            psycopg.connect(dbname=name, **{**words, "password": "postgres"})


@pytest.mark.slow
def test_the_object_store_starts_as_the_manifest_says_and_the_job_makes_its_bucket(
    local: list[Manifest], tmp_path: Path
) -> None:
    pods = {pod.owner: pod for pod in kube.pods(local)}
    port = free_port()
    config = tmp_path / "s3.json"
    config.write_text(data(local, "Secret", "object-store-config")["s3.json"])
    folder = tmp_path / "data"
    folder.mkdir()
    here = {
        "-dir=/data": f"-dir={folder}",
        "-s3.ip.bind=0.0.0.0": "-s3.ip.bind=127.0.0.1",
        "-s3.port=8333": f"-s3.port={port}",
        "-s3.config=/etc/seaweedfs/s3.json": f"-s3.config={config}",
    }
    words = pods["StatefulSet/object-store"].containers[0]["command"]
    assert set(here) <= set(words)
    parts = ("master", "volume", "filer")
    ports = [f"-{part}.port={free_port()}" for part in parts]  # here, other servers may have the usual ones
    ports += [f"-{part}.port.grpc={free_port()}" for part in (*parts, "s3")]
    weed = Path(sys.executable).parent / "weed"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([weed, *(here.get(word, word) for word in words[1:]), *ports], stdout=log, stderr=log)
    try:
        job = pods["Job/bucket"].containers[0]["command"]
        keys = data(local, "Secret", "object-store-keys") | data(local, "ConfigMap", "swath-storage")
        environment = {**os.environ, **keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        deadline = time.monotonic() + 60
        while True:  # as a Job does: again, until it works
            made = subprocess.run([sys.executable, *job[1:]], env=environment, capture_output=True, text=True)
            if made.returncode == 0 or time.monotonic() > deadline:
                break
        assert made.returncode == 0, made.stderr[-500:]
        look = "import s3fs; print(s3fs.S3FileSystem().ls('', refresh=True))"
        seen = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True)
        assert seen.stdout.strip() == "['swath']"
        stranger = environment | {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "admin"}
        refused = subprocess.run([sys.executable, "-c", look], env=stranger, capture_output=True, text=True)
        assert refused.returncode != 0
    finally:
        server.kill()
        server.wait()


WORK = """
import pathlib, sys, time
import ray
from ray._raylet import GcsClient
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.core.generated.autoscaler_pb2 import NodeStatus

@ray.remote(max_retries=0)
def work(begun):
    pathlib.Path(begun).touch()
    time.sleep(8)
    return "done"

ray.init(sys.argv[1], log_to_driver=False)
result = work.remote(sys.argv[2])
client, seen, deadline = GcsClient(address=sys.argv[1]), [], time.monotonic() + 300
while seen[-1:] != ["DEAD"] and time.monotonic() < deadline:
    time.sleep(0.2)
    states = get_cluster_resource_state(client).node_states
    now = [NodeStatus.Name(each.status) for each in states if each.node_ip_address == "127.0.0.9"]
    seen += [status for status in now if seen[-1:] != [status]]
print(*seen, ray.get(result, timeout=10))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="a process namespace of its own needs root")
def test_a_worker_that_ends_is_drained_before_it_is_stopped(
    local: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has in work is done before it goes. The hook runs in a process namespace as a pod has one: `ray stop`
    ends every Ray that it sees. All speak TLS, with the certificate that the pod makes before its worker starts."""
    pod = next(pod for pod in kube.pods(local) if pod.owner == "RayCluster/swath cpu")
    containers = {one["name"]: one for one in pod.containers}
    for name, value in tls(containers["certificate"], containers["ray-worker"], tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    log, begun = tmp_path / "worker.log", tmp_path / "begun"
    start = f"""
        ray start --block --address=$RAY_ADDRESS --node-ip-address=127.0.0.9 --num-cpus=2 \
            --object-store-memory=100000000 --dashboard-agent-listen-port={free_port()} >{log} 2>&1 &
        until [ -e {begun} ]; do sleep 0.2; done
        exec "$@"
    """
    with joined(tmp_path, "--num-cpus=0", f"--dashboard-port={free_port()}") as nodes:
        own = {"RAY_ADDRESS": nodes.address, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", start, "bash"]
        hook = containers["ray-worker"]["lifecycle"]["preStop"]["exec"]["command"]
        ending = subprocess.Popen([*alone, *hook], env={**services.QUIET, **os.environ, **own})
        # A process of its own: in one that has had to do with Ray, TLS stays as it was then.
        work = [sys.executable, "-c", WORK, nodes.address, str(begun)]
        told = subprocess.run(work, stdout=subprocess.PIPE, text=True, check=True, timeout=400).stdout.split()
        gone = time.monotonic()
        assert ending.wait(timeout=60) == 0
        waited = time.monotonic() - gone
    assert told[-3:] == ["DRAINING", "DEAD", "done"]
    assert waited > 5  # it has gone by itself while the hook still waits


def tls(certificate: Manifest, worker: Manifest, folder: Path) -> dict[str, str]:
    """The variables of a worker, with the certificate that a pod's first container makes for this machine."""
    authority, made = folder / "authority", folder / "tls"
    subprocess.run([TLS / "make_certs.sh", authority, "unused"], check=True, capture_output=True)
    made.mkdir()
    here = {"/authority": str(authority), "/tls": str(made)}
    command = [re.sub("|".join(here), lambda found: here[found[0]], word) for word in certificate["command"]]
    names = f"127.0.0.1 127.0.0.9 {_own_address()} localhost"
    path = f"{TLS}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, env={"PATH": path, "NAMES": names}, check=True, capture_output=True)
    assert not (made / "ca.key").exists()
    told = {one["name"]: one["value"] for one in worker["env"]}
    assert told["RAY_USE_TLS"] == "1"
    return {name: value.replace("/tls", str(made)) for name, value in told.items()}
