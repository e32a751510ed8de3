"""Grafana's boards, from what they ask: `python infra/grafana/boards.py` writes run, quality and cluster.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${source}"}
HERE = Path(__file__).parent
WIDTH = 24
"""Columns of a board."""
RUN = 'pipeline=~"$pipeline", run=~"$run"'
PIPELINE = 'pipeline=~"$pipeline"'
THROUGH = f'swath_run_items{{{RUN}, outcome=~"ok|rejected"}}'
STAGE = f"swath_run_stage_seconds{{{RUN}}}"
COLUMN = f'{PIPELINE}, column=~"$column"'
NODE = 'SessionName=~"$session"'
Panel = dict[str, Any]


def panel(
    kind: str,
    title: str,
    unit: str,
    queries: dict[str, str],
    says: str = "",
    width: int = 8,
    least: float | None = 0,
    **options: Any,
) -> Panel:
    """A panel of its own width and 7 rows; `queries` by their legend. All but time series ask for the present only.
    What may be below zero has no `least`."""
    now = kind != "timeseries"
    targets = [
        {"refId": chr(ord("A") + number), "expr": expr, "legendFormat": legend, "datasource": SOURCE,
         "instant": now, "range": not now, "format": "table" if kind == "table" else "time_series"}
        for number, (legend, expr) in enumerate(queries.items())
    ]  # fmt: skip
    drawn = kind in ("timeseries", "bargauge") and least is not None
    defaults: dict[str, Any] = {"unit": unit} | ({"min": least} if drawn else {})
    if kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "auto"} | options.pop("custom", {})
    if kind in ("stat", "bargauge"):
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "values": False}} | options
    if kind == "bargauge":
        options = {"orientation": "horizontal", "displayMode": "basic"} | options
    return {
        "type": kind, "title": title, "description": says, "datasource": SOURCE, "targets": targets,
        "gridPos": {"w": width, "h": 7}, "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options,
    }  # fmt: skip


def variable(name: str, query: str, label: str, **more: Any) -> dict[str, Any]:
    asked = {"name": name, "type": "query", "label": label, "datasource": SOURCE, "refresh": 2, "sort": 1}
    return asked | {"query": query, "multi": True, "includeAll": True, "allValue": ".*"} | more


def board(uid: str, title: str, variables: Sequence[dict[str, Any]], panels: Sequence[Panel]) -> dict[str, Any]:
    """The panels in lines, from the left, as many as have room."""
    left = top = 0
    for number, one in enumerate(panels, start=1):
        if left + one["gridPos"]["w"] > WIDTH:
            left, top = 0, top + 7
        one["id"] = number
        one["gridPos"] |= {"x": left, "y": top}
        left += one["gridPos"]["w"]
    source = {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "uid": uid, "title": title, "tags": ["swath"], "schemaVersion": 39, "editable": True, "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"}, "templating": {"list": [source, *variables]}, "panels": list(panels),
    }  # fmt: skip


def run() -> dict[str, Any]:
    workers = f'sum by (run, stage) (swath_run_stage_seconds{{{RUN}, doing=~"work|store"}})'
    latency = f"rate(swath_publish_seconds_sum{{{PIPELINE}}}[1h]) / rate(swath_publish_seconds_count{{{PIPELINE}}}[1h])"
    return board(
        "swath-run",
        "Swath: a run",
        [
            variable("pipeline", "label_values(swath_run_status, pipeline)", "Pipeline"),
            variable("run", f"label_values(swath_run_status{{{PIPELINE}}}, run)", "Run", sort=2),
        ],
        [
            panel("stat", "State", "none", {"{{status}}": f"sum by (status) (swath_run_status{{{RUN}}})"},
                  "failed and audit_failed want somebody", 6, textMode="value_and_name"),
            panel("stat", "Done", "percentunit",
                  {"{{run}}": f"sum by (run) ({THROUGH}) / sum by (run) (swath_run_planned_items{{{RUN}}} > 0)"},
                  "Items that came through or were rejected, of those that were pending", 6),
            panel("stat", "Left", "s", {"{{run}}": f"swath_run_remaining_seconds{{{RUN}}}"},
                  "At the rate of the driver so far", 4),
            panel("stat", "Since anything moved", "s",
                  {"{{run}}": f"time() - swath_run_last_progress_timestamp_seconds{{{RUN}}}"},
                  "An item came through, or a phase began", 4),
            panel("stat", "Says that it waits", "none", {"{{run}}": f"swath_run_waiting{{{RUN}}}"},
                  "For workers, for the store, or for another run that publishes; the log says which", 4),
            panel("timeseries", "Items", "short",
                  {"{{outcome}}": f"sum by (outcome) ({THROUGH})",
                   "pending at first": f"sum(swath_run_planned_items{{{RUN}}})"}),
            panel("timeseries", "Items a second", "short",
                  {"{{run}}": f"sum by (run) (clamp_min(deriv({THROUGH.replace('}', '}[5m]')}), 0))"}),
            panel("timeseries", "Rejected, against the budget", "percentunit",
                  {"{{run}}": f"swath_run_reject_ratio{{{RUN}}}",
                   "budget of {{run}}": f"swath_run_reject_budget_ratio{{{RUN}}}"},
                  "The audit judges each partition as it will stand, from 5 rejects on"),
            panel("bargauge", "What the workers of a stage did", "percentunit",
                  {"{{stage}}: {{doing}}": f"sum by (stage, doing) ({STAGE}) / on (stage) group_left "
                                           f"sum by (stage) ({STAGE})"},
                  "The slowest stage works; those before it wait for room, those after it for input", 12),
            panel("bargauge", "Items a second that a stage could do", "short",
                  {"{{stage}}": f"avg by (stage) (sum by (run, stage) (swath_run_stage_items{{{RUN}}} * "
                                f"swath_run_stage_workers{{{RUN}}}) / {workers})"},
                  "If its workers never had to wait for other stages", 12),
            panel("bargauge", "Time by step", "s",
                  {"{{step}}": f"sum by (step) (swath_run_step_seconds{{{RUN}}})"}, "All workers together"),
            panel("bargauge", "Time by phase", "s",
                  {"{{phase}}": f"sum by (phase) (swath_run_phase_seconds{{{RUN}}})"}),
            panel("bargauge", "Rejects by reason", "short",
                  {"{{reason}}": f"sum by (reason) (swath_run_rejects{{{RUN}}})"}),
            panel("timeseries", "Publishing", "s",
                  {"{{pipeline}}: mean of an hour": latency,
                   "slowest of {{run}}": f"swath_run_slowest_publish_seconds{{{RUN}}}"},
                  "From where a commit could be made until it was, waiting for other runs included"),
            panel("timeseries", "Waited for others", "s",
                  {"{{run}}: {{what}}": f"swath_run_waiting_seconds{{{RUN}}}"}),
            panel("timeseries", "Runs that ended in a day", "short",
                  {"{{pipeline}}: {{status}}": f"round(sum by (pipeline, status) "
                                               f"(increase(swath_runs_total{{{PIPELINE}}}[1d]))) > 0"}),
            panel("timeseries", "Since the exporter could read the warehouse", "s",
                  {"{{instance}}": "time() - swath_exporter_last_look_timestamp_seconds"},
                  "Beyond some minutes, everything above is old"),
            panel("timeseries", "Since the driver was heard of", "s",
                  {"{{run}}": f"time() - swath_run_driver_alive_timestamp_seconds{{{RUN}}}"}),
            panel("timeseries", "Duration", "s", {"{{run}}": f"swath_run_duration_seconds{{{RUN}}}"}),
            panel("bargauge", "Checks of the audit", "short",
                  {"{{outcome}}": f"sum by (outcome) (swath_run_checks{{{RUN}}})"}),
        ],
    )  # fmt: skip


def quality() -> dict[str, Any]:
    def grown(what: str, by: str) -> str:
        return f"round(sum by ({by}) (increase(swath_{what}_total{{{PIPELINE}}}[$__rate_interval]))) > 0"

    mean, null = f"swath_column_mean{{{COLUMN}}}", f"swath_column_null_ratio{{{COLUMN}}}"
    legend = "{{pipeline}}: {{column}}"
    bars = {"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal", "group": "A"}}
    return board(
        "swath-quality",
        "Swath: data quality",
        [
            variable("pipeline", "label_values(swath_run_status, pipeline)", "Pipeline"),
            variable("column", f"label_values(swath_column_null_ratio{{{PIPELINE}}}, column)", "Column"),
        ],
        [
            panel("timeseries", "Rejects by reason", "short",
                  {"{{reason}}": grown("rejects", "reason")},
                  width=12, custom=bars),
            panel("timeseries", "Items by outcome", "short",
                  {"{{outcome}}": grown("items", "outcome")},
                  width=12, custom=bars),
            panel("bargauge", "Share rejected, of the newest runs", "percentunit",
                  {"{{run}}": f"topk(10, swath_run_reject_ratio{{{PIPELINE}}})"}, width=8),
            panel("bargauge", "Share of the budget that is used", "percentunit",
                  {"{{run}}": f"topk(10, swath_run_reject_ratio{{{PIPELINE}}} / swath_run_reject_budget_ratio)"},
                  "Above 100 %, the audit may hold the run back: it judges each partition, from 5 rejects on"),
            panel("timeseries", "Checks of the audits", "short",
                  {"{{outcome}}": grown("checks", "outcome")},
                  custom=bars),
            panel("stat", "Held back by the audit", "none",
                  {"{{pipeline}}": f'sum by (pipeline) (swath_run_status{{{PIPELINE}, status="audit_failed"}}) or '
                                   f"0 * max by (pipeline) (swath_run_status{{{PIPELINE}}})"},
                  "Runs that want a decision: publish with --force, or discard", 6),
            panel("table", "Checks that did not pass", "none",
                  {"": f"max by (pipeline, run, check, outcome) (swath_run_failed_checks{{{PIPELINE}}})"},
                  "failed holds a run back, warned is only told", 18),
            panel("timeseries", "Mean of a column", "none", {legend: mean},
                  "Of the newest published run, over the items that came through", 12, None),
            panel("timeseries", "... against its mean of 7 days", "percentunit",
                  {legend: f"{mean} / avg_over_time({mean}[7d]) - 1"},
                  "What drifts leaves zero: another camera, another light, another season", 12, None),
            panel("timeseries", "Share without a value", "percentunit", {legend: null}, width=12),
            panel("timeseries", "... against its mean of 7 days", "percentunit",
                  {legend: f"{null} - avg_over_time({null}[7d])"}, width=12, least=None),
        ],
    )  # fmt: skip


def cluster() -> dict[str, Any]:
    used, free = (f"ray_object_store_{what}_memory{{{NODE}}}" for what in ("used", "available"))
    gpu = "{{ip}} {{GpuIndex}}"
    return board(
        "swath-cluster",
        "Swath: the Ray cluster",
        [variable("session", "label_values(ray_node_cpu_count, SessionName)", "Cluster", sort=2)],
        [
            panel("stat", "Nodes", "none", {"nodes": f"sum(ray_cluster_active_nodes{{{NODE}}})"}, width=4),
            panel("stat", "Jobs", "none", {"running": f"sum(ray_running_jobs{{{NODE}}})"}, width=4),
            panel("timeseries", "CPU", "percent", {"{{ip}}": f"ray_node_cpu_utilization{{{NODE}}}"},
                  "Of the machine, by whatever uses it"),
            panel("timeseries", "CPUs that Ray has given away", "short",
                  {"{{State}}": f'sum by (State) (ray_resources{{{NODE}, Name="CPU"}})'}),
            panel("timeseries", "GPU", "percent", {gpu: f"ray_node_gpus_utilization{{{NODE}}}"},
                  "Empty where no node has one"),
            panel("timeseries", "Memory of the GPUs", "mbytes", {gpu: f"ray_node_gram_used{{{NODE}}}"},
                  "Empty where no node has one"),
            panel("timeseries", "Memory", "percentunit",
                  {"{{ip}}": f"ray_node_mem_used{{{NODE}}} / ray_node_mem_total{{{NODE}}}"},
                  "At 95 % Ray ends workers"),
            panel("timeseries", "Object store", "percentunit",
                  {"{{NodeAddress}}": f"{used} / ({used} + {free})"},
                  "What goes from stage to stage; when it is full, it is spilled to disk"),
            panel("timeseries", "Spilled", "bytes",
                  {"{{NodeAddress}}": f'ray_spill_manager_objects_bytes{{{NODE}, State="Spilled"}}'},
                  "Some is no harm; what grows wants a larger --object-store-memory"),
            panel("timeseries", "Disk", "percent", {"{{ip}}": f"ray_node_disk_utilization_percentage{{{NODE}}}"},
                  "At 95 % nothing is spilled any more, and the run fails"),
            panel("timeseries", "Tasks, by state", "short",
                  {"{{State}}": f"sum by (State) (ray_scheduler_tasks{{{NODE}}})"},
                  "What stays queued wants resources that no node has free"),
            panel("timeseries", "Actors, by state", "short",
                  {"{{State}}": f"sum by (State) (ray_actors{{{NODE}}})"},
                  "Workers of stages are actors; PENDING_CREATION wants CPUs"),
            panel("timeseries", "Workers of stages", "short",
                  {"alive": f'sum(ray_actors{{{NODE}, Name=~"MapWorker.*", State="ALIVE"}})'}),
            panel("timeseries", "Memory of Ray's processes", "bytes",
                  {"{{Component}}": f"topk(8, sum by (Component) (ray_component_rss_bytes{{{NODE}}}))"}),
            panel("timeseries", "Workers that did not start", "short",
                  {"{{Reason}}": f"sum by (Reason) (ray_scheduler_failed_worker_startup_total{{{NODE}}})"}),
            panel("timeseries", "Network in", "Bps", {"{{ip}}": f"ray_node_network_receive_speed{{{NODE}}}"}),
            panel("timeseries", "Network out", "Bps", {"{{ip}}": f"ray_node_network_send_speed{{{NODE}}}"}),
        ],
    )  # fmt: skip


BOARDS = {"run": run, "quality": quality, "cluster": cluster}


def text(name: str) -> str:
    return json.dumps(BOARDS[name](), indent=1) + "\n"


if __name__ == "__main__":
    for name in BOARDS:
        (HERE / f"{name}.json").write_text(text(name))
