"""Is every item there, once, and explained; are rejects within the budget: SQL over staged Parquet files."""

from __future__ import annotations

import re
from collections.abc import Iterator

import duckdb

from swath.flows.duck import parquet
from swath.schemas.checks import AuditRequest, Check
from swath.schemas.errors import StorageUnavailable
from swath.schemas.items import Reason, Status

JUDGED_FROM = 5
"""Rejects below which an error budget is not judged: one bad file in thirty stops nobody."""
SHOWN = 3
"""Offending rows that a message names."""

ITEM = "coalesce(source_uri, 'no source_uri') || ' (item ' || coalesce(item_id, 'null') || ')'"
"""SQL that names an item to a person."""
Connection = duckdb.DuckDBPyConnection


def rows_of(uris: tuple[str, ...]) -> str:
    """SQL of the rows of the files, missing columns filled with nulls, with their file as `staged_file`."""
    return parquet(uris, by_name=True, filename="staged_file")


def reconcile(connection: Connection, request: AuditRequest) -> list[Check]:
    """Reconciliation and error budgets; unreadable files are a failed check, and then the only one."""
    try:
        _read(connection, request)
    except (duckdb.InvalidInputException, duckdb.BinderException, duckdb.ConversionException) as error:
        return [_reconciled("files_readable", False, _brief(error), "every file is whole")]
    except FileNotFoundError as error:
        return [_reconciled("files_readable", False, _brief(error), "every file is there")]
    except (duckdb.Error, OSError) as error:
        if "No files found" in str(error) or "No such file" in str(error):
            return [_reconciled("files_readable", False, _brief(error), "every file is there")]
        raise StorageUnavailable(f"the staged files could not be read: {_brief(error)}") from error
    readable = _reconciled("files_readable", True, f"{len(request.staged)} files", "every file is whole")
    return [readable, *_items(connection, request), *_files(connection), *_budgets(connection, request)]


def _read(connection: Connection, request: AuditRequest) -> None:
    """Brings the few columns that decide into tables that DuckDB spills to disk when they grow."""
    texts = (
        "item_id",
        "source_uri",
        "partition",
        "status",
        "reject_operator",
        "reject_reason",
        "reject_message",
        "run_id",
    )
    row = ", ".join(f"{name} VARCHAR" for name in texts) + ", bucket INTEGER"
    names = ", ".join((*texts, "bucket"))
    connection.execute(f"CREATE TEMP TABLE staged ({row}, file VARCHAR)")
    connection.execute("CREATE TEMP TABLE footers (file VARCHAR, rows BIGINT)")
    connection.execute("CREATE TEMP TABLE manifest (item_id VARCHAR, source_uri VARCHAR)")
    connection.execute(
        "CREATE TEMP TABLE untouched (item_id VARCHAR, partition VARCHAR, status VARCHAR, reason VARCHAR)"
    )
    if request.staged:
        connection.execute(f"INSERT INTO staged SELECT {names}, staged_file FROM {rows_of(request.staged)}")
        connection.execute(
            "INSERT INTO footers SELECT file_name, num_rows FROM parquet_file_metadata(?)", [list(request.staged)]
        )
    if request.manifest:
        connection.execute(f"INSERT INTO manifest SELECT item_id, source_uri FROM {rows_of(request.manifest)}")
    if request.untouched:
        connection.execute(
            f"""INSERT INTO untouched SELECT item_id, partition, status, reject_reason FROM {rows_of(request.untouched)}
            WHERE partition IN (SELECT partition FROM staged)"""
        )


def _items(connection: Connection, request: AuditRequest) -> Iterator[Check]:
    def none(name: str, query: str, expected: str) -> Check:
        """Holds where the query, of one text column, finds nothing."""
        found, examples = connection.execute(
            f"SELECT count(*), list(line ORDER BY line)[:{SHOWN}] FROM ({query}) offenders(line)"
        ).fetchall()[0]
        observed = f"{found:,}, such as {'; '.join(map(str, examples))}" if found else "none"
        return _reconciled(name, found == 0, observed, expected)

    def equal(name: str, query: str, number: int, expected: str) -> Check:
        counted = _number(connection, query)
        return _reconciled(name, counted == number, f"{counted:,} rows", f"{number:,} rows: {expected}")

    run = request.run_id.replace("'", "''")
    connection.execute(
        f"CREATE TEMP VIEW mine AS SELECT * FROM staged WHERE run_id = '{run}' AND status IS DISTINCT FROM 'gone'"
    )
    items = _number(connection, "SELECT count(*) FROM manifest")
    yield equal("rows_of_run", "SELECT count(*) FROM mine", items, "the items of the manifest")
    yield none(
        "nothing_lost",
        f"SELECT {ITEM} FROM manifest ANTI JOIN mine USING (item_id)",
        "every item of the manifest has a row of this run",
    )
    yield none(
        "nothing_foreign",
        f"SELECT {ITEM} FROM mine ANTI JOIN manifest USING (item_id)",
        "every row of this run is an item of the manifest",
    )
    yield none(
        "nothing_twice",
        f"SELECT any_value({ITEM}) FROM staged GROUP BY item_id HAVING count(*) > 1",
        "every item_id stands once in the staged files",
    )
    if request.untouched:
        yield none(
            "nothing_twice_elsewhere",
            f"SELECT {ITEM} FROM staged SEMI JOIN untouched USING (item_id)",
            "no staged item_id stands in another cell of its partition",
        )
    rest = "SELECT (SELECT count(*) FROM staged) - (SELECT count(*) FROM mine)"
    yield equal("rows_carried", rest, request.carried, "the rows carried over or marked as gone")
    known = ", ".join(f"'{status}'" for status in Status)
    yield none(
        "statuses_known",
        f"SELECT {ITEM} || ' is ' || coalesce(status, 'null') FROM staged "
        f"WHERE coalesce(status NOT IN ({known}), true)",
        f"rows = {' + '.join(Status)}",
    )
    reasons = ", ".join(f"'{reason}'" for reason in Reason)
    yield none(
        "rejects_explained",
        f"""SELECT {ITEM} || ': operator ' || coalesce(reject_operator, 'null') || ', reason '
            || coalesce(reject_reason, 'null') || ', message ' || coalesce(reject_message, 'null')
        FROM staged WHERE status = 'rejected' AND (coalesce(reject_operator, '') = ''
            OR coalesce(reject_reason NOT IN ({reasons}), true) OR coalesce(reject_message, '') = '')""",
        "every reject has an operator, a known reason and a message",
    )


def _files(connection: Connection) -> Iterator[Check]:
    wrong = connection.execute(
        """SELECT file || ': ' || footers.rows || ' by its footer, ' || coalesce(scanned.rows, 0) || ' scanned'
        FROM footers LEFT JOIN (SELECT file, count(*) AS rows FROM staged GROUP BY file) scanned USING (file)
        WHERE footers.rows <> coalesce(scanned.rows, 0) ORDER BY 1"""
    ).fetchall()
    files = _number(connection, "SELECT count(*) FROM footers")
    observed = "; ".join(line for (line,) in wrong[:SHOWN]) or f"{files} files agree"
    yield _reconciled("footers_agree", not wrong, observed, "rows by the footers = rows in a scan of every file")
    mixed = connection.execute(
        """SELECT file || ': ' || string_agg(DISTINCT cell, ', ' ORDER BY cell) FROM (SELECT *,
            coalesce(partition, 'null') || '/' || coalesce(bucket::VARCHAR, 'null') AS cell FROM staged) GROUP BY file
        HAVING count(DISTINCT (partition, bucket)) > 1 OR count(*) > count(partition) OR count(*) > count(bucket)
        ORDER BY 1"""
    ).fetchall()
    observed = "; ".join(line for (line,) in mixed[:SHOWN]) or f"{files} files of one cell each"
    yield _reconciled("one_cell_a_file", not mixed, observed, "all rows of a file have one partition and bucket")


def _budgets(connection: Connection, request: AuditRequest) -> Iterator[Check]:
    query = """WITH rows AS (
        SELECT partition, status, reject_reason AS reason FROM staged
        UNION ALL SELECT partition, status, reason FROM untouched)
    SELECT partition, count(*) FILTER (status = 'ok'), count(*) FILTER (status = 'rejected'),
        histogram(coalesce(reason, 'no reason')) FILTER (status = 'rejected')
    FROM rows WHERE partition IS NOT NULL GROUP BY partition ORDER BY partition"""
    for partition, ok, rejected, reasons in connection.execute(query).fetchall():
        share = rejected / max(ok + rejected, 1)
        observed = f"{rejected:,} of {ok + rejected:,} rejected ({share:.1%})"
        if rejected:
            common = sorted(reasons.items(), key=lambda reason: (-reason[1], reason[0]))
            observed += ": " + ", ".join(f"{reason} {count:,}" for reason, count in common)
        yield Check(
            name="rejects_within_budget",
            success=rejected < JUDGED_FROM or share <= request.max_rejects,
            observed=observed,
            expected=f"at most {request.max_rejects:.1%}, judged from {JUDGED_FROM} rejects on",
            source="budget",
            partition=partition,
        )


def _reconciled(name: str, success: bool, observed: str, expected: str) -> Check:
    return Check(name, success, observed, expected, "reconciliation")


def _number(connection: Connection, query: str) -> int:
    return int(connection.execute(query).fetchall()[0][0])


def _brief(error: BaseException) -> str:
    """The line that says what happened: the first, or the last error of a Python trace that DuckDB passes on."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    raised = [line for line in lines if re.match(r"[\w.]+: ", line)] if "Traceback" in lines[0] else []
    return (raised or lines)[-1 if raised else 0]
