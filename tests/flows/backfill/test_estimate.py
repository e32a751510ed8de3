"""What `swath backfill --dry-run` foresees."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.flows.living import LENGTH, TAG, House, pipeline

from swath.flows.backfill import backfill as work
from swath.flows.backfill.estimate import Estimate, _line, _together, estimate
from swath.flows.backfill.records import Backfill, Backfills
from swath.flows.backfill.show import print_estimate
from swath.flows.run.reporter import Quiet
from swath.schemas.pipeline import Step

BY = "{dt}"


@pytest.fixture
def house(tmp_path: Path, audit_socket: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    return House(f"file://{tmp_path}/warehouse", f"file://{tmp_path}/source", audit_socket)


def asked(house: House, given: Any = None, retry: str | None = None, **options: Any) -> Backfill:
    request = house.request(given, partition_by=BY, retry=retry)
    return Backfill(backfill_id="", request=request, created_at=datetime.now(UTC), **options)


def test_a_first_backfill_is_counted_and_nothing_is_made(house: House) -> None:
    house.put(*(f"2026-01-0{day}/{n}.txt" for day in (1, 2) for n in range(3)))
    found = estimate(asked(house))
    assert [(one.partition, one.items, one.why) for one in found.partitions] == [
        ("dt=2026-01-01", 3, {"new": 3}),
        ("dt=2026-01-02", 3, {"new": 3}),
    ]
    assert (found.pending, found.seconds, found.cost, found.measured) == (6, None, None, None)
    assert not Path(house.warehouse.removeprefix("file://")).exists()


def test_reasons_time_and_cost_are_by_partition_and_add_up(house: House) -> None:
    house.put(*(f"2026-01-0{day}/{n}.txt" for day in (1, 2, 3) for n in range(4)))
    house.put("2026-01-02/bad.txt", content="bad")
    house.run(partition_by=BY, max_rejects=1)
    house.put("2026-01-01/0.txt", content="changed")
    house.put("2026-01-01/new.txt")
    house.remove("2026-01-03/0.txt")
    found = estimate(asked(house, retry="all", parallel=2), core_hour_price=3.6)
    assert [(one.partition, one.why, one.gone) for one in found.partitions] == [
        ("dt=2026-01-01", {"changed": 1, "new": 1}, 0),
        ("dt=2026-01-02", {"retried": 1}, 0),
        ("dt=2026-01-03", {}, 1),
    ]
    assert (found.why, found.gone, found.measured.runs) == ({"changed": 1, "new": 1, "retried": 1}, 1, 1)
    assert found.cost == pytest.approx(sum(one.cost for one in found.partitions))
    assert found.cost == pytest.approx(3.6 * found.core_hours)
    times = [one.seconds for one in found.partitions]
    assert max(times) <= found.seconds < sum(times), "two at a time"
    assert Estimate.model_validate(json.loads(found.model_dump_json())) == found
    shown = io.StringIO()
    print_estimate(Console(file=shown, width=120), found)
    assert "1 changed, 1 new" in shown.getvalue()
    assert f"{found.cost:.4f}" in shown.getvalue()


def test_only_steps_that_have_to_run_again_are_reckoned(house: House) -> None:
    house.put(*(f"2026-01-01/{n}.txt" for n in range(4)))
    house.run(partition_by=BY)
    found = estimate(asked(house, pipeline(Step(op=LENGTH), Step(op=TAG, config={"value": "y"}))))
    (one,) = found.partitions
    assert (one.why, one.steps) == ({"recomputed": 4}, {"tag": 4})
    assert found.unmeasured == ["tag"]


def test_what_a_dry_run_says_is_what_the_backfill_does(house: House) -> None:
    house.put("2026-01-01/0.txt", "2026-01-02/0.txt")
    house.run(partition_by=BY)
    house.put("2026-01-02/1.txt", "2026-01-03/1.txt")
    found = estimate(asked(house, newest_first=True))
    made = work.new(house.request(partition_by=BY), newest_first=True)
    planned = work._prepare(made, Backfills(house.warehouse), Quiet())
    assert [(one.partition, one.items, one.why) for one in found.partitions] == [
        (one.partition, one.pending, one.why) for one in planned.todo
    ]
    assert [one.partition for one in planned.todo] == ["dt=2026-01-03", "dt=2026-01-02"]
    assert found.idle == planned.idle == 1


def test_seconds_of_a_run_and_of_an_item_are_told_apart() -> None:
    fixed, each = _line([100, 200, 400], [12.0, 14.0, 18.0])
    assert (fixed, each) == (pytest.approx(10), pytest.approx(0.02))
    assert _line([10, 20], [5.0, 4.0]) == (4.5, 0.0)
    assert _line([100, 100], [40.0, 50.0]) == (30.0, pytest.approx(0.15))


def test_partitions_fill_the_lanes_in_order() -> None:
    assert _together([3.0, 1.0, 1.0, 5.0], 2) == 7.0
    assert _together([1.0, None], 2) is None
    assert _together([], 2) == 0.0
