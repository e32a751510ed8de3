"""What the benchmarks of scale measure on is what they say it is."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from tests.benchmarks import scale_data
from tests.benchmarks.scale_picture import Panel, svg

from swath.flows.pipelines.binding import bind, load
from swath.flows.run.plan import make_plan
from swath.infra.lake import Lake


def test_one_in_a_hundred_of_a_drawn_table_is_pending(warehouse: str, tmp_path: Path) -> None:
    bound, lake = bind(load("photos").pipeline), Lake(warehouse)
    scale_data.publish(lake, bound, tmp_path / "sorting", 2_000, 4)
    found = scale_data.manifest(tmp_path / "manifest", 2_010, 4, changed_every=200)
    plan = make_plan(bound, found, lake, None)
    assert (plan.why, plan.unchanged, plan.gone_objects) == ({"changed": 10, "new": 10}, 1_990, 0)
    assert {cell.bucket for wave in plan.waves for cell in wave.cells} == {0}
    same = make_plan(bound, scale_data.manifest(tmp_path / "same", 2_000, 4), lake, None)
    assert same.waves == []


def test_a_picture_has_a_line_for_each_curve() -> None:
    panel = Panel("memory & more", {"driver": [(0, 0), (10, 50)], "others": [(0, 100), (10, 100)]}, "seconds")
    picture = ElementTree.fromstring(svg("a <run>", [panel]))
    lines = [one.attrib["points"].split() for one in picture if one.tag.endswith("polyline")]
    assert lines == [["80.0,260.0", "940.0,160.0"], ["80.0,60.0", "940.0,60.0"]]
    assert "a <run>" in {one.text for one in picture}
