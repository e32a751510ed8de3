"""Decisions by file (CSV, JSON, Label Studio), there and back; a bad file changes nothing and says where it is bad."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.flows.review_lake import SECOND, fetch, field, page, publish_documents

from swath.flows.review.crops import Crop
from swath.flows.review.desk import Row, decide, waiting
from swath.flows.review.exchange import Format, read, write
from swath.schemas.errors import ConfigurationError
from swath.schemas.review import Rules


@pytest.fixture
def inbox(warehouse: str) -> str:
    publish_documents(warehouse)
    return warehouse


def no_picture(row: Row) -> Crop | None:
    return None


def exported(warehouse: str, format: Format) -> Any:
    text = write(waiting(warehouse, Rules()), format, no_picture)
    return list(csv.DictReader(io.StringIO(text))) if format == "csv" else json.loads(text)


def import_rows(warehouse: str, path: Path, rows: list[Any], format: Format) -> list[Row]:
    if format == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text(json.dumps(rows))
    return decide(warehouse, read(str(path), format, "anna"))


def by_path(rows: list[Row]) -> dict[str, Row]:
    return {row["path"]: row for row in rows if row["source_uri"].endswith("two.pdf")}


@pytest.mark.parametrize("format", ["csv", "json"])
def test_answers_in_an_exported_file_are_taken_down_and_empty_ones_left_aside(
    inbox: str, tmp_path: Path, format: Format
) -> None:
    rows = exported(inbox, format)
    answered = by_path(rows)
    answered["fields.total"]["after"] = "21.00"
    answered["fields.net"] |= {"decision": "confirmed", "by": "bert", "why": "net is right, tax is not"}
    answered["fields.issue_date"]["decision"] = "absent"
    done = import_rows(inbox, tmp_path / f"answers.{format}", rows, format)
    assert {row["path"]: (row["decision"], row["after"], row["decided_by"]) for row in done} == {
        "fields.total": ("corrected", "21.00", "anna"),
        "fields.net": ("confirmed", "10.00", "bert"),
        "fields.issue_date": ("absent", None, "anna"),
    }
    assert len(fetch(inbox, "FROM corrections")) == 3
    assert len(waiting(inbox, Rules())) == len(rows) - 3


def test_a_hand_written_csv_with_semicolons_needs_only_item_path_and_value(inbox: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"\ufeffitem_id;path;decision;after\n{SECOND};fields.total;;21.00\n{SECOND};fields.currency;;EUR\n")
    assert [row["after"] for row in decide(inbox, read(str(path), "csv", "anna"))] == ["21.00", "EUR"]


Spoil = Callable[[list[Row]], None]


def spoiled(spoiled_path: str, /, **values: str) -> Spoil:
    return lambda rows: by_path(rows)[spoiled_path].update(values)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoiled("fields.total", after="12,00"), "line 5: fields.total is a number such as 1234.50; found '12,00'"),
        (spoiled("fields.total", decision="yes"), "line 5: decision 'yes' is not one of confirmed, corrected, absent"),
        (spoiled("fields.total", decision="corrected"), "line 5: corrected, but to what"),
        (spoiled("fields.total", decision="absent", after="1"), "line 5: absent, but `after` is '1'"),
        (spoiled("fields.total", decision="confirmed", after="1"), "line 5: fields.total is confirmed, but '1' is not"),
        (spoiled("fields.total", review_id="gone", after="1"), "line 5: nothing to decide is called 'gone'"),
        (spoiled("fields.total", etag="e0", after="1"), "line 5: s3://inbox/two.pdf is another version by now"),
        (spoiled("fields.total", review_id="", path="", after="1"), "line 5: says not what it is about"),
        (
            lambda rows: rows.append({**by_path(rows)["fields.net"]}),
            "line 9: .* is decided at answers.csv line 4 already",
        ),
    ],
)
def test_one_bad_line_refuses_the_whole_file_and_names_it(
    inbox: str, tmp_path: Path, spoil: Spoil, message: str
) -> None:
    rows = exported(inbox, "csv")
    by_path(rows)["fields.net"]["decision"] = "confirmed"  # a good one
    spoil(rows)
    with pytest.raises(ConfigurationError, match=message):
        import_rows(inbox, tmp_path / "answers.csv", rows, "csv")
    assert fetch(inbox, "FROM corrections") == []


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        ("csv", b"", "line 1: the columns must be review_id"),
        ("csv", b"review_id,after\nx,1\n", "line 1: the columns must be"),
        ("csv", b"review_id,decision,after\nx,,1,2\n", "line 2: more cells than the header has"),
        ("csv", b"review_id,decision,after\nx,1\n", "line 2: fewer cells"),
        ("csv", b'review_id,decision,after\nx,,"1\n', "no CSV"),
        ("csv", b"review_id,decision,after\nx,,\xff\n", "no UTF-8"),
        ("json", b"{", "no JSON"),
        ("json", b"{}", "must be a list of objects"),
        ("json", b"[1]", "must be a list of objects"),
        ("json", b"[" * 100_000, "no JSON"),
        ("json", b'[{"review_id": "x", "after": "1"}]', "entry 1: nothing to decide is called 'x'"),
        ("label-studio", b'[{"annotations": [{}]}]', "entry 1: no task of ours"),
        ("label-studio", b'[{"data": 5, "annotations": [{"result": 7}]}]', "entry 1: no task of ours"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_place(
    inbox: str, tmp_path: Path, format: Format, content: bytes, message: str
) -> None:
    path = tmp_path / "answers"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        decide(inbox, read(str(path), format, "anna"))
    assert fetch(inbox, "FROM corrections") == []


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read(str(tmp_path / "nowhere.csv"), "csv", "anna")


@pytest.mark.parametrize("text", ['=HYPERLINK("http://evil","x")', "+1+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3", "\t=1"])
def test_no_cell_of_an_exported_csv_is_a_formula_and_the_text_survives_the_way_back(
    warehouse: str, tmp_path: Path, text: str
) -> None:
    publish_documents(warehouse, [page("a.png", fields=[field("issuer", text, 0.5), field("net", "-12.50", 0.5)])])
    rows = {row["path"]: row for row in exported(warehouse, "csv")}
    assert rows["fields.issuer"]["value"] == f"'{text}"
    assert rows["fields.net"]["value"] == "-12.50"
    rows["fields.issuer"] |= {"decision": "corrected", "after": rows["fields.issuer"]["value"] + "!"}
    (done,) = import_rows(warehouse, tmp_path / "a.csv", list(rows.values()), "csv")
    assert done["after"] == (text + "!").strip()


@pytest.mark.parametrize("text", ["'; DROP TABLE items; --", "\"; COPY (SELECT 1) TO 'x'", "O'Neill {table} \\"])
def test_what_looks_like_sql_is_text(warehouse: str, tmp_path: Path, text: str) -> None:
    rows = [page("a'b {table}.png", fields=[field("issuer", text, 0.5), field(text, "x", 0.5)])]
    publish_documents(warehouse, rows)
    given = {row["path"]: row for row in exported(warehouse, "json")}
    assert set(given) == {"fields.issuer", f"fields.{text}"}
    given["fields.issuer"] |= {"after": text * 2, "why": text, "by": text}
    given[f"fields.{text}"]["after"] = "y"
    import_rows(warehouse, tmp_path / "a.json", list(given.values()), "json")
    found = fetch(warehouse, "SELECT name, value, raw_value, decided_by FROM fields ORDER BY name = 'issuer' DESC")
    assert [tuple(row.values()) for row in found] == [("issuer", text * 2, text, text), (text, "y", "x", "anna")]
    assert waiting(warehouse, Rules()) == []


# Label Studio


def annotated(task: dict[str, Any], at: str = "2026-05-01T12:00:00Z", **said: Any) -> dict[str, Any]:
    """A task as Label Studio exports it."""
    kinds = {"after": ("textarea", "text"), "why": ("textarea", "text"), "decision": ("choices", "choices")}
    result = [
        {"from_name": name, "to_name": "document", "type": kinds[name][0], "value": {kinds[name][1]: [value]}}
        for name, value in said.items()
    ]
    annotation = {"id": 1, "was_cancelled": False, "created_at": at, "completed_by": 1, "result": result}
    return {"id": 7, **task, "annotations": [*task.get("annotations", []), annotation]}


def test_tasks_of_label_studio_hold_picture_box_and_value(inbox: str) -> None:
    def picture(row: Row) -> Crop:
        return Crop(b"\xff\xd8jpeg", 400, 200, (100.0, 50.0, 300.0, 100.0) if row["x_min"] else None)

    tasks = json.loads(write(waiting(inbox, Rules()), "label-studio", picture))
    task = next(one for one in tasks if one["data"]["path"] == "fields.total")
    assert task["data"]["image"].startswith("data:image/jpeg;base64,")
    assert task["data"]["question"] == "total: low_confidence (confidence 0.55 is below 0.80)"
    text, box = task["predictions"][0]["result"]
    assert text["value"] == {"text": ["12.00"]}
    assert (box["type"], box["original_width"], box["original_height"]) == ("rectanglelabels", 400, 200)
    share = {"x": 25.0, "y": 25.0, "width": 50.0, "height": 25.0, "rotation": 0, "rectanglelabels": ["value"]}
    assert box["value"] == share


def test_annotations_of_label_studio_come_back_as_decisions(inbox: str, tmp_path: Path) -> None:
    tasks = {
        task["data"]["path"]: task for task in exported(inbox, "label-studio") if "two.pdf" in task["data"]["source"]
    }
    first = annotated(tasks["fields.total"], "2026-05-01T12:00:00Z", after="22.00")
    total = annotated(first, "2026-05-01T13:00:00Z", after="21.00", why="swapped")
    net = annotated(tasks["fields.net"], after="10.00")
    net["annotations"][0]["completed_by"] = {"id": 3, "email": "bert@example.com"}
    date = annotated(tasks["fields.issue_date"], decision="absent")
    verdict = annotated(tasks["match_status"], decision="confirmed", after="mismatch")
    retake = annotated(tasks["pages[2].quality_verdict"], after="good")
    retake["annotations"][0]["was_cancelled"] = True
    done = import_rows(inbox, tmp_path / "done.json", [total, net, date, verdict, retake], "label-studio")
    assert {row["path"]: (row["decision"], row["after"], row["decided_by"], row["why"]) for row in done} == {
        "fields.total": ("corrected", "21.00", "anna", "swapped"),
        "fields.net": ("confirmed", "10.00", "bert@example.com", None),
        "fields.issue_date": ("absent", None, "anna", None),
        "match_status": ("confirmed", "mismatch", "anna", None),
    }
