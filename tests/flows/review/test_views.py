"""What a person must decide, what counts after they did, and what does not count any more."""

from __future__ import annotations

from typing import Any

import pytest
from tests.flows.review_lake import DOCUMENTS, SECOND, fetch, field, page, publish_documents
from tests.flows.small_lake import photo, publish

from swath.flows.ask.query import tables
from swath.flows.review.accuracy import accuracy
from swath.flows.review.desk import Row, Wanted, decide, first_pass_rate, waiting
from swath.infra.lake import Lake
from swath.schemas.corrections import Decision
from swath.schemas.errors import ConfigurationError, QueryError
from swath.schemas.review import Rules


@pytest.fixture
def inbox(warehouse: str) -> str:
    publish_documents(warehouse)
    return warehouse


def open_things(warehouse: str, rules: Rules | None = None) -> dict[tuple[str, str], Row]:
    rows = waiting(warehouse, rules or Rules())
    found = {(row["source_uri"].rpartition("/")[2], row["path"]): row for row in rows}
    assert len(found) == len(rows) == len({row["review_id"] for row in rows})
    return found


def say(warehouse: str, key: str, after: str | None = None, by: str = "anna", **given: Any) -> Row:
    decision = given.pop("decision", Decision.CORRECTED)
    (row,) = decide(warehouse, [Wanted(key, decision, after, by=by, **given)])
    return row


def test_a_row_for_each_thing_to_decide_and_none_for_the_rest(inbox: str) -> None:
    found = open_things(inbox)
    assert {key: row["reason"] for key, row in found.items()} == {
        ("two.pdf", "fields.total"): "low_confidence",
        ("two.pdf", "fields.net"): "failed_check",
        ("two.pdf", "fields.issue_date"): "missing",
        ("two.pdf", "match_status"): "mismatch",
        ("two.pdf", "pages[2].quality_verdict"): "retake",
        ("unknown.png", "match_status"): "unknown",
        ("broken.png", "pages[1].status"): "rejected",
    }
    total = found["two.pdf", "fields.total"]
    assert (total["item_id"], total["page"], total["engine"], total["x_min"]) == (SECOND, 2, "rapidocr 3", 100.0)
    assert total["detail"] == "confidence 0.55 is below 0.80"
    match = found["two.pdf", "match_status"]
    assert (match["field"], match["page"], match["x_min"]) == ("total", 2, 100.0)
    assert match["detail"].startswith("total 12.00, expected 21.00 (-9.00); issuer is missing, expected Nordwind")
    assert found["broken.png", "pages[1].status"]["detail"] == "truncated: the file ends early"


def test_threshold_and_required_fields_are_settable(inbox: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("two.pdf", "fields.total") not in open_things(inbox, Rules(threshold=0.5))
    assert ("unknown.png", "fields.total") in open_things(inbox, Rules(threshold=0.99))
    missing = open_things(inbox, Rules(required=("currency", "notes")))
    assert (
        missing["good.png", "fields.currency"]["reason"] == missing["good.png", "fields.notes"]["reason"] == "missing"
    )
    monkeypatch.setenv("SWATH_REVIEW_THRESHOLD", "0.5")
    monkeypatch.setenv("SWATH_REVIEW_REQUIRED", "currency")
    paths = {row["path"] for row in fetch(inbox, "FROM review")}
    assert "fields.currency" in paths
    assert "fields.total" not in paths


def test_only_the_fields_that_matter_are_asked_about(inbox: str) -> None:
    paths = {path for _, path in open_things(inbox, Rules(fields=("issue_date",), required=("currency",)))}
    assert {path for path in paths if path.startswith("fields.")} == {"fields.issue_date", "fields.currency"}
    assert "match_status" in paths


def test_a_doubtful_description_of_an_item_is_asked_about_only_where_items_are_named(inbox: str) -> None:
    description = ("unknown.png", "fields.line_items[1].description")
    assert description not in open_things(inbox)
    assert description in open_things(inbox, Rules(fields=("line_items",)))


def test_nobody_is_asked_about_a_value_that_agrees_with_the_reference_table(inbox: str) -> None:
    asked = open_things(inbox, Rules(threshold=0.99))
    assert ("good.png", "fields.issuer") in asked
    assert ("good.png", "fields.total") not in asked


def test_the_first_pass_rate_is_that_of_the_documents_and_stays_after_decisions(inbox: str) -> None:
    assert first_pass_rate(inbox, "invoices", "r1", Rules()) == 0.25
    say(inbox, open_things(inbox)["unknown.png", "match_status"]["review_id"], "matched")
    assert fetch(inbox, "SELECT documents, first_pass, first_pass_rate FROM review_rate") == [
        {"documents": 4, "first_pass": 1, "first_pass_rate": 0.25}
    ]
    assert first_pass_rate(inbox, "invoices", "another", Rules()) is None


def test_a_decision_says_who_when_before_after_why_and_on_what(inbox: str) -> None:
    key = open_things(inbox)["two.pdf", "fields.total"]["review_id"]
    say(inbox, key, "21.00", why="the 1 and the 2 are swapped; Robert'); DROP TABLE items;--")
    (row,) = fetch(inbox, "FROM corrections")
    assert row.pop("correction_id")
    assert row.pop("decided_at").year >= 2026
    assert row == {
        **{"decided_by": "anna", "decision": "corrected", "before": "12.00", "after": "21.00", "item_id": SECOND},
        **{"why": "the 1 and the 2 are swapped; Robert'); DROP TABLE items;--", "pipeline": "invoices"},
        **{"object_id": DOCUMENTS[1]["object_id"], "path": "fields.total", "source_uri": "s3://inbox/two.pdf"},
        **{"etag": "e1", "run_id": "r1", "fingerprint": "f1", "machine_value": "12.00", "reason": "low_confidence"},
        **{"document_type": "invoice", "engine": "rapidocr 3", "confidence": pytest.approx(0.55)},
    }
    assert ("two.pdf", "fields.total") not in open_things(inbox)


def test_the_published_value_is_the_corrected_one_and_its_origin_is_visible(inbox: str) -> None:
    found = open_things(inbox)
    say(inbox, found["two.pdf", "fields.total"]["review_id"], "21.00")
    say(inbox, found["two.pdf", "fields.net"]["review_id"], decision=Decision.CONFIRMED)
    say(inbox, found["two.pdf", "match_status"]["review_id"], "matched")
    say(inbox, f"{SECOND}/fields.currency", "EUR")
    rows = fetch(
        inbox, "SELECT name, value, raw_value, origin, decided_by FROM fields WHERE source_uri LIKE '%two.pdf'"
    )
    assert {row.pop("name"): tuple(row.values()) for row in rows} == {
        "total": ("21.00", "12.00", "corrected", "anna"),
        "net": ("10.00", "10.00", "confirmed", "anna"),
        "issue_date": (None, None, "machine", None),
        "currency": ("EUR", None, "corrected", "anna"),
    }
    (document,) = fetch(inbox, "FROM documents WHERE source_uri LIKE '%two.pdf'")
    assert (str(document["total"]), document["currency"], document["to_review"]) == ("21.00", "EUR", 2)
    assert document["corrected_fields"] == ["fields.currency", "fields.total", "match_status"]
    statuses = fetch(inbox, "SELECT match_status FROM items WHERE source_uri LIKE '%two.pdf' ORDER BY page")
    assert [row["match_status"] for row in statuses] == ["matched", None]
    (stored,) = fetch(
        inbox, "SELECT fields[1].value AS v, match_status FROM stored WHERE source_uri LIKE '%two.pdf' AND page = 1"
    )
    assert stored == {"v": "12.00", "match_status": "mismatch"}


def test_the_latest_decision_counts_and_the_earlier_ones_stay(inbox: str) -> None:
    key = open_things(inbox)["two.pdf", "fields.total"]["review_id"]
    say(inbox, key, "22.00", by="bert")
    second = say(inbox, key, "21.00")
    assert second["before"] == "22.00"
    assert second["machine_value"] == "12.00"
    assert [row["after"] for row in fetch(inbox, "SELECT after FROM corrections ORDER BY decided_at")] == [
        "22.00",
        "21.00",
    ]
    (total,) = fetch(inbox, "SELECT value, decided_by FROM fields WHERE name = 'total' AND page = 2")
    assert total == {"value": "21.00", "decided_by": "anna"}


def test_a_decision_on_an_older_version_of_the_document_is_stale_and_does_not_count(warehouse: str) -> None:
    publish_documents(warehouse, [page("a.png", fields=[field("total", "12.00", 0.5)])])
    say(warehouse, waiting(warehouse, Rules())[0]["review_id"], "21.00")
    lake = Lake(warehouse)
    rows = [page("a.png", etag="e2", fields=[field("total", "13.00", 0.5)])]
    lake._catalog.drop_table("swath.invoices")
    publish_documents(warehouse, rows, run_id="r2")
    (again,) = waiting(warehouse, Rules())
    assert (again["value"], again["stale_value"]) == ("13.00", "21.00")
    (total,) = fetch(warehouse, "SELECT value, raw_value, origin, decided_value FROM fields")
    assert total == {"value": "13.00", "raw_value": "13.00", "origin": "stale", "decided_value": "21.00"}
    assert say(warehouse, again["review_id"], decision=Decision.CONFIRMED)["before"] == "13.00"
    assert waiting(warehouse, Rules()) == []


def test_a_decision_outlives_another_pipeline_on_the_same_version(warehouse: str) -> None:
    publish_documents(warehouse, [page("a.png", fields=[field("total", "12.00", 0.5)])])
    say(warehouse, waiting(warehouse, Rules())[0]["review_id"], "21.00")
    Lake(warehouse)._catalog.drop_table("swath.invoices")
    rows = [page("a.png", fingerprint="f2", fields=[field("total", "27.00", 0.5)])]
    publish_documents(warehouse, rows, run_id="r2")
    (total,) = fetch(warehouse, "SELECT value, raw_value, origin FROM fields")
    assert total == {"value": "21.00", "raw_value": "27.00", "origin": "corrected"}
    assert waiting(warehouse, Rules()) == []


@pytest.mark.parametrize(
    ("path", "after", "message"),
    [
        ("fields.total", "12,00", "is a number such as 1234.50; found '12,00'"),
        ("fields.total", "NaN", "is a number"),
        ("fields.line_items[1].amount", "ten", "is a number"),
        ("fields.issue_date", "31.05.2026", "is a date such as 2026-05-31"),
        ("fields.issue_date", "2026-02-30", "is a date"),
        ("fields.issuer", " ", "text of 1 to 2000 characters"),
        ("fields.issuer", "a\x1b[2Jb", "that can be printed"),
        ("match_status", "paid", "is one of matched, mismatch, unknown"),
        ("pages[1].status", "ok", "nothing to decide is called"),
        ("fields.Total'--", "x", "nothing to decide is called"),
        ("source_uri", "x", "nothing to decide is called"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_taken_down(inbox: str, path: str, after: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        say(inbox, f"{SECOND}/{path}", after)
    assert fetch(inbox, "FROM corrections") == []


def test_nothing_can_be_confirmed_where_nothing_is_and_a_verdict_cannot_be_absent(inbox: str) -> None:
    found = open_things(inbox)
    with pytest.raises(ConfigurationError, match="no value to confirm; give one, or say that it is absent"):
        say(inbox, found["two.pdf", "fields.issue_date"]["review_id"], decision=Decision.CONFIRMED)
    with pytest.raises(ConfigurationError, match="cannot be absent"):
        say(inbox, found["two.pdf", "match_status"]["review_id"], decision=Decision.ABSENT)
    say(inbox, found["two.pdf", "fields.issue_date"]["review_id"], decision=Decision.ABSENT)
    assert ("two.pdf", "fields.issue_date") not in open_things(inbox)
    (date,) = fetch(inbox, "SELECT value, origin FROM fields WHERE name = 'issue_date'")
    assert date == {"value": None, "origin": "absent"}


def test_accuracy_is_measured_by_field_type_and_engine(inbox: str) -> None:
    found = open_things(inbox)
    say(inbox, found["two.pdf", "fields.total"]["review_id"], "21.00")
    say(inbox, found["two.pdf", "fields.net"]["review_id"], decision=Decision.CONFIRMED)
    say(inbox, f"{DOCUMENTS[3]['item_id']}/fields.total", "5.00")
    measured = {(row["path"], row["document_type"], row["engine"]): row for row in accuracy(inbox)}
    assert {key: (row["decided"], row["right"], row["accuracy"]) for key, row in measured.items()} == {
        ("fields.total", "invoice", "rapidocr 3"): (1, 0, 0.0),
        ("fields.net", "invoice", "tesserocr 5"): (1, 1, 1.0),
        ("fields.total", "receipt", "tesserocr 5"): (1, 1, 1.0),
    }
    net = measured["fields.net", "invoice", "tesserocr 5"]
    assert (net["low"], net["high"]) == (pytest.approx(0.2065, abs=1e-3), 1.0)  # Wilson, 1 of 1


def test_pipelines_without_anything_to_decide_have_no_review(warehouse: str) -> None:
    publish(warehouse, "photos", [photo("a.jpg")])
    assert "review" not in {one.name for one in tables(warehouse)}
    with pytest.raises(QueryError, match="holds no table with fields or matches to review"):
        waiting(warehouse, Rules())
    publish_documents(warehouse)
    assert len(waiting(warehouse, Rules())) == 7
    with pytest.raises(QueryError, match="no pipeline 'photos' with anything to review; it has invoices"):
        waiting(warehouse, Rules(), pipeline="photos")


def test_two_pipelines_keep_their_decisions_apart(inbox: str) -> None:
    publish_documents(inbox, table="claims")
    say(inbox, open_rows(inbox, "claims")["fields.total"]["review_id"], "21.00")
    assert "fields.total" not in open_rows(inbox, "claims")
    assert "fields.total" in open_rows(inbox, "invoices")
    with pytest.raises(ConfigurationError, match=r"names values of claims and invoices; give its review_id"):
        say(inbox, f"{SECOND}/fields.net", "1")


def open_rows(warehouse: str, pipeline: str) -> dict[str, Row]:
    rows = waiting(warehouse, Rules(), pipeline)
    return {row["path"]: row for row in rows if row["source_uri"].endswith("two.pdf")}
