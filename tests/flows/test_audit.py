"""The audit holds back every kind of broken wave, by name, and lets a whole one pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from swath.flows.audit.gate import SKIPPED, audit
from swath.flows.audit.page import _histogram
from swath.flows.audit.suites import load_suites, shipped_suites
from swath.flows.audit.worker import AuditClient, serve
from swath.schemas.checks import CHECKS, AuditReport, AuditRequest, Check
from swath.schemas.columns import schema_of
from swath.schemas.errors import ConfigurationError, RunFailed, StorageUnavailable, SwathError
from swath.schemas.items import MANIFEST, VERDICT, item_id, object_id
from swath.schemas.types import LINES

RUN = "run-7"
PIXELS = [
    pa.field("width_px", pa.int32()),
    pa.field("sharpness", pa.float64()),
    pa.field("captured_at", pa.timestamp("us", tz="UTC")),
    pa.field("lines", LINES),
]
SCHEMA = pa.schema([*schema_of((*MANIFEST, *VERDICT)), *PIXELS])
Row = dict[str, Any]


def row(number: int, **changes: Any) -> Row:
    """A row as the pipeline stages it; every fourth item stands in partition b."""
    uri = f"s3://bucket/photo {number}.jpg"
    values: Row = dict.fromkeys(SCHEMA.names)
    values |= {"item_id": item_id(uri), "object_id": object_id(uri), "source_uri": uri, "size_bytes": 1000}
    values |= {"partition": "b" if number % 4 == 0 else "a", "bucket": 0, "status": "ok", "run_id": RUN, "wave": 3}
    values |= {"width_px": 640, "sharpness": number / 10, "captured_at": datetime(2024, 5, 1, 12, tzinfo=UTC)}
    values |= {"lines": [{"text": "total 12.00", "confidence": 0.9, "box": None, "words": []}]}
    return values | changes


def rejected(number: int, **changes: Any) -> Row:
    verdict = {
        "status": "rejected",
        "reject_operator": "decode",
        "reject_reason": "corrupt",
        "reject_message": "no end",
    }
    return row(number, width_px=None, sharpness=None, lines=None, **{**verdict, **changes})


class Wave:
    """Staged files of one wave in a folder, one file a cell, and the request to audit them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = [row(number) for number in range(40)]
        self.manifest = [item_id(f"s3://bucket/photo {number}.jpg") for number in range(40)]
        self.options: dict[str, Any] = {}

    def file(self, name: str, rows: list[Row]) -> str:
        path = self.folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
        return f"file://{path}"

    def request(self, **options: Any) -> AuditRequest:
        cells: dict[tuple[str, int], list[Row]] = {}
        for values in self.rows:
            cells.setdefault((values["partition"], values["bucket"]), []).append(values)
        staged = [self.file(f"cell {partition} {bucket}", rows) for (partition, bucket), rows in cells.items()]
        manifest = self.folder / "manifest.parquet"
        pq.write_table(
            pa.table({"item_id": self.manifest, "source_uri": [f"s3://bucket/{n}" for n in range(len(self.manifest))]}),
            manifest,
        )
        given = {"run_id": RUN, "wave": 3, "staged": staged, "manifest": [str(manifest)], "base": str(self.folder)}
        return AuditRequest(**{**given, **self.options, **options})

    def suite(self, *expectations: str, rows: str = "ok", name: str = "mine") -> str:
        lines = [f"name: {name}", f"meta: {{rows: {rows}}}", "expectations:", *(f"  - {text}" for text in expectations)]
        (self.folder / f"{name}.yaml").write_text("\n".join(lines))
        return f"{name}.yaml"


@pytest.fixture
def wave(tmp_path: Path) -> Wave:
    return Wave(tmp_path)


def failures(report: AuditReport) -> set[str]:
    return {check.name for check in report.failed}


def found(report: AuditReport, name: str, partition: str | None = None) -> Check:
    (check,) = [check for check in report.checks if (check.name, check.partition) == (name, partition)]
    return check


# Reconciliation


def test_a_whole_wave_passes_every_check(wave: Wave) -> None:
    wave.rows[5] = rejected(5)
    wave.rows += [row(90, run_id="run-6"), row(91, status="gone", run_id="run-2")]
    report = audit(wave.request(carried=2))
    assert report.success
    assert all(check.success for check in report.checks)
    assert {check.name for check in report.checks} == {
        "files_readable", "rows_of_run", "nothing_lost", "nothing_foreign", "nothing_twice", "rows_carried",
        "statuses_known", "rejects_explained", "footers_agree", "one_cell_a_file", "rejects_within_budget",
    }  # fmt: skip


def test_an_object_that_this_run_marked_as_gone_is_no_item_of_it(wave: Wave) -> None:
    wave.rows.append(row(91, status="gone"))
    assert audit(wave.request(carried=1)).success


def lost(wave: Wave) -> None:
    del wave.rows[7]


def foreign(wave: Wave) -> None:
    wave.rows[7] = row(777)


def doubled(wave: Wave) -> None:
    wave.rows.append(row(7))


def doubled_by_a_carried_row(wave: Wave) -> None:
    wave.rows.append(row(7, run_id="run-6"))
    wave.options["carried"] = 1


def carried_row_lost(wave: Wave) -> None:
    wave.options["carried"] = 1


def status_unknown(wave: Wave) -> None:
    wave.rows[7]["status"] = "fine"


def status_null(wave: Wave) -> None:
    wave.rows[7]["status"] = None


def no_reason(wave: Wave) -> None:
    wave.rows[7] = rejected(7, reject_reason=None)


def invented_reason(wave: Wave) -> None:
    wave.rows[7] = rejected(7, reject_reason="mood")


def no_operator(wave: Wave) -> None:
    wave.rows[7] = rejected(7, reject_operator=None)


def no_message(wave: Wave) -> None:
    wave.rows[7] = rejected(7, reject_message="")


def nameless(wave: Wave) -> None:
    wave.rows[7]["item_id"] = None


@pytest.mark.parametrize(
    ("break_it", "names"),
    [
        (lost, {"nothing_lost", "rows_of_run"}),
        (foreign, {"nothing_lost", "nothing_foreign"}),
        (doubled, {"nothing_twice", "rows_of_run"}),
        (doubled_by_a_carried_row, {"nothing_twice"}),
        (carried_row_lost, {"rows_carried"}),
        (status_unknown, {"statuses_known"}),
        (status_null, {"statuses_known"}),
        (no_reason, {"rejects_explained"}),
        (invented_reason, {"rejects_explained"}),
        (no_operator, {"rejects_explained"}),
        (no_message, {"rejects_explained"}),
        (nameless, {"nothing_lost", "nothing_foreign"}),
    ],
)
def test_what_is_broken_is_found_by_name(wave: Wave, break_it: Callable[[Wave], None], names: set[str]) -> None:
    break_it(wave)
    report = audit(wave.request())
    assert not report.success
    assert failures(report) == names


def test_a_message_names_the_offender(wave: Wave) -> None:
    doubled(wave)
    observed = found(audit(wave.request()), "nothing_twice").observed
    assert observed == f"1, such as s3://bucket/photo 7.jpg (item {row(7)['item_id']})"


def test_an_item_that_stands_in_another_cell_of_its_partition_is_found(wave: Wave) -> None:
    untouched = wave.file("published", [row(7, bucket=1, run_id="run-1"), row(200, bucket=1, run_id="run-1")])
    report = audit(wave.request(untouched=[untouched]))
    assert failures(report) == {"nothing_twice_elsewhere"}


def test_a_file_with_two_cells_is_found(wave: Wave) -> None:
    one, two = wave.rows[:20], [{**values, "bucket": 1} for values in wave.rows[20:]]
    for values in (*one, *two):
        values["partition"] = "a"
    report = audit(wave.request(staged=[wave.file("mixed", one + two)]))
    assert failures(report) == {"one_cell_a_file"}
    assert "a/0, a/1" in found(report, "one_cell_a_file").observed


def test_a_row_without_a_partition_is_found(wave: Wave) -> None:
    report = audit(wave.request(staged=[wave.file("loose", [{**wave.rows[0], "partition": None}, *wave.rows[1:]])]))
    assert "one_cell_a_file" in failures(report)


def test_a_footer_that_lies_about_its_rows_is_found(wave: Wave) -> None:
    request = wave.request()
    path = Path(request.staged[0].removeprefix("file://"))
    rows = pq.read_metadata(path).num_rows
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    count = re.compile(rb"\x16" + bytes([2 * rows]) + rb"\x19")  # field num_rows, a zigzag varint, then row_groups
    (place,) = [match.start() + 1 for match in count.finditer(content, footer)][:1]
    path.write_bytes(content[:place] + bytes([2 * (rows - 1)]) + content[place + 1 :])
    assert pq.read_metadata(path).num_rows == rows - 1
    assert failures(audit(request)) == {"footers_agree"}


def test_a_staged_file_that_is_cut_off_fails_the_audit(wave: Wave) -> None:
    request = wave.request()
    path = Path(request.staged[0].removeprefix("file://"))
    path.write_bytes(path.read_bytes()[:-100])
    assert failures(audit(request)) == {"files_readable"}


def test_a_staged_file_that_is_not_there_fails_the_audit(wave: Wave) -> None:
    assert failures(audit(wave.request(staged=[str(wave.folder / "none.parquet")]))) == {"files_readable"}


def test_an_object_store_that_does_not_answer_is_no_verdict(wave: Wave, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
        "ENDPOINT_URL": "http://127.0.0.1:9",
        "MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(StorageUnavailable, match="could not be read"):
        audit(wave.request(staged=["s3://bucket/cell.parquet"]))


def test_a_wave_whose_cells_became_empty_passes(wave: Wave) -> None:
    wave.rows, wave.manifest = [], []
    assert audit(wave.request()).success
    assert failures(audit(wave.request(carried=1))) == {"rows_carried"}


# Error budgets


def with_rejects(wave: Wave, number: int) -> None:
    """Rejects in partition a, which has 30 items."""
    numbers = [n for n in range(40) if n % 4][:number]
    for n in numbers:
        wave.rows[n] = rejected(n)


def test_four_rejects_are_not_judged_and_five_are(wave: Wave) -> None:
    with_rejects(wave, 4)
    assert audit(wave.request()).success
    with_rejects(wave, 5)
    report = audit(wave.request())
    assert failures(report) == {"rejects_within_budget"}
    assert found(report, "rejects_within_budget", "a").observed == "5 of 30 rejected (16.7%): corrupt 5"
    assert found(report, "rejects_within_budget", "b").success


def test_the_budget_is_the_requests(wave: Wave) -> None:
    with_rejects(wave, 6)
    assert audit(wave.request(max_rejects=0.2)).success
    assert not audit(wave.request(max_rejects=0.199)).success


def test_the_budget_is_judged_on_the_partition_as_it_will_stand(wave: Wave) -> None:
    with_rejects(wave, 5)
    rest = wave.file("published a", [row(1000 + n, partition="a", bucket=1, run_id="run-1") for n in range(300)])
    assert audit(wave.request(untouched=[rest])).success
    with_rejects(wave, 0)
    wave.rows = [row(n) for n in range(40)]
    bad = wave.file("published a", [rejected(1000 + n, partition="a", bucket=1, run_id="run-1") for n in range(5)])
    assert failures(audit(wave.request(untouched=[bad]))) == {"rejects_within_budget"}


def test_gone_rows_do_not_thin_out_rejects(wave: Wave) -> None:
    with_rejects(wave, 5)
    wave.rows += [row(500 + n, partition="a", status="gone") for n in range(400)]
    assert failures(audit(wave.request(carried=400))) == {"rejects_within_budget"}


# Expectations

POSITIVE = "{type: expect_column_values_to_be_between, kwargs: {column: sharpness, min_value: 0}}"


def test_a_value_out_of_range_holds_the_wave_back_and_names_its_file(wave: Wave) -> None:
    suite = wave.suite(POSITIVE)
    assert audit(wave.request(expectations=[suite])).success
    wave.rows[9]["sharpness"] = -2.5
    report = audit(wave.request(expectations=[suite]))
    assert failures(report) == {"mine.sharpness.values_to_be_between"}
    check = found(report, "mine.sharpness.values_to_be_between")
    assert check.observed == "1 of 40 unexpected (2.50%), such as -2.5 in s3://bucket/photo 9.jpg"
    assert check.expected == "sharpness values must be greater than or equal to 0."


def test_a_warning_is_told_and_holds_nothing_back(wave: Wave) -> None:
    wave.rows[9]["sharpness"] = -2.5
    report = audit(wave.request(expectations=[wave.suite(POSITIVE.replace("type", "severity: warning, type"))]))
    assert report.success
    assert not found(report, "mine.sharpness.values_to_be_between").success


def test_a_column_that_the_pipeline_lacks_is_a_warning(wave: Wave) -> None:
    suite = wave.suite("{type: expect_column_values_to_not_be_null, kwargs: {column: phash}}", POSITIVE)
    report = audit(wave.request(expectations=[suite]))
    assert report.success
    check = found(report, "mine.phash.values_to_not_be_null")
    assert (check.success, check.severity, check.observed) == (False, "warning", SKIPPED)
    assert found(report, "mine.sharpness.values_to_be_between").success


def test_a_suite_may_ask_that_a_column_exists(wave: Wave) -> None:
    exists = "{{type: expect_column_to_exist, kwargs: {{column: {}}}}}"
    assert audit(wave.request(expectations=[wave.suite(exists.format("width_px"))])).success
    report = audit(wave.request(expectations=[wave.suite(exists.format("phash"))]))
    assert failures(report) == {"mine.phash.to_exist"}


def test_a_suite_judges_the_rows_it_names(wave: Wave) -> None:
    filled = "{type: expect_column_values_to_not_be_null, kwargs: {column: sharpness}}"
    wave.rows[5] = rejected(5)
    wave.rows.append(row(90, run_id="run-6", width_px=None))
    width = filled.replace("sharpness", "width_px")
    for rows, bad in {"ok": set(), "run": {"mine.sharpness.values_to_not_be_null"}}.items():
        assert failures(audit(wave.request(carried=1, expectations=[wave.suite(filled, rows=rows)]))) == bad
    everything = audit(wave.request(carried=1, expectations=[wave.suite(width, rows="all")]))
    assert found(everything, "mine.width_px.values_to_not_be_null").observed.startswith("2 of 41")


def test_a_nested_column_is_judged_by_its_length(wave: Wave) -> None:
    suite = wave.suite("{type: expect_column_values_to_be_between, kwargs: {column: lines_count, min_value: 1}}")
    assert audit(wave.request(expectations=[suite])).success
    wave.rows[3]["lines"] = []
    assert failures(audit(wave.request(expectations=[suite]))) == {"mine.lines_count.values_to_be_between"}


def test_a_date_in_a_suite_is_a_date(wave: Wave) -> None:
    since = "{type: expect_column_values_to_be_between, kwargs: {column: captured_at, min_value: 1990-01-01 00:00:00}}"
    assert audit(wave.request(expectations=[wave.suite(since)])).success
    wave.rows[3]["captured_at"] = datetime(1970, 1, 1, tzinfo=UTC)
    assert failures(audit(wave.request(expectations=[wave.suite(since)]))) == {"mine.captured_at.values_to_be_between"}


def test_a_condition_may_name_a_column_that_no_expectation_does(wave: Wave) -> None:
    suite = wave.suite(
        '{type: expect_column_values_to_be_between, kwargs: {column: sharpness, min_value: 1, '
        'row_condition: width_px > 1000, condition_parser: pandas}}'
    )  # fmt: skip
    assert audit(wave.request(expectations=[suite])).success
    wave.rows[0]["width_px"] = 2000
    assert failures(audit(wave.request(expectations=[suite]))) == {"mine.sharpness.values_to_be_between"}


def test_an_expectation_that_cannot_be_judged_fails(wave: Wave) -> None:
    suite = wave.suite("{type: expect_column_values_to_match_regex, kwargs: {column: width_px, regex: '('}}")
    report = audit(wave.request(expectations=[suite]))
    assert not report.success
    assert "could not be judged" in found(report, "mine.width_px.values_to_match_regex").observed


def test_more_rows_than_fit_are_sampled_and_the_check_says_so(wave: Wave) -> None:
    report = audit(wave.request(expectations=[wave.suite(POSITIVE)], sample_rows=10))
    observed = found(report, "mine.sharpness.values_to_be_between").observed
    assert observed == "0 of 10 unexpected (0.00%); a sample of 10 of 40 rows"


def test_a_wave_without_an_accepted_item_is_not_judged_by_the_suite(wave: Wave) -> None:
    wave.rows = [rejected(n) for n in range(40)]
    report = audit(wave.request(expectations=[wave.suite(POSITIVE)], max_rejects=1))
    assert report.success
    assert found(report, "mine.sharpness.values_to_be_between").observed == "no rows to judge"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name: [", "is no YAML"),
        ("just words", "is no suite"),
        ("name: x\nexpectations: []", "expectations"),
        ("name: x\nexpectations: [{type: expect_x}]", "expectations.0.kwargs: Field required"),
        ("name: x\nmeta: {rows: some}\nexpectations: [{type: expect_x, kwargs: {}}]", "meta.rows"),
    ],
)
def test_a_broken_suite_is_refused_with_file_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=re.escape(reason)) as raised:
        load_suites(["broken.yaml"], tmp_path)
    assert str(tmp_path / "broken.yaml") in str(raised.value)


def test_a_suite_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no_such.*photos"):
        load_suites(["no_such"], tmp_path)


@pytest.mark.parametrize(
    "expectation",
    [
        "{type: expect_column_values_to_be_nice, kwargs: {column: sharpness}}",
        "{type: expect_column_values_to_be_between, kwargs: {column: sharpness, minimum: 0}}",
    ],
)
def test_an_expectation_that_great_expectations_does_not_know_is_refused(wave: Wave, expectation: str) -> None:
    with pytest.raises(ConfigurationError, match=r"suite 'mine', expect_column_values_to_be_\w+ of sharpness"):
        audit(wave.request(expectations=[wave.suite(expectation)]))


TAKEN = datetime(2024, 5, 1, 12, tzinfo=UTC)
SOUND: dict[str, Any] = {
    "page": 1, "format": "jpeg", "width_px": 640, "height_px": 480, "orientation": 6,
    "sharpness": 0.4, "brightness": 0.5, "contrast": 0.2, "noise": 0.01, "clipped_fraction": 0.0,
    "quality_verdict": "good", "quality_reasons": [], "captured_at": TAKEN, "latitude": 52.5, "longitude": 13.4,
    "altitude_m": 80.0, "focal_length_mm": 4.5, "phash": "0f" * 8, "page_skew_deg": -1.5,
    "page_orientation_deg": 180, "document_type_confidence": 0.9, "lines": ["total 12.00"],
    "text": "total 12.00", "ocr_confidence": 0.9, "ocr_engine": "tesserocr", "exg_mean": 0.3, "vari_mean": 0.1,
    "vegetation_fraction": 0.4, "segments": ["vegetation"], "camera_pitch_degrees": -90.0, "gsd_m": 0.02,
    "footprint": b"WKB", "raster_width_px": 5000, "raster_height_px": 4000, "dtype": "uint8", "band_roles": ["red"],
    "skipped": "empty", "valid_fraction": 0.0, "band_residual_px": 0.3, "calibrated": True, "calibrated_by": "panel",
}  # fmt: skip
IMPOSSIBLE: dict[str, list[Any]] = {
    "page": [0], "width_px": [0], "height_px": [-1], "orientation": [9], "sharpness": [-0.1], "brightness": [1.2],
    "contrast": [0.6], "noise": [-1.0], "clipped_fraction": [1.1], "quality_verdict": ["good", "poor", "fair"],
    "quality_reasons": [["too_dark"], [], []], "captured_at": [datetime(1970, 1, 1, tzinfo=UTC)], "latitude": [91.0],
    "longitude": [181.0], "altitude_m": [99999.0], "focal_length_mm": [0.0], "phash": ["0F" * 8],
    "page_skew_deg": [90.0], "page_orientation_deg": [45],
    "document_type_confidence": [1.2], "lines": [[]],
    "ocr_confidence": [1.5, -3.0], "exg_mean": [3.0], "vari_mean": [-2.0],
    "vegetation_fraction": [1.01], "segments": [[]], "camera_pitch_degrees": [-400.0], "gsd_m": [0.0],
    "raster_width_px": [0], "raster_height_px": [0], "band_roles": [[]], "skipped": ["empty", "rain"],
    "valid_fraction": [1.5], "band_residual_px": [3.0], "calibrated": [False], "calibrated_by": ["guess"],
}  # fmt: skip


@pytest.mark.parametrize("name", shipped_suites())
def test_every_expectation_of_a_shipped_suite_holds_for_sound_values_and_fails_for_others(
    wave: Wave, name: str
) -> None:
    base = pq.read_table(wave.file("base", wave.rows).removeprefix("file://")).drop_columns(
        [name for name in SCHEMA.names if name in SOUND]
    )
    manifest = wave.request().manifest

    def judged(values: dict[str, list[Any]]) -> dict[str, bool]:
        table = base
        for column, cycle in values.items():
            kind = pa.array([["text"] if SOUND[column] == [] else SOUND[column]]).type
            filled = pa.array([cycle[n % len(cycle)] for n in range(len(base))], kind)
            table = table.append_column(column, filled)
        cells = []
        for partition in ("a", "b"):
            path = wave.folder / f"{partition}.parquet"
            pq.write_table(table.filter(pc.field("partition") == partition), path)
            cells.append(str(path))
        report = audit(AuditRequest(run_id=RUN, wave=3, staged=cells, manifest=manifest, expectations=[name]))
        return {check.name: check.success for check in report.checks if check.source == "expectations"}

    sound = judged({column: [value] for column, value in SOUND.items()})
    assert len(sound) == len(load_suites([name])[0].expectations)
    assert [name for name, success in sound.items() if not success] == []
    empty = judged({column: [None] for column in SOUND})
    impossible = judged({column: IMPOSSIBLE.get(column, [value]) for column, value in SOUND.items()})
    assert [name for name in sound if empty[name] and impossible[name]] == []


# Report and page


def test_a_report_survives_json_and_becomes_rows(wave: Wave) -> None:
    doubled(wave)
    report = audit(wave.request(expectations=[wave.suite(POSITIVE)]))
    assert AuditReport.from_json(report.to_json()) == report
    assert report.table().schema == schema_of(CHECKS)
    assert report.table().num_rows == len(report.checks)


@pytest.mark.parametrize(
    "numbers", [[100.0, np.nextafter(100.0, 101.0)], [0.0, 0.0], [-5.0], [1e17, 1e17 + 16], [0, 1e300]]
)
def test_a_histogram_of_as_good_as_one_value_is_drawn(numbers: list[float]) -> None:
    assert _histogram(np.array(numbers)).count("<rect") in (1, 2)


def test_the_page_needs_no_network_and_escapes_what_it_shows(wave: Wave) -> None:
    wave.rows[9] |= {"sharpness": -2.5, "source_uri": "s3://bucket/<script>alert(1)</script>.jpg"}
    report = audit(wave.request(expectations=[wave.suite(POSITIVE)], docs=str(wave.folder / "docs")))
    assert report.docs == f"file://{wave.folder}/docs/{RUN}/wave-00003.html"
    html = Path(report.docs.removeprefix("file://")).read_text()
    assert "Failed: nothing is published" in html
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"(src|href)=|url\(|@import|https?:", html)


def test_nothing_is_written_to_the_working_folder_or_printed(
    wave: Wave,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    capfd: pytest.CaptureFixture[str],
) -> None:
    empty = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(empty)
    audit(wave.request(expectations=[wave.suite(POSITIVE)]))
    assert list(empty.iterdir()) == []
    assert capfd.readouterr() == ("", "")


# The worker


@pytest.fixture(scope="module")
def client() -> Iterator[AuditClient]:
    with AuditClient.start() as started:
        yield started


def test_the_worker_gives_the_report_that_the_function_gives(wave: Wave, client: AuditClient) -> None:
    doubled(wave)
    request = wave.request(expectations=[wave.suite(POSITIVE)])
    assert client.audit(request).checks == audit(request).checks


def test_an_error_in_the_worker_comes_back_as_itself(wave: Wave, client: AuditClient) -> None:
    with pytest.raises(ConfigurationError, match="no_such"):
        client.audit(wave.request(expectations=["no_such.yaml"]))
    assert client.audit(wave.request()).success


def test_a_worker_that_was_killed_is_started_again_once(wave: Wave, client: AuditClient) -> None:
    assert client.audit(wave.request()).success
    first = client.pid
    assert first is not None
    psutil.Process(first).kill()
    assert client.audit(wave.request()).success
    assert client.pid not in (None, first)


def test_a_worker_that_hangs_is_left_for_another_one(
    wave: Wave, client: AuditClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.audit(wave.request()).success
    assert client.pid is not None
    hung = psutil.Process(client.pid)
    hung.suspend()
    patience = "swath.flows.audit.worker.ANSWER_S"
    monkeypatch.setattr(patience, 5)
    later = threading.Timer(2, monkeypatch.setattr, (patience, 250))  # when it has been asked, and no other is there
    later.start()
    assert client.audit(wave.request()).success
    assert not hung.is_running()


def test_a_worker_that_dies_again_and_again_fails_the_run(
    wave: Wave, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "great_expectations.py").write_text("raise SystemExit('no expectations today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with AuditClient.start() as doomed, pytest.raises(RunFailed, match="no expectations today"):
        doomed.audit(wave.request())


def test_a_warm_worker_is_used_and_left_alone(wave: Wave, tmp_path: Path, client: AuditClient) -> None:
    socket = client.socket
    with AuditClient.start(socket) as guest:
        assert guest.pid is None
        assert guest.audit(wave.request()).success
    assert client.audit(wave.request()).success
    assert socket.stat().st_mode & 0o777 == 0o600
    assert socket.parent.stat().st_mode & 0o777 == 0o700


def test_a_warm_worker_with_another_environment_is_not_used(
    wave: Wave, client: AuditClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with AuditClient.start(client.socket) as own:
        assert own.pid is not None


def test_close_ends_what_was_started(tmp_path: Path) -> None:
    client = AuditClient.start()
    process = psutil.Process(client.pid)
    client.close()
    assert not process.is_running()
    assert not client.socket.parent.exists()


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    script = "from swath.flows.audit.worker import AuditClient; print(AuditClient.start().pid); import os; os._exit(1)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.1)


def test_a_socket_that_others_could_reach_is_refused(tmp_path: Path) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    os.chmod(open_folder, 0o755)
    with pytest.raises(SwathError, match="0700"):
        serve(open_folder / "audit.sock")


def test_a_socket_with_too_long_a_name_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match="too long"):
        serve(folder / "audit.sock")
