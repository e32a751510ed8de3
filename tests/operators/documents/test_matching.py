"""Documents against a table of orders or vendors: what matches, what differs and by how much, what is unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from swath.operators.core.base import rows
from swath.operators.documents.matching import MatchReference
from swath.operators.documents.reference import name
from swath.schemas.errors import ConfigurationError
from swath.schemas.types import MATCHES

ORDERS = """number,vendor,amount,currency
PO-0017,"Mühle & Söhne GmbH",119.00,EUR
PO-0018,Nordwind Trading Ltd.,"1,250.50",EUR
PO-0020,Acme Corp,80,USD
PO-0021,Acme Corp,95,USD
"""


def field(name: str, value: str | None) -> dict[str, Any]:
    """A value of FIELDS."""
    return {"name": name, "value": value, "raw": value, "confidence": 0.9, "item_id": "i", "page": 1, "box": None,
            "failed_checks": []}  # fmt: skip


def document(**values: str | None) -> list[dict[str, Any]]:
    return [field(name, value) for name, value in values.items()]


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS, encoding="utf-8")
    return path


def against(path: Path, **config: Any) -> MatchReference:
    how = {"numbers": {"purchase_order": "number"}, "names": {"issuer": "vendor"}, "amounts": {"total": "amount"}}
    return MatchReference.model_validate({"reference": str(path), "key": "number", **how, **config})


def match(operator: MatchReference, **values: str | None) -> dict[str, Any]:
    (answer,) = rows(operator.run({"object_id": ["d"], "fields": [document(**values)]}, operator.load()))
    pa.array([answer["matches"]], MATCHES)
    return answer


def differing(answer: dict[str, Any]) -> list[tuple[str, str | None, str | None]]:
    return [(one["field"], one["found"], one["expected"]) for one in answer["matches"] if one["outcome"] != "matched"]


@pytest.mark.parametrize("number", ["PO-0017", "po 0017", "PO0017"])
def test_an_order_is_found_by_its_number_however_it_is_spaced_and_a_name_by_its_likeness(
    orders: Path, number: str
) -> None:
    answer = match(against(orders), purchase_order=number, issuer="Muhle & Sohne", total="119.00")
    assert (answer["match_status"], answer["match_key"]) == ("matched", "PO-0017")
    assert {one["field"]: one["outcome"] for one in answer["matches"]} == dict.fromkeys(
        ("purchase_order", "issuer", "total"), "matched"
    )


def test_another_amount_is_a_mismatch_and_says_by_how_much(orders: Path) -> None:
    answer = match(against(orders), purchase_order="PO-0018", issuer="Nordwind Trading", total="1260.50")
    assert (answer["match_status"], answer["match_key"]) == ("mismatch", "PO-0018")
    assert differing(answer) == [("total", "1260.50", "1250.50")]
    assert [one["difference"] for one in answer["matches"] if one["field"] == "total"] == [10.0]


def test_another_vendor_is_a_mismatch_with_the_likeness(orders: Path) -> None:
    answer = match(against(orders), purchase_order="PO-0018", issuer="Mühle & Söhne GmbH", total="1250.50")
    assert differing(answer) == [("issuer", "Mühle & Söhne GmbH", "Nordwind Trading Ltd.")]
    assert all(one["similarity"] < 0.85 for one in answer["matches"] if one["field"] == "issuer")


@pytest.mark.parametrize(
    ("total", "config", "status"),
    [
        ("119.01", {}, "matched"),
        ("119.02", {}, "mismatch"),
        ("121.38", {"tolerance_percent": 2}, "matched"),
        ("121.39", {"tolerance_percent": 2}, "mismatch"),
        ("124.00", {"tolerance": 5}, "matched"),
        ("-119.00", {}, "mismatch"),
        ("n/a", {}, "mismatch"),
        (None, {}, "mismatch"),
    ],
)
def test_amounts_agree_within_the_tolerance_to_the_cent(
    orders: Path, total: str | None, config: dict[str, Any], status: str
) -> None:
    answer = match(against(orders, **config), purchase_order="PO-0017", issuer="Mühle & Söhne", total=total)
    assert answer["match_status"] == status


def test_a_number_that_no_order_has_is_unknown(orders: Path) -> None:
    answer = match(against(orders), purchase_order="PO-9999", issuer="Acme Corp", total="80")
    assert (answer["match_status"], answer["match_key"]) == ("unknown", None)
    assert [one["outcome"] for one in answer["matches"]] == ["unknown"]
    assert differing(answer) == [("purchase_order", "PO-9999", None)]
    assert match(against(orders))["match_status"] == "unknown"


def test_a_number_with_one_wrong_character_is_a_mismatch_of_the_number_where_the_rest_agrees(orders: Path) -> None:
    answer = match(against(orders), purchase_order="PO-OO17", issuer="Mühle & Söhne", total="119.00")
    assert answer["match_status"] == "unknown"  # two characters off
    answer = match(against(orders), purchase_order="PO-O017", issuer="Mühle & Söhne", total="119.00")
    assert (answer["match_status"], answer["match_key"]) == ("mismatch", "PO-0017")
    assert differing(answer) == [("purchase_order", "PO-O017", "PO-0017")]
    nothing_agrees = match(against(orders), purchase_order="PO-O017", issuer="Somebody Else", total="1.00")
    assert nothing_agrees["match_status"] == "unknown"


def test_without_a_number_an_order_is_named_only_where_vendor_and_amount_point_to_one(orders: Path) -> None:
    answer = match(against(orders), issuer="ACME Corporation", total="95.00")
    assert (answer["match_status"], answer["match_key"]) == ("mismatch", "PO-0021")
    assert differing(answer) == [("purchase_order", None, "PO-0021")]
    assert match(against(orders), issuer="ACME Corporation", total="42.00")["match_status"] == "unknown"


def test_two_rows_that_fit_as_well_are_unknown_and_both_are_named(tmp_path: Path) -> None:
    path = tmp_path / "vendors.csv"
    path.write_text("id;name\nV1;Acme Corp\nV2;Acme Inc.\nV3;Nordwind\n")
    vendors = MatchReference(reference=str(path), key="id", names={"issuer": "name"})
    answer = match(vendors, issuer="Acme")
    assert answer["match_status"] == "unknown"
    assert differing(answer) == [("issuer", "Acme", "several rows: V1, V2")]
    assert match(vendors, issuer="NORDWIND B.V.")["match_key"] == "V3"


def test_of_several_rows_of_one_number_the_one_that_fits_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("number,vendor,amount\nPO-1,Acme,10\nPO-1,Acme,20\n")
    assert match(against(path), purchase_order="PO-1", issuer="Acme", total="20")["match_status"] == "matched"


def test_parquet_with_numbers_as_numbers_is_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "orders.parquet"
    table = {
        "number": [4711.0, None],
        "vendor": ["Acme", "Nordwind"],
        "amount": pa.array([80, 90], pa.decimal128(9, 2)),
    }
    pq.write_table(pa.table(table), path)
    answer = match(against(path), purchase_order="4711", issuer="ACME", total="80.00")
    assert (answer["match_status"], answer["match_key"]) == ("matched", "4711")


def test_each_document_is_matched_on_its_first_page_and_one_without_fields_gets_nothing(orders: Path) -> None:
    operator = against(orders)
    acme = document(purchase_order="PO-0020", issuer="Acme", total="80")
    batch = {"object_id": ["a", "a", "b", "c"], "fields": [acme, None, None, document(purchase_order="PO-9")]}
    answers = rows(operator.run(batch, operator.load()))
    assert [answer["match_status"] for answer in answers] == ["matched", None, None, "unknown"]
    assert set(answers[1].values()) == set(answers[2].values()) == {None}


def test_the_digest_changes_with_the_table_and_with_nothing_else(orders: Path) -> None:
    before = against(orders).model_digest()
    assert before == against(orders).model_digest()
    orders.write_text(ORDERS + "PO-0099,Acme Corp,1,EUR\n", encoding="utf-8")
    assert against(orders).model_digest() != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"number,vendor\nPO-1,Acme\n", "no column 'amount'; it has number, vendor"),
        (b"number,vendor,amount\nPO-1,Acme,10\nPO-2,Acme,ten\n", "row 3: amount 'ten' is no amount"),
        (b'number,vendor,amount\nPO-1,Acme,"12,50"\n', "row 2: amount '12,50' is no amount; write it as 1234.50"),
        (b"number,vendor,amount\nPO-1,Acme,NaN\n", "is no amount"),
        (b"number,vendor,amount\nPO-1,M\xfchle,10\n", "no UTF-8"),
        (b"number,vendor,amount\nPO-1,Acme,10,20\n", "line 2: more cells than the header has"),
        (b"", "has no column 'number'; it has none"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_before_a_run_with_row_and_remedy(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        against(path).check()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("s3://bucket/orders.csv", "not on this machine"),
        ("orders.xlsx", "unknown kind; use .csv or .parquet"),
        ("nowhere.csv", "not found"),
    ],
)
def test_a_reference_that_is_not_there_is_refused(reference: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        against(Path()).model_copy(update={"reference": reference}).check()


def test_without_a_way_to_find_a_row_the_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="give `numbers:` or `names:`"):
        MatchReference(reference="orders.csv", key="number", amounts={"total": "amount"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ACME TRADING SDN. BHD.", "Acme Trading"),
        ("Société Générale S.A.", "Societe Generale SA"),
        ("O'Neill & Sons Ltd", "Oneill Sons"),
        ("GmbH", "gmbh"),
    ],
)
def test_names_are_compared_without_case_accents_punctuation_and_legal_form(one: str, other: str) -> None:
    assert name(one) == name(other) != ""
