"""Prints what was checked of each overlay of infra/kubernetes and of its jobs, and what is wrong, as a table:

    .venv/bin/python -m tests.infra.show_manifests

Ends with 1 where anything is wrong. It judges as tests/infra/test_kubernetes.py does, with the same functions.
"""

from __future__ import annotations

import sys
from collections import Counter

import yaml
from tests.infra import manifests as kube
from tests.infra.manifests import Manifest


def findings(name: str, manifests: list[Manifest]) -> dict[str, list[str]]:
    """What each check has found, by its name. A job is held against its schema alone: its pods are the cluster's; a
    machine of one's own may have its passwords in the tree."""
    found = {"schemas": kube.against_schema(manifests), "KubeRay": kube.against_kuberay(manifests)}
    if name == "jobs":
        return found
    found |= {
        "restricted": kube.against_restricted(manifests),
        "limits": kube.against_limits(manifests),
        "probes": kube.against_probes(manifests),
        "images": kube.against_images(manifests),
        "TLS": kube.against_tls(manifests),
        "references": kube.against_references(manifests, local=name == "local"),
    }
    return found if name == "local" else found | {"secrets": kube.against_secrets(manifests)}


def show(rendered: dict[str, list[Manifest]]) -> list[str]:
    """Prints the table; what is wrong."""
    width, wrong = max(map(len, rendered)), []
    print(f"Against the schemas of Kubernetes {kube.VERSION} and {kube.KUBERAY.stem}, and:\n")
    print(f"{'':{width}}  manifests  pods  containers  policies  checks")
    for name, manifests in rendered.items():
        pods = list(kube.pods(manifests))
        policies = sum(one["kind"] == "NetworkPolicy" for one in manifests)
        found = findings(name, manifests)
        verdicts = ", ".join(f"{check} {f'{len(said)} wrong' if said else 'passed'}" for check, said in found.items())
        containers = sum(len(pod.containers) for pod in pods)
        print(f"{name:{width}}{len(manifests):11}{len(pods):6}{containers:12}{policies:10}  {verdicts}")
        wrong += [f"{name}: {sentence}" for said in found.values() for sentence in said]
    print()
    for name, manifests in rendered.items():
        kinds = Counter(f"{one['apiVersion']} {one['kind']}" for one in manifests)
        print(f"{name:{width}}  " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    print("\n" + ("\n".join(wrong) if wrong else "nothing is wrong"))
    return wrong


def main() -> int:
    if kube.kustomize() is None:
        sys.exit("rendering needs kustomize, or kubectl 1.27 or newer, on the PATH")
    rendered = {name: kube.render(kube.KUBERNETES / "overlays" / name) for name in kube.OVERLAYS}
    files = sorted((kube.KUBERNETES / "jobs").glob("*.yaml"))
    rendered["jobs"] = [one for file in files for one in yaml.safe_load_all(file.read_text())]
    return 1 if show(rendered) else 0


if __name__ == "__main__":
    sys.exit(main())
