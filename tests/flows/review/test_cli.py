"""`swath review` as a person meets it: from the list to the last decision, and every mistake one sentence."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.flows.review.conftest import Swath
from tests.flows.review.test_crops import BLOCK, sheet
from tests.flows.review_lake import field, page, publish_documents
from tests.operators.kit import png


@pytest.fixture
def inbox(warehouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A warehouse with two doubtful values of one document whose picture is there."""
    (tmp_path / "a.png").write_bytes(png(sheet()))
    fields = [field("total", "12.00", 0.5, box=BLOCK), field("issuer", "[bold]Acme", 0.4), field("net", "10.00")]
    publish_documents(warehouse, [page(f"file://{tmp_path}/a.png", document_type="invoice", fields=fields)])
    monkeypatch.setenv("SWATH_WAREHOUSE", warehouse)
    monkeypatch.setenv("SWATH_USER", "anna")
    monkeypatch.chdir(tmp_path)
    return warehouse


def test_from_the_list_to_nothing_left(inbox: str, swath: Swath, tmp_path: Path) -> None:
    code, text, _ = swath("review", "list")
    assert code == 0
    assert "2 to decide in 1 document\n" in text
    assert "[bold]Acme" in text
    rows = json.loads(swath("review", "list", "--json")[1])
    assert [(row["path"], row["reason"]) for row in rows] == [
        ("fields.issuer", "low_confidence"),
        ("fields.total", "low_confidence"),
    ]
    first = json.loads(swath("review", "next", "--json", "--crop", "look.jpg")[1])
    assert first["review_id"] == rows[0]["review_id"]
    assert (tmp_path / "look.jpg").read_bytes().startswith(b"\xff\xd8")
    assert f"swath review decide {rows[1]['review_id']}" in swath("review", "next", "--skip", "1")[1]
    code, text, _ = swath("review", "decide", rows[0]["review_id"], "--value", "Acme Corp", "--why", "no markup")
    assert (code, "[bold]Acme is now Acme Corp" in text) == (0, True)
    done = json.loads(swath("review", "decide", rows[1]["review_id"], "--confirm", "--json")[1])
    assert (done["decision"], done["before"], done["after"], done["decided_by"]) == (
        "confirmed",
        "12.00",
        "12.00",
        "anna",
    )
    assert swath("review", "next")[1].strip() == "nothing to decide"
    assert json.loads(swath("review", "next", "--json")[1]) is None
    measured = json.loads(swath("review", "accuracy", "--json")[1])
    assert {row["path"]: (row["decided"], row["right"]) for row in measured} == {
        "fields.issuer": (1, 0),
        "fields.total": (1, 1),
    }
    assert "fields.total" in swath("review", "accuracy")[1]


def test_out_as_csv_and_back(inbox: str, swath: Swath, tmp_path: Path) -> None:
    assert swath("review", "export", "doubtful.csv")[0] == 0
    rows = list(csv.DictReader((tmp_path / "doubtful.csv").open()))
    assert len(rows) == 2
    assert list(rows[0])[8:12] == ["decision", "after", "why", "by"]  # beside what they are about
    for row in rows:
        row["decision"] = "confirmed"
    with (tmp_path / "doubtful.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    told = json.loads(swath("review", "import", "doubtful.csv", "--json")[1])
    assert told == {"decided": 2, "confirmed": 2, "corrected": 0, "absent": 0}
    assert swath("review", "list")[1].strip() == "nothing to decide"


def test_out_for_label_studio_with_pictures_and_its_interface(inbox: str, swath: Swath, tmp_path: Path) -> None:
    done = swath("review", "export", "tasks.json", "--format", "label-studio", "--label-config", "labels.xml", "--json")
    assert json.loads(done[1]) == {"written": 2, "destination": "tasks.json"}
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert all(task["data"]["image"].startswith("data:image/jpeg") for task in tasks)
    config = (tmp_path / "labels.xml").read_text()
    assert all(f'value="${name}"' in config for name in ("question", "image", "source"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["decide", "nothing", "--confirm"], "nothing to decide is called 'nothing'"),
        (["decide", "x"], "say one of --value VALUE, --confirm and --absent"),
        (["decide", "x", "--confirm", "--absent"], "say one of"),
        (["list", "--reason", "because"], "there is no reason 'because'; they are missing, failed_check"),
        (["list", "--require", "Total!"], "'Total!' is no name of a field"),
        (["list", "--pipeline", "x'; --"], "no pipeline"),
        (["export", "answers.txt"], "say with --format what kind of file it is"),
        (["import", "nowhere.csv"], "nowhere.csv: cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_remedy(
    inbox: str, swath: Swath, arguments: list[str], message: str
) -> None:
    code, text, errors = swath("review", *arguments)
    assert (code, text) == (2, "")
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["list", "next", "decide", "export", "import", "accuracy"])
def test_help_is_there_with_examples(swath: Swath, command: str) -> None:
    code, text, _ = swath("review", command, "--help")
    assert code == 0
    assert f"swath review {command}" in text.split("Example")[1]
