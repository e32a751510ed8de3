"""Boards and alerts: they ask for what there is, and an alert fires when a real run gives it cause."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.flows.living import LENGTH, House, pipeline
from tests.infra import manifests as kube
from tests.nodes import joined
from tests.prometheus import MISSING, PROMETHEUS, PROMTOOL, Prometheus, prometheus

from swath.flows.local import services
from swath.flows.run import metrics, process, progress
from swath.flows.run.records import Request, Runs, State
from swath.infra.grafana import boards
from swath.infra.prometheus import rule
from swath.schemas.errors import AuditFailed
from swath.schemas.pipeline import Pipeline, Step

INFRA = Path(__file__).parents[2] / "infra"
ALERTS = INFRA / "prometheus" / "alerts.yaml"
RUNBOOK = INFRA / "RUNBOOK.md"
NAME = r"\b(?:swath|ray)_\w+"
ON_GPUS = {"ray_node_gpus_utilization", "ray_node_gram_used"}
"""What only a node with a GPU tells."""


def alerts() -> list[dict[str, Any]]:
    return [one for group in yaml.safe_load(ALERTS.read_text())["groups"] for one in group["rules"]]


def asked() -> dict[str, set[str]]:
    """Of each query of the boards and the alerts, with the queries of variables: the metrics it names."""
    queries = []
    for name in boards.BOARDS:
        board = json.loads((INFRA / "grafana" / f"{name}.json").read_text())
        queries += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        queries += [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    return {query: set(re.findall(NAME, query)) for query in [*queries, *(one["expr"] for one in alerts())]}


def told(text: str) -> set[str]:
    return {one.name for family in text_string_to_metric_families(text) for one in family.samples}


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
    """With a run that has all there is to tell of, and is going on."""
    runs = Runs(str(tmp_path))
    pipeline = Pipeline(name="photos", steps=(Step(op="decode"),))
    stage = {"workers": 2, "items": 93, "work_seconds": 40.0, "store_seconds": 10.0, "idle_seconds": 50.0}
    for name, state in (("run-1", State.PUBLISHED), ("run-2", State.RUNNING)):
        record = runs.new(Request(pipeline=pipeline, source="s3://a/b", warehouse=str(tmp_path)), name)
        told = {"status": state, "items": 99, "ok": 90, "rejected": 3, "reasons": {"truncated": 3}, "publishes": 1,
                "operators": {"decode": 40.0}, "phases": {"publish": 1.0}, "waits": {"publish_lock": 1.0},
                "stages": {"decode": stage}, "checks": {"fits": {"passed": 0, "warned": 0, "failed": 1}},
                "columns": {"sharpness": (90, 9.0)}}  # fmt: skip
        runs.save(record.model_copy(update=told))
    now = progress.Progress(at=record.started_at, moved_at=record.started_at, remaining_s=1.0)
    runs.keep("run-2", progress.FILE, now)
    return str(tmp_path)


def test_the_boards_are_what_their_queries_make(tmp_path: Path) -> None:
    for name in boards.BOARDS:
        assert (INFRA / "grafana" / f"{name}.json").read_text() == boards.text(name), "python infra/grafana/boards.py"


def test_boards_and_alerts_ask_for_what_swath_tells_and_leave_nothing_out(warehouse: str) -> None:
    names = {name for names in asked().values() for name in names if name.startswith("swath_")}
    there = told(metrics.exposition(warehouse, last=9))
    assert names - there == set()
    shown_by_no_board = {"swath_phase_seconds_total", "swath_step_seconds_total", "swath_waiting_seconds_total"}
    of_itself = {name for name in there if name.startswith("swath_exporter_") or name.endswith("_created")}
    assert there - names - of_itself == shown_by_no_board | {"swath_run_started_timestamp_seconds"}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"].endswith(".")
    file, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert (file, anchor) == ("infra/RUNBOOK.md", alert["alert"].lower())
    assert f"### {alert['alert']}\n" in RUNBOOK.read_text()


@pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
def test_rules_fire_where_they_must_and_nowhere_else() -> None:
    tests = Path(__file__).parent / "alerts_test.yaml"
    for command in (("check", "rules", str(ALERTS)), ("check", "config", str(ALERTS.parent / "prometheus.yaml")),
                    ("test", "rules", str(tests))):  # fmt: skip
        done = subprocess.run([str(PROMTOOL), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    tried = {one["alertname"] for test in yaml.safe_load(tests.read_text())["tests"] for one in test["alert_rule_test"]
             if one["exp_alerts"]}  # fmt: skip
    assert tried == {one["alert"] for one in alerts()}


@pytest.fixture
def held_back(tmp_path: Path, audit_socket: Path) -> House:
    """A house with a run that its audit has held back: 6 rejects of 10."""
    house = House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)
    house.put(*(f"good-{number}.txt" for number in range(4)))
    house.put(*(f"bad-{number}.txt" for number in range(6)), content="bad")
    with pytest.raises(AuditFailed):
        house.run()
    return house


@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
def test_a_real_prometheus_raises_the_alarm_over_a_real_run_until_somebody_decides(
    tmp_path: Path, held_back: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "REFRESH_S", 0.2)
    monkeypatch.setattr(metrics, "SETTLED_S", 0)
    (run,) = held_back.runs.names()
    server, _ = metrics.serve(held_back.warehouse, last=9, port=0, host="127.0.0.1")
    try:
        with prometheus(tmp_path, {"swath-metrics": f"127.0.0.1:{server.server_port}"}, ALERTS) as watching:
            (alert,) = firing(watching.until("alerts", firing, 30))
            assert (alert["labels"]["alertname"], alert["labels"]["run"]) == ("SwathAuditFailed", run)
            process.publish(held_back.warehouse, run, "they are known to be bad")
            watching.until("alerts", lambda told: not firing(told), 30)
    finally:
        server.shutdown()
        server.server_close()


def firing(told: Any) -> list[Any]:
    """Those that are no longer pending."""
    return [one for one in told["alerts"] if one["state"] == "firing"]


@pytest.mark.slow
@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
def test_every_panel_of_the_boards_shows_something_of_a_real_run_on_a_real_cluster(
    tmp_path: Path, audit_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "REFRESH_S", 0.5)
    monkeypatch.setattr(metrics, "SETTLED_S", 0)
    monkeypatch.setattr(progress, "BEAT_S", 0.5)
    house = House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)
    house.put("first.txt")
    house.run(boards_pipeline())  # a counter wants a sample from before
    house.put(*(f"{number:03}.txt" for number in range(200)), content="slow")
    house.put(*(f"bad-{number}.txt" for number in range(6)), content="bad")
    port = services._free_port()
    server, _ = metrics.serve(house.warehouse, last=9, port=0, host="127.0.0.1")
    words = ("--include-dashboard=true", f"--dashboard-port={services._free_port()}", f"--metrics-export-port={port}")
    try:
        with joined(tmp_path, *words) as nodes:
            ip = nodes.address.rpartition(":")[0]
            jobs = {"swath-metrics": f"127.0.0.1:{server.server_port}", "ray": f"{ip}:{port}"}
            with prometheus(tmp_path, jobs) as watching:
                began = time.time()
                watching.until("query", lambda told: told["result"], 60, query="ray_node_cpu_utilization")
                with pytest.raises(AuditFailed):
                    house.run(boards_pipeline(), ray=nodes.address)
                time.sleep(5)
                process.publish(house.warehouse, house.runs.names()[-1], "they are known to be bad")
                time.sleep(5)
                assert {query for query in panels() if not shown(watching, query, began)} == set()
    finally:
        server.shutdown()
        server.server_close()


def boards_pipeline() -> Pipeline:
    return pipeline(Step(op=LENGTH), Step(op="tests.flows.toy:Half"))


def panels() -> Iterator[str]:
    """What the panels ask, with what their variables stand for; but not of GPUs, of which this machine has none."""
    for query, names in asked().items():
        if (
            not names & ON_GPUS
            and not query.startswith("label_values")
            and query not in {one["expr"] for one in alerts()}
        ):
            yield re.sub(r"\$(pipeline|run|column|session)", ".*", query.replace("$__rate_interval", "1m"))


def shown(watching: Prometheus, query: str, began: float) -> bool:
    told = watching.ask("query_range", query=query, start=str(began), end=str(time.time()), step="1")
    return any(value != "NaN" for series in told["result"] for _, value in series["values"])


# --- in Kubernetes


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[kube.Manifest]:
    if kube.kustomize() is None:
        pytest.skip("rendering needs kustomize, or kubectl 1.27 or newer, on the PATH")
    folder = tmp_path_factory.mktemp("overlay")
    here = os.path.relpath(kube.KUBERNETES, folder)
    own = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "swath",
           "resources": [f"{here}/overlays/local"], "components": [f"{here}/components/monitoring"]}  # fmt: skip
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return kube.render(folder)


def of_operator(manifests: list[kube.Manifest]) -> dict[str, kube.Manifest]:
    return {one["kind"]: one for one in manifests if one["apiVersion"] == "monitoring.coreos.com/v1"}


def test_what_watches_in_kubernetes_fits_its_schemas_and_the_rules_for_pods(rendered: list[kube.Manifest]) -> None:
    monitors = of_operator(rendered)
    assert sorted(monitors) == ["PodMonitor", "PrometheusRule", "ServiceMonitor"]
    schema = yaml.safe_load((Path(__file__).parent / "schemas/prometheus-operator-v1.yaml").read_text())
    for kind, one in monitors.items():
        validator = jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{kind}"})
        assert [error.message for error in validator.iter_errors(one["spec"])] == []
        assert list(validator.iter_errors({**one["spec"], "unheard": 1})) != []
    others = [one for one in rendered if one not in monitors.values()]
    assert kube.against_schema(others) == []
    for check in (kube.against_restricted, kube.against_limits, kube.against_probes, kube.against_images):
        assert check(others) == []
    provided = {"Deployment/swath-metrics: there is no Secret metrics-tls",
                "Deployment/swath-metrics: there is no Secret metrics-token"}  # fmt: skip
    assert set(kube.against_references(others, local=True)) == provided


def test_prometheus_finds_what_it_is_to_scrape_and_nobody_else_does(rendered: list[kube.Manifest]) -> None:
    monitors = of_operator(rendered)
    (service,) = (one for one in rendered if kube.name(one) == "Service/swath-metrics")
    (endpoint,) = monitors["ServiceMonitor"]["spec"]["endpoints"]
    assert (
        service["metadata"]["labels"].items() >= monitors["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items()
    )
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    of_ray = monitors["PodMonitor"]["spec"]
    scraped = [pod for pod in kube.pods(rendered) if pod.labels.items() >= of_ray["selector"]["matchLabels"].items()]
    assert len(scraped) >= 3
    ports = {
        port["name"]: port["containerPort"]
        for pod in scraped
        for one in pod.containers
        for port in one.get("ports", [])
    }
    port = ports[of_ray["podMetricsEndpoints"][0]["port"]]
    watcher = kube.End({"app.kubernetes.io/name": "prometheus"}, "monitoring")
    metrics_pod = kube.End({"app.kubernetes.io/name": "swath-metrics", "swath/bucket": "true"})
    for target, at in ((metrics_pod, 9464), *((kube.End(pod.labels), port) for pod in scraped)):
        assert kube.connects(rendered, watcher, target, at)
        assert not kube.connects(rendered, kube.End({"app.kubernetes.io/name": "prometheus"}, "default"), target, at)


def test_alerts_and_boards_in_kubernetes_are_those_of_the_tree(rendered: list[kube.Manifest]) -> None:
    assert rule.RULE.read_text() == rule.text(), "python infra/prometheus/rule.py"
    assert of_operator(rendered)["PrometheusRule"]["spec"] == yaml.safe_load(ALERTS.read_text())
    (kept,) = (one for one in rendered if kube.name(one) == "ConfigMap/swath-boards")
    assert kept["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert kept["data"] == {f"{name}.json": boards.text(name) for name in boards.BOARDS}
