"""Templates and types of users: what they may say, and how errors in them are told."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from textwrap import dedent

import pytest
from tests.operators.documents.papers import TODAY, line, page

from swath.operators.documents.document_type import load_types
from swath.operators.documents.fields import ExtractFields
from swath.operators.documents.rules import Rule
from swath.operators.documents.templates import load_templates
from swath.schemas.errors import ConfigurationError

OWN = """
type: delivery_note
extends: default
fields:
  delivery_number: {type: identifier, labels: [delivery note no, liefer*], shape: 'DN-(\\d{6})', required: true}
  weight: {type: number, labels: {en: [gross weight], de: [bruttogewicht]}}
  net_weight: {type: number, labels: [net weight]}
  driver: {type: text, labels: [driver]}
  seal: {type: identifier, shape: 'S[0-9]{4}X', where: [anywhere]}
checks:
  gross_above_net: weight >= net_weight
"""


def written(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(dedent(text), encoding="utf-8")
    return str(path)


def test_a_template_of_ones_own_finds_its_fields_on_papers_of_its_type(tmp_path: Path) -> None:
    operator = ExtractFields(templates=(written(tmp_path, OWN),), latest_date=TODAY)
    operator.check()
    lines = [
        line(60, 60, "Delivery Note No: DN-004711"),
        *[line(60, 120, "Gross weight"), line(400, 120, "12.5 kg"), line(60, 160, "Net weight"), line(400, 160, "13")],
        *[line(60, 200, "Driver: Ann Onymous"), line(60, 240, "sealed with S1234X today")],
    ]
    one = page(lines)
    batch = {name: [value] for name, value in one.items()}
    rows = operator.run(batch | {"document_type": ["delivery_note"]}, operator.load())["fields"][0]
    found = {row["name"]: row for row in rows}
    assert found["delivery_number"]["value"] == "004711", "the group of the shape is the value"
    assert (found["weight"]["value"], found["driver"]["value"]) == ("12.5", "Ann Onymous")
    assert found["seal"]["value"] == "S1234X"
    assert found["weight"]["failed_checks"] == ["gross_above_net"]
    assert "total" in found, "what it extends is looked for too"
    others = operator.run(batch | {"document_type": ["invoice"]}, operator.load())["fields"][0]
    assert "delivery_number" not in {row["name"] for row in others}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type: a\nfields:\n  n:\n    type: amout\n", r"own\.yaml:4: fields\.n\.type: Input should be"),
        ("type: a\nfields:\n  n: {type: text, label: [x]}\n", r"own\.yaml:3: fields\.n\.label: unknown field"),
        (
            "type: a\nfields:\n  n:\n    type: identifier\n    shape: '(a'\n",
            r"own\.yaml:5: .*no pattern that RE2 takes",
        ),
        ("type: a\nfields:\n  n:\n    type: text\n", r"own\.yaml:3: .*give `labels:`"),
        ("type: a\nfields:\n  N: {type: amount}\n", r"own\.yaml:\d: .*small letters"),
        ("type: a\nfields:\n  n: {type: amount, labels: ['!']}\n", r"own\.yaml:3: .*neither letter nor digit"),
        ("type: a\nfields:\n  n: {type: amount, labels: [true]}\n", r"own\.yaml:3: .*put it in quotes"),
        ("type: a\nextends: defalt\n", r"own\.yaml:2: there is no template 'defalt'; take one of"),
        ("type: a\nchecks:\n  c: net plus tax\n", r"own\.yaml:\d: .*is no check; write one like"),
        ("type: a\nextends: default\nchecks:\n  c: net = brutto\n", r"own\.yaml:4: .*'brutto', which is no field"),
        ("type: a\ntype: b\n", r"own\.yaml:2: 'type' stands in line 1 already"),
        ("a: &x [1]\nb: *x\n", r"own\.yaml:2: aliases are not taken"),
        ("[1, 2]\n", r"own\.yaml: must be a mapping"),
        ("a: [1\n", r"own\.yaml:2: not valid YAML"),
    ],
)
def test_an_error_in_a_template_names_file_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ExtractFields(templates=(written(tmp_path, text),)).check()


def test_a_template_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"no/such\.yaml: cannot be read"):
        ExtractFields(templates=("no/such.yaml",)).check()


def test_the_content_of_a_template_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    operator = ExtractFields(templates=(written(tmp_path, OWN),))
    before = operator.model_digest()
    written(tmp_path, OWN.replace("DN-", "LS-"))
    assert operator.model_digest() != before


def test_the_shipped_templates_and_types_are_sound() -> None:
    templates = load_templates(())
    assert {"", "purchase_order", "remittance", "claim_form", "identity_document"} <= templates.keys()
    expected = {"invoice", "receipt", "purchase_order", "remittance", "claim_form", "letter", "identity_document"}
    assert load_types(()).keys() == expected
    assert templates["purchase_order"].fields["total"] == templates[""].fields["total"]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("net + tax = total", True),
        ("total - tax = net", True),
        ("net = total", False),
        ("net = tax | net", True),
        ("tax <= total", True),
        ("sum(line_items.amount) = total", False),
        ("sum(line_items.amount) = net | total", True),
        ("net + shipping = total", None),
    ],
)
def test_rules_compare_sums_of_fields(text: str, holds: bool | None) -> None:
    values = {"net": Decimal(100), "tax": Decimal(20), "total": Decimal(120)}
    columns = {"line_items.amount": [Decimal(60), Decimal(40)]}
    assert Rule.parse(text).holds(values, columns) is holds


@pytest.mark.parametrize("text", ["", "net", "net + = total", "net ! tax = 3", "= total", "a = b = c"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no check"):
        Rule.parse(text)
