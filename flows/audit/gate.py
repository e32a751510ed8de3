"""The data-quality gate: reconciliation, error budgets, and Great Expectations over a wave's staged files."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from string import Template
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from swath.flows.audit.reconcile import reconcile, rows_of
from swath.flows.audit.suites import Expectation, Suite, load_suites
from swath.infra import storage
from swath.infra.scratch import Scratch
from swath.schemas.checks import AuditReport, AuditRequest, Check
from swath.schemas.errors import ConfigurationError
from swath.schemas.items import Status
from swath.schemas.sql import literal

if TYPE_CHECKING:
    import pandas as pd

SKIPPED = "skipped: no such column"
MEMORY_LIMIT = "1GB"
"""What DuckDB may hold before it spills to a temporary folder."""
_NESTED = ("list", "array", "map")
_NO_VALUES = (*_NESTED, "struct", "union", "variant", "bit", "geometry")
_EXAMPLES = 3
_INDEX = "swath_index"


def audit(request: AuditRequest) -> AuditReport:
    """Judges one wave; raises ConfigurationError for a suite that cannot work, StorageUnavailable when the
    staged files cannot be reached. A file that is there and broken is a failed check."""
    start = time.monotonic()
    suites = load_suites(request.expectations, request.base)
    frames: dict[str, pd.DataFrame] = {}
    with _connection(request) as connection:
        checks = reconcile(connection, request)
        readable = all(check.success for check in checks if check.name == "files_readable")
        if readable and request.staged:
            for suite in suites:
                found, frames[suite.name] = _judge(connection, request, suite)
                checks += found
    success = all(check.success for check in checks if check.severity == "error")
    report = AuditReport(request.run_id, request.wave, success, tuple(checks), round(time.monotonic() - start, 3))
    return _with_page(report, request, suites, frames)


def warm_up() -> None:
    """Imports Great Expectations and validates three rows, so that the first audit need not."""
    import pandas as pd

    expectation = Expectation(type="expect_column_values_to_not_be_null", kwargs={"column": "value"})
    _validate(
        Suite(name="warm_up", expectations=(expectation,)), [expectation], pd.DataFrame({"value": [1.0, 2.0, 3.0]})
    )


def _with_page(
    report: AuditReport, request: AuditRequest, suites: list[Suite], frames: dict[str, pd.DataFrame]
) -> AuditReport:
    if request.docs is None:
        return report
    from dataclasses import replace

    from swath.flows.audit.page import page

    uri = storage.join(storage.normalize(request.docs), request.run_id, f"wave-{request.wave:05d}.html")
    storage.write(uri, page(report, request, suites, frames).encode())
    return replace(report, docs=uri)


@contextmanager
def _connection(request: AuditRequest) -> Iterator[duckdb.DuckDBPyConnection]:
    with Scratch("audit") as spill, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute(f"SET temp_directory = {literal(str(spill))}")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET enable_progress_bar = false")
        for uri in (*request.staged, *request.manifest, *request.untouched):
            storage.register(connection, uri)
        yield connection


def _judge(
    connection: duckdb.DuckDBPyConnection, request: AuditRequest, suite: Suite
) -> tuple[list[Check], pd.DataFrame]:
    """The suite's checks, in the order of the suite, and the frame that was judged."""
    available = _available(connection, request)
    judged = [
        expectation
        for expectation in suite.expectations
        if expectation.type == "expect_column_to_exist" or all(name in available for name in expectation.columns())
    ]
    table, number = _rows(connection, request, suite, _wanted(judged, available))
    frame = table.drop_columns(["swath_source_uri"]).to_pandas()
    results = _validate(suite, judged, frame)
    sampled = f"; a sample of {table.num_rows:,} of {number:,} rows" if number > table.num_rows else ""
    names: Counter[str] = Counter()
    checks = []
    for expectation in suite.expectations:
        name = ".".join(
            [suite.name, *expectation.columns(), expectation.type.removeprefix("expect_").removeprefix("column_")]
        )
        names[name] += 1
        if names[name] > 1:
            name = f"{name}.{names[name]}"
        index = next((i for i, candidate in enumerate(judged) if candidate is expectation), None)
        if index is None:
            missing = ", ".join(column for column in expectation.columns() if column not in available)
            checks.append(Check(name, False, SKIPPED, f"column {missing}", "expectations", severity="warning"))
            continue
        success, observed = _finding(results[index], table) if table.num_rows else (True, "no rows to judge")
        checks.append(
            Check(
                name,
                success,
                observed + sampled,
                _prose(expectation),
                "expectations",
                severity="error" if expectation.severity == "critical" else "warning",
            )
        )
    return checks, frame


def _available(connection: duckdb.DuckDBPyConnection, request: AuditRequest) -> dict[str, str]:
    """Name of a scalar column, or `<name>_count` of a nested one, to the SQL that yields it; a binary one, such as a
    footprint, is judged by its length in bytes."""
    relation = connection.sql(f"SELECT * EXCLUDE (staged_file) FROM {rows_of(request.staged)} LIMIT 0")
    columns: dict[str, str] = {}
    counts: dict[str, str] = {}
    for name, kind in zip(relation.columns, relation.types, strict=True):
        quoted = '"' + name.replace('"', '""') + '"'
        if kind.id in _NESTED:
            counts[f"{name}_count"] = f"cardinality({quoted})" if kind.id == "map" else f"len({quoted})"
        elif kind.id == "blob":
            columns[name] = f"octet_length({quoted})"
        elif kind.id not in _NO_VALUES:
            columns[name] = quoted
    return counts | columns


def _wanted(expectations: list[Expectation], available: dict[str, str]) -> dict[str, str]:
    """The columns that the expectations touch; all of them where one is about the table's shape."""
    if any(expectation.type.startswith("expect_table_column") for expectation in expectations):
        return available
    named = {name for expectation in expectations for name in expectation.columns()}
    conditions = " ".join(str(expectation.kwargs.get("row_condition", "")) for expectation in expectations)
    return {name: sql for name, sql in available.items() if name in named or name in conditions}


def _rows(
    connection: duckdb.DuckDBPyConnection, request: AuditRequest, suite: Suite, columns: dict[str, str]
) -> tuple[pa.Table, int]:
    """The rows that the suite judges, with one column more to name them by, and how many there are in all."""
    run = "'" + request.run_id.replace("'", "''") + "'"
    where = {"ok": f"run_id = {run} AND status = '{Status.OK}'", "run": f"run_id = {run}", "all": "true"}
    rows = f"FROM {rows_of(request.staged)} WHERE {where[suite.meta.rows]}"
    counted = connection.execute(f"SELECT count(*) FROM staged WHERE {where[suite.meta.rows]}")  # made by `reconcile`
    number = int(counted.fetchall()[0][0])
    chosen = ", ".join(f'{sql} AS "{name}"' for name, sql in columns.items())
    query = f"SELECT source_uri AS swath_source_uri{', ' + chosen if chosen else ''} {rows}"
    if number > request.sample_rows:
        query = f"SELECT * FROM ({query}) USING SAMPLE reservoir({request.sample_rows} ROWS) REPEATABLE (1)"
    table = connection.sql(query).to_arrow_table()
    for position, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):  # naive UTC, because the bounds in YAML are naive as well
            plain = table.column(position).cast(pa.timestamp("us"))
            table = table.set_column(position, field.name, plain)
    return table, number


def _validate(suite: Suite, expectations: list[Expectation], frame: pd.DataFrame) -> list[Any]:
    """One Great Expectations result for each expectation, in their order."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    built = []
    for index, expectation in enumerate(expectations):
        fields = expectation.model_dump()
        fields["meta"] = {**fields["meta"], _INDEX: index}
        try:
            built.append(ExpectationConfiguration(**fields).to_domain_obj())
        except Exception as error:  # the suite alone would log it and go on without the expectation
            where = f"{expectation.type} of {', '.join(expectation.columns()) or 'the table'}"
            reason = " ".join(str(error).split())
            raise ConfigurationError(f"suite {suite.name!r}, {where}: {reason}") from error
    if not built or not len(frame):
        return [None] * len(built)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    asset = context.data_sources.add_pandas("staged").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": frame})
    outcome = batch.validate(gx.ExpectationSuite(name=suite.name, expectations=built), result_format="SUMMARY")
    return sorted(outcome.results, key=lambda result: result.expectation_config.meta[_INDEX])


def _finding(result: Any, table: pa.Table) -> tuple[bool, str]:
    """Whether the expectation holds, and what was seen, with the items of a few rows that break it."""
    raised = [info for info in result.exception_info.values() if isinstance(info, dict) and info["raised_exception"]]
    if raised or result.exception_info.get("raised_exception"):
        message = (raised[0] if raised else result.exception_info)["exception_message"]
        return False, "could not be judged: " + " ".join(str(message).split())
    found = result.result
    if "unexpected_count" not in found:
        value = found.get("observed_value", "")
        return bool(result.success), f"{value:,.6g}" if isinstance(value, int | float) else str(value)
    count, total = found["unexpected_count"], found["element_count"] - found.get("missing_count", 0)
    observed = f"{count:,} of {total:,} unexpected ({count / max(total, 1):.2%})"
    if found.get("missing_count"):
        observed += f", {found['missing_count']:,} null"
    values, rows = found.get("partial_unexpected_list", []), found.get("partial_unexpected_index_list") or []
    if rows and count:
        uris = table.column("swath_source_uri")
        shown = [f"{_brief(value)} in {uris[row]}" for value, row in zip(values, rows, strict=False)][:_EXAMPLES]
        observed += ", such as " + "; ".join(shown)
    return bool(result.success), observed


def _brief(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _prose(expectation: Expectation) -> str:
    """The expectation as Great Expectations says it, with the suite's own note."""
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.render.renderer.inline_renderer import InlineRenderer

    configuration = ExpectationConfiguration(type=expectation.type, kwargs=expectation.kwargs)
    value = InlineRenderer(render_object=configuration).get_rendered_content()[0].value
    values = {name: _brief(parameter.get("value")) for name, parameter in (value.params or {}).items()}
    text = Template(value.template or expectation.type).safe_substitute(values)
    note = expectation.meta.get("notes")
    return f"{text} {note}" if note else text
