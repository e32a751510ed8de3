"""What the manifests below infra/kubernetes render to, and what is wrong with it, each as a list of sentences."""

from __future__ import annotations

import functools
import ipaddress
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

TOP = Path(__file__).resolve().parents[2]
KUBERNETES = TOP / "infra/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
VERSION = "1.34"
"""Of Kubernetes."""
KUSTOMIZE = 5
"""Major version that the overlays need."""
KUBERAY = Path(__file__).parent / "schemas/kuberay-1.6.2.yaml"

Manifest = dict[str, Any]


@functools.cache
def kustomize() -> list[str] | None:
    """The command that renders a folder; None where this machine has none that is new enough."""
    for command, version in (
        (["kustomize", "build"], ["kustomize", "version"]),
        (["kubectl", "kustomize"], ["kubectl", "version", "--client"]),
    ):
        if shutil.which(command[0]):
            told = subprocess.run(version, capture_output=True, text=True).stdout
            found = re.search(r"(?:Kustomize Version: )?v(\d+)\.\d+", told.splitlines()[-1] if told else "")
            if found and int(found[1]) >= KUSTOMIZE:
                return command
    return None


def render(folder: Path) -> list[Manifest]:
    command = kustomize()
    assert command is not None
    out = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return [one for one in yaml.safe_load_all(out.stdout) if one]


def name(one: Manifest) -> str:
    metadata = one["metadata"]
    return f"{one['kind']}/{metadata.get('name') or metadata['generateName']}"


# --- schemas


@functools.cache
def _contents(file: str) -> Any:
    return schema_contents(f"kubernetes-json-schema/v{VERSION}.0-local-strict/{file}.json", VERSION)


@functools.cache
def _validator(version: str, kind: str) -> jsonschema.Draft202012Validator:
    """Raises FileNotFoundError where there is no schema of such a kind."""
    registry: Any = Resource.from_contents(_contents("_definitions")) @ Registry()
    if version == "ray.io/v1":
        own = yaml.safe_load(KUBERAY.read_text())
        registry = Resource.from_contents(own) @ registry
        schema = {"$schema": own["$schema"], "$ref": f"{own['$id']}#/$defs/{kind}"}
    else:
        group = re.sub(r"^([^./]*)(\.[^/]*)?/", r"\1-", version)  # networking.k8s.io/v1: networking-v1
        schema = _contents(f"{kind.lower()}-{group}")
    return jsonschema.Draft202012Validator(schema, registry=registry)


def against_schema(manifests: list[Manifest]) -> list[str]:
    """Every manifest against the schema of its kind, unknown fields included."""
    wrong = []
    for one in manifests:
        try:
            _validator(one["apiVersion"], one["kind"]).validate(one)
        except jsonschema.ValidationError as error:
            wrong.append(f"{name(one)}: {error.message}")
        except FileNotFoundError:
            wrong.append(f"{name(one)}: no schema for {one['apiVersion']}")
    return wrong


# --- pods


@dataclass(frozen=True)
class Pod:
    """The template of a pod, wherever it stands."""

    owner: str
    labels: dict[str, str]
    spec: Manifest
    autoscaler: Manifest | None = None

    @property
    def lasting(self) -> list[Manifest]:
        """Those that stay: without what only prepares the pod."""
        first = [one for one in self.spec.get("initContainers", []) if one.get("restartPolicy") != "Always"]
        return [one for one in self.containers if one not in first]

    @property
    def containers(self) -> list[Manifest]:
        beside = [{"name": "autoscaler", "image": "the head's", **self.autoscaler}] if self.autoscaler else []
        return [*self.spec.get("initContainers", []), *self.spec["containers"], *beside]


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    for one in manifests:
        spec = one.get("spec", {})
        if one["kind"] == "RayCluster":
            cluster = {"ray.io/cluster": one["metadata"]["name"], "ray.io/is-ray-node": "yes"}
            head = spec["headGroupSpec"]["template"]
            labels = cluster | {"ray.io/node-type": "head", "ray.io/group": "headgroup"}
            scaler = spec.get("autoscalerOptions", {}) if spec.get("enableInTreeAutoscaling") else None
            yield Pod(f"{name(one)} head", labels | head["metadata"]["labels"], head["spec"], scaler)
            for group in spec["workerGroupSpecs"]:
                labels = cluster | {"ray.io/node-type": "worker", "ray.io/group": group["groupName"]}
                template = group["template"]
                yield Pod(
                    f"{name(one)} {group['groupName']}", labels | template["metadata"]["labels"], template["spec"]
                )
        elif "template" in spec:
            yield Pod(name(one), spec["template"]["metadata"]["labels"], spec["template"]["spec"])


def against_restricted(manifests: list[Manifest]) -> list[str]:
    """Kubernetes' Pod Security Standard `restricted`, and a root that cannot be written."""
    wrong = []
    for pod in pods(manifests):
        whole = pod.spec.get("securityContext", {})
        wrong += [f"{pod.owner}: {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(key)]
        wrong += [f"{pod.owner}: hostPath {v['name']}" for v in pod.spec.get("volumes", []) if "hostPath" in v]
        for one in pod.containers:
            own = one.get("securityContext", {})
            where = f"{pod.owner} {one['name']}"
            merged = whole | own
            if merged.get("runAsNonRoot") is not True or not merged.get("runAsUser", 1):
                wrong.append(f"{where}: may run as root")
            if merged.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
                wrong.append(f"{where}: no seccomp profile")
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                wrong.append(f"{where}: may gain privileges")
            if own.get("capabilities") != {"drop": ["ALL"]}:
                wrong.append(f"{where}: keeps capabilities")
            if own.get("readOnlyRootFilesystem") is not True:
                wrong.append(f"{where}: its root can be written")
    return wrong


def against_limits(manifests: list[Manifest]) -> list[str]:
    """CPU and memory asked for and limited; volumes in memory and on the machine's disk limited too."""
    wrong = []
    for pod in pods(manifests):
        for one in pod.containers:
            resources = one.get("resources", {})
            for part in ("requests", "limits"):
                missing = {"cpu", "memory"} - set(resources.get(part, {}))
                wrong += [f"{pod.owner} {one['name']}: no {kind} in its {part}" for kind in sorted(missing)]
        for volume in pod.spec.get("volumes", []):
            if "sizeLimit" not in volume.get("emptyDir", {"sizeLimit": ""}):
                wrong.append(f"{pod.owner}: volume {volume['name']} has no limit")
    return wrong


def against_probes(manifests: list[Manifest]) -> list[str]:
    """What serves for long says whether it does."""
    jobs = {name(one) for one in manifests if one["kind"] == "Job"}
    return [
        f"{pod.owner} {one['name']}: no {probe}"
        for pod in pods(manifests)
        if pod.owner not in jobs
        for one in pod.lasting
        if one["name"] != "autoscaler"
        for probe in ("readinessProbe", "livenessProbe")
        if probe not in one
    ]


def against_images(manifests: list[Manifest]) -> list[str]:
    """A version for every image; one version of ours."""
    wrong, ours = [], set()
    for pod in pods(manifests):
        for one in pod.containers:
            image = one["image"]
            if one["name"] == "autoscaler":
                continue
            repository, _, tag = image.rpartition(":")
            if not repository or "/" in tag or tag == "latest":
                wrong.append(f"{pod.owner} {one['name']}: {image} names no version")
            elif repository.rpartition("/")[2].startswith("swath"):
                ours.add(tag.removesuffix("-cuda"))
    return wrong + ([f"several versions of ours: {sorted(ours)}"] if len(ours) > 1 else [])


# --- secrets and what is referred to

PROVIDED_LOCALLY = {("Secret", "authority")}
"""What infra/kubernetes/README.md has one make by hand for every overlay."""
PROVIDED = PROVIDED_LOCALLY | {
    ("Secret", "databases"),
    ("Secret", "ray-auth"),
    ("Secret", "prefect-auth"),
    ("ConfigMap", "database-ca"),
}
"""What infra/kubernetes/README.md has one make by hand where the cloud keeps secrets."""
SECRET_WORDS = re.compile(r"passw|secret|token|credential|auth.?string|access.?key", re.IGNORECASE)


def references(manifests: list[Manifest]) -> Iterator[tuple[str, str, str, str | None]]:
    """Owner, kind, name and key of everything a pod refers to."""
    for pod in pods(manifests):
        if account := pod.spec.get("serviceAccountName"):
            yield pod.owner, "ServiceAccount", account, None
        for volume in pod.spec.get("volumes", []):
            if "configMap" in volume:
                yield pod.owner, "ConfigMap", volume["configMap"]["name"], None
            if "secret" in volume:
                yield pod.owner, "Secret", volume["secret"]["secretName"], None
        for one in pod.containers:
            for source in one.get("envFrom", []):
                for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if field in source:
                        yield pod.owner, kind, source[field]["name"], None
            for variable in one.get("env", []):
                for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                    if field in variable.get("valueFrom", {}):
                        found = variable["valueFrom"][field]
                        yield pod.owner, kind, found["name"], found["key"]
    for one in manifests:
        if one["kind"] == "RayCluster" and "authOptions" in one["spec"]:
            yield name(one), "Secret", one["spec"]["authOptions"]["secretName"], "auth_token"


def against_references(manifests: list[Manifest], local: bool) -> list[str]:
    """What is referred to is there, with its key, or is to be provided by hand."""
    there = {(one["kind"], one["metadata"]["name"]): one for one in manifests}
    wrong = []
    for owner, kind, wanted, key in references(manifests):
        one = there.get((kind, wanted))
        if one is None:
            if (kind, wanted) not in (PROVIDED_LOCALLY if local else PROVIDED):
                wrong.append(f"{owner}: there is no {kind} {wanted}")
        elif key is not None and key not in {**one.get("data", {}), **one.get("stringData", {})}:
            wrong.append(f"{owner}: {kind} {wanted} has no {key}")
    for pod in pods(manifests):
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
        owner = next((one for one in manifests if name(one) == pod.owner), {})
        volumes |= {claim["metadata"]["name"] for claim in owner.get("spec", {}).get("volumeClaimTemplates", [])}
        for container in pod.containers:
            used = {mount["name"] for mount in container.get("volumeMounts", [])}
            wrong += [f"{pod.owner} {container['name']}: there is no volume {one}" for one in sorted(used - volumes)]
    return wrong


def against_secrets(manifests: list[Manifest]) -> list[str]:
    """No secret in plain sight: no Secret with a content, no variable or setting whose name says that it is one."""
    wrong = [f"{name(one)}: its content is in the tree" for one in manifests if one["kind"] == "Secret"]
    for pod in pods(manifests):
        wrong += [
            f"{pod.owner} {one['name']}: {variable['name']} in plain sight"
            for one in pod.containers
            for variable in one.get("env", [])
            if SECRET_WORDS.search(variable["name"]) and "value" in variable
        ]
    for one in manifests:
        if one["kind"] == "ConfigMap":
            for key, text in one.get("data", {}).items():
                if SECRET_WORDS.search(key) or re.search(r"://[^/\s:@]+:[^/\s@]+@", text):
                    wrong.append(f"{name(one)}: {key} holds a secret")
    return wrong


# --- TLS

RAY_TLS = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")


def against_tls(manifests: list[Manifest]) -> list[str]:
    """Every process of Ray's speaks TLS, with a certificate that its pod has made; Prefect is asked and answers so."""
    wrong = []
    for pod in pods(manifests):
        for one in pod.lasting:
            told = {variable["name"]: variable.get("value", "") for variable in one.get("env", [])}
            where, below = f"{pod.owner} {one['name']}", [mount["mountPath"] for mount in one.get("volumeMounts", [])]
            if "ray.io/cluster" in pod.labels:
                if told.get("RAY_USE_TLS") != "1":
                    wrong.append(f"{where}: speaks no TLS")
                paths = [told.get(name, "") for name in RAY_TLS]
                wrong += [f"{where}: does not see {path!r}" for path in paths if path.rpartition("/")[0] not in below]
            if one["name"] == "prefect-server":
                if not any(word.startswith("--ssl-keyfile=") for word in one["command"]):
                    wrong.append(f"{where}: speaks no TLS")
                probes = [one[probe]["httpGet"] for probe in one if probe.endswith("Probe")]
                wrong += [f"{where}: is probed without TLS" for probe in probes if probe.get("scheme") != "HTTPS"]
    for one in manifests:
        if one["kind"] == "ConfigMap" and not one["data"].get("PREFECT_API_URL", "https://").startswith("https://"):
            wrong.append(f"{name(one)}: PREFECT_API_URL speaks no TLS")
    return wrong


# --- KubeRay's controller


def against_kuberay(manifests: list[Manifest]) -> list[str]:
    """What KubeRay's controller refuses beyond types (its validation.go), as far as fields are used here."""
    wrong = []
    for one in manifests:
        spec = one["spec"] if one["apiVersion"] == "ray.io/v1" else {}
        if one["kind"] == "RayCluster":
            if spec.get("authOptions", {}).get("mode") == "token" and not spec.get("rayVersion"):
                wrong.append(f"{name(one)}: a token, but no rayVersion")
            for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
                where = f"{name(one)} {group.get('groupName', 'head')}"
                sized = {"num-cpus", "num-gpus", "memory", "resources"} & set(group.get("rayStartParams", {}))
                if sized and group.get("resources"):
                    wrong.append(f"{where}: resources in both rayStartParams and resources")
                if group.get("minReplicas", 0) > group.get("maxReplicas", 0):
                    wrong.append(f"{where}: minReplicas above maxReplicas")
                if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
                    wrong.append(f"{where}: the autoscaler v2 wants restartPolicy Never")
        elif one["kind"] == "RayJob" and "clusterSelector" in spec:
            own = {"rayClusterSpec", "shutdownAfterJobFinishes", "suspend", "backoffLimit"} & set(spec)
            wrong += [f"{name(one)}: {field} beside clusterSelector" for field in sorted(own)]
    return wrong


# --- network


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    def holds(one: Manifest) -> bool:
        value = labels.get(one["key"])
        verdicts = {
            "In": value in one.get("values", []),
            "NotIn": value not in one.get("values", []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        return verdicts[one["operator"]]

    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return exact and all(holds(one) for one in selector.get("matchExpressions", []))


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod by its labels, in a namespace; or an address outside of the cluster."""

    labels: dict[str, str] | None = None
    namespace: str = "swath"
    address: str = ""

    def matches(self, peer: Manifest) -> bool:
        if "ipBlock" in peer:
            if not self.address:
                return False
            inside = ipaddress.ip_address(self.address)
            block = peer["ipBlock"]
            excepted = any(inside in ipaddress.ip_network(part) for part in block.get("except", []))
            return inside in ipaddress.ip_network(block["cidr"]) and not excepted
        if self.labels is None:
            return False
        if "namespaceSelector" in peer:
            if not _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": self.namespace}):
                return False
        elif self.namespace != "swath":
            return False
        return _selects(peer.get("podSelector", {}), self.labels)


def _way(policies: list[Manifest], mine: End, other: End, port: int, direction: str) -> bool:
    """Whether policies let one end send (Egress) or receive (Ingress); what no policy selects may do all."""
    if mine.labels is None or mine.namespace != "swath":
        return True
    peers, rules = ("to", "egress") if direction == "Egress" else ("from", "ingress")
    selecting = [
        one["spec"]
        for one in policies
        if direction in one["spec"]["policyTypes"] and _selects(one["spec"]["podSelector"], mine.labels)
    ]
    return not selecting or any(
        (not rule.get(peers) or any(other.matches(peer) for peer in rule[peers]))
        and (not rule.get("ports") or any(one["port"] == port for one in rule["ports"]))
        for spec in selecting
        for rule in spec.get(rules, [])
    )


def connects(manifests: list[Manifest], source: End, target: End, port: int) -> bool:
    """Whether the network policies let a connection through, at both ends."""
    policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    return _way(policies, source, target, port, "Egress") and _way(policies, target, source, port, "Ingress")
