"""The alerts as the Prometheus operator wants them: `python infra/prometheus/rule.py` writes them from alerts.yaml."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
RULE = HERE.parent / "kubernetes/components/monitoring/prometheus-rule.yaml"
HEAD = """\
# infra/prometheus/rule.py has made this from infra/prometheus/alerts.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: swath
spec:
"""


def text() -> str:
    lines = (HERE / "alerts.yaml").read_text().splitlines(keepends=True)
    return HEAD + "".join(f"  {line}" for line in lines)


if __name__ == "__main__":
    RULE.write_text(text())
