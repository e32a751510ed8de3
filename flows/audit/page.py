"""Data Docs as one HTML file that needs no network: verdict, checks, and how the judged columns are distributed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from swath.flows.audit.suites import Suite
from swath.schemas.checks import AuditReport, AuditRequest, Check

if TYPE_CHECKING:
    import pandas as pd

BINS = 24
TITLES = {
    "reconciliation": ("Nothing lost, nothing twice", "Rows of the staged files against the manifest of the wave."),
    "budget": ("Error budget", "Rejected items of each partition as it will stand after publishing."),
}
ROWS = {"ok": "rows of this run that were not rejected", "run": "all rows of this run", "all": "all staged rows"}
STYLE = """
:root { color-scheme: light dark; --line: #d5d9de; --dim: #5c6670; --good: #1a7f37; --bad: #c5221f; --warn: #9a6700;
  --soft: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --line: #3b424b; --dim: #9aa4af; --good: #4cc26a; --bad: #ff7b72;
  --warn: #e3b341; --soft: #1d232a; } body { background: #12161b; color: #e4e8ec; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .2rem; }
p.dim, td.dim, .dim { color: var(--dim); } p { margin: .2rem 0 .6rem; }
.verdict { border-left: 6px solid; padding: .6rem 1rem; margin: 1rem 0; background: var(--soft); font-size: 1.1rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.verdict span { color: CanvasText; font-size: .95rem; display: block; }
table { border-collapse: collapse; width: 100%; } table.checks { table-layout: fixed; }
th { text-align: left; font-weight: 600; color: var(--dim); }
th, td { padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.mark { font-weight: 600; white-space: nowrap; } th.mark { width: 5.5rem; } th.name { width: 17rem; }
th.expected { width: 19rem; } td.number, th.number { text-align: right; white-space: nowrap; }
td code { font-size: .86rem; } td { overflow-wrap: anywhere; }
svg { display: block; } svg rect { fill: #4a7fb5; }
"""


def page(
    report: AuditReport, request: AuditRequest, suites: Sequence[Suite], frames: Mapping[str, pd.DataFrame]
) -> str:
    """The page of one wave; `frames` are the judged rows by suite."""
    broken = [check for check in report.checks if not check.success]
    parts = [f"<h1>Audit of run {escape(report.run_id)}, wave {report.wave}</h1>", _verdict(report)]
    if broken:
        parts += ["<h2>What did not hold</h2>", _checks(broken)]
    for source, (title, text) in TITLES.items():
        parts.append(_section(title, text, [check for check in report.checks if check.source == source]))
    for suite in suites:
        mine = [check for check in report.checks if check.name.startswith(f"{suite.name}.")]
        frame = frames.get(suite.name)
        rows = f"{len(frame):,} {ROWS[suite.meta.rows]}" if frame is not None else "not judged"
        parts.append(_section(f"Expectations: {suite.name}", f"{suite.notes} Judged: {rows}.", mine))
        if frame is not None and len(frame):
            parts += [f"<h2>Columns: {escape(suite.name)}</h2>", _columns(frame)]
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {len(request.staged)} staged files, {report.seconds:.1f} s"
    parts.append(f'<p class="dim" style="margin-top:2rem">Audited {made}.</p>')
    title = f"Audit {escape(report.run_id)} {report.wave}: {'passed' if report.success else 'held back'}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _verdict(report: AuditReport) -> str:
    held = sum(check.success for check in report.checks)
    warnings = sum(not check.success and check.severity == "warning" for check in report.checks)
    told = f"{held} of {len(report.checks)} checks hold"
    if report.failed:
        told += f"; {len(report.failed)} failed"
    if warnings:
        told += f"; {warnings} {'warnings' if warnings > 1 else 'warning'}"
    kind, word = (
        ("good", "Passed: the wave may be published") if report.success else ("bad", "Failed: nothing is published")
    )
    return f'<div class="verdict {kind}"><b>{word}</b><span>{told}.</span></div>'


def _section(title: str, text: str, checks: Sequence[Check]) -> str:
    if not checks:
        return ""
    return f'<h2>{escape(title)}</h2><p class="dim">{escape(text.strip())}</p>{_checks(checks)}'


def _checks(checks: Iterable[Check]) -> str:
    head = '<th class="mark"></th><th class="name">Check</th><th class="expected">Expected</th><th>Found</th>'
    lines = [f'<table class="checks"><tr>{head}</tr>']
    for check in checks:
        failed = ("bad", "✗ failed") if check.severity == "error" else ("warn", "! warning")
        kind, mark = ("good", "✓ holds") if check.success else failed
        where = f" <b>{escape(check.partition)}</b>" if check.partition is not None else ""
        lines.append(
            f'<tr><td class="mark {kind}">{mark}</td><td>{_name(check.name)}{where}</td>'
            f"<td>{escape(check.expected)}</td><td>{escape(check.observed)}</td></tr>"
        )
    return "".join([*lines, "</table>"])


def _name(name: str) -> str:
    """A long name may break between its words only."""
    return f"<code>{escape(name).replace('.', '.<wbr>').replace('_', '_<wbr>')}</code>"


def _columns(frame: pd.DataFrame) -> str:
    head = ("Column", "Filled", "Smallest", "Median", "Largest")
    lines = ["<table><tr>", *(f"<th{' class=number' if name != 'Column' else ''}>{name}</th>" for name in head)]
    lines.append("<th>Distribution, or commonest values</th></tr>")
    lines += [f"<tr><td>{_name(str(name))}</td>{_summary(frame[name])}</tr>" for name in frame.columns]
    return "".join([*lines, "</table>"])


def _summary(values: pd.Series[float]) -> str:
    """Cells for share filled, smallest, median, largest and a histogram; text gets its commonest values."""
    present = values.dropna()
    filled = f'<td class="number">{len(present) / len(values):.1%}</td>'
    if values.dtype.kind == "M" and len(present):
        span = [f"{stamp:%Y-%m-%d}" for stamp in (present.min(), present.median(), present.max())]
        numbers = present.to_numpy().astype(np.int64).astype(np.float64)
    elif values.dtype.kind in "iuf" and np.isfinite(present).any():
        numbers = present.to_numpy().astype(np.float64)
        numbers = numbers[np.isfinite(numbers)]
        span = [f"{number:,.4g}" for number in (numbers.min(), np.median(numbers), numbers.max())]
    else:
        common = present.astype(str).value_counts().head(4)
        listed = ", ".join(f"{escape(str(text)[:40])} ({count:,})" for text, count in common.items())
        return f"{filled}<td></td><td></td><td></td><td>{listed or '<span class=dim>no values</span>'}</td>"
    cells = "".join(f'<td class="number">{text}</td>' for text in span)
    return f"{filled}{cells}<td>{_histogram(numbers)}</td>"


def _histogram(numbers: npt.NDArray[np.float64]) -> str:
    low, high = float(numbers.min()), float(numbers.max())
    alike = high - low <= 1e-9 * abs(high)  # but for rounding; bins would be narrower than floats are apart
    around = max(1.0, abs(high)) / 2
    counts, _ = np.histogram(numbers, BINS, (high - around, high + around) if alike else (low, high))
    heights = np.ceil(counts / counts.max() * 24).astype(int)
    bars = "".join(f'<rect x="{i * 7}" y="{24 - h}" width="6" height="{h}"/>' for i, h in enumerate(heights) if h)
    return f'<svg width="{BINS * 7}" height="24" role="img" aria-label="histogram">{bars}</svg>'
