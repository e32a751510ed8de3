"""STAC items in the place of a listing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from swath.flows.source.manifest import ManifestSummary, build_manifest
from swath.flows.source.stac import read_items
from swath.infra import storage
from swath.schemas.errors import SourceError
from swath.schemas.pipeline import Pipeline

Found = tuple[ManifestSummary, list[dict[str, Any]]]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Found]:
    def run(source: object, **source_section: Any) -> Found:
        work = Pipeline.model_validate({"name": "scenes", "steps": ["decode"], "source": source_section})
        summary = build_manifest(
            str(source),
            work,
            f"file://{tmp_path}/manifest",
            readable=frozenset({"tif"}),
            partition_by="collection={collection}/date={date}",
        )
        return summary, [row for uri in summary.files for row in pq.read_table(storage.local_path(uri)).to_pylist()]

    return run


def item(name: str, assets: dict[str, Any], **members: Any) -> dict[str, Any]:
    properties = {"datetime": "2024-05-01T10:10:10Z"}
    whole = {"type": "Feature", "stac_version": "1.0.0", "id": name, "collection": "s2", "properties": properties}
    return {**whole, "geometry": None, "links": [], "assets": assets, **members}


def saved(path: Path, *items: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items, "numberMatched": 99}))
    return path


def roles(row: dict[str, Any]) -> dict[str, str]:
    return {asset["role"]: asset["uri"].rpartition("/")[2] for asset in row["assets"]}


def test_each_item_is_one_object_with_the_roles_of_its_bands(tmp_path: Path, build: Any) -> None:
    for name in ("a/B04.tif", "a/B08.tif", "a/B08.jp2", "a/SCL.tif", "b/B5.tif", "b/qa.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    sentinel = item("S2A", {
        "red": {"href": "./a/B04.tif", "eo:bands": [{"name": "B04", "common_name": "red"}]},
        "nir": {"href": f"file://{tmp_path}/a/B08.tif", "bands": [{"name": "B08", "eo:common_name": "nir"}]},
        "nir-jp2": {"href": "./a/B08.jp2", "bands": [{"name": "B08", "eo:common_name": "nir"}]},
        "scl": {"href": "a/SCL.tif", "roles": ["data"]},
        "visual": {"href": "a/TCI.tif", "roles": ["visual"], "eo:bands": [{}, {}, {}]},
        "thumbnail": {"href": "https://example.org/preview.jpg", "roles": ["thumbnail"]},
        "mtd": {"href": "a/MTD.xml", "roles": ["metadata"]},
    })  # fmt: skip
    landsat = item(
        "LC08",
        {
            "nir08": {
                "href": "https://landsatlook.usgs.gov/B5.TIF",
                "alternate": {"s3": {"href": f"file://{tmp_path}/b/B5.tif"}},
                "eo:bands": [{"name": "OLI_B5", "common_name": "nir08"}],
            },
            "qa_pixel": {"href": "b/qa.tif"},
            "red": {"href": "b/gone.tif"},
        },
        properties={"datetime": None, "start_datetime": "2023-01-31T00:00:00Z"},
        collection=None,
    )
    summary, rows = build(saved(tmp_path / "search.json", sentinel, landsat))
    found = {row["partition"]: roles(row) for row in rows}
    assert found == {
        "collection=none/date=2023-01-31": {"nir": "B5.tif", "qa": "qa.tif", "red": "gone.tif"},
        "collection=s2/date=2024-05-01": {"nir": "B08.tif", "red": "B04.tif", "scl": "SCL.tif"},
    }
    first = next(row for row in rows if "B04.tif" in roles(row).values())
    assert first["source_uri"] == f"file://{tmp_path}/a/B08.tif"
    assert first["size_bytes"] == 15
    assert first["etag"]
    assert (summary.objects, summary.complete) == (2, False)


def test_paths_of_assets_have_collection_and_date_for_globs_and_partitions(tmp_path: Path, build: Any) -> None:
    (tmp_path / "B04.tif").write_bytes(b"1")
    only = item("x", {"B04": {"href": "B04.tif"}, "B05_20m": {"href": "B05_20m.tif"}})
    _, rows = build(saved(tmp_path / "x.geojson", only), include=["collection=s2/date=2024-*/x/B04.tif"])
    assert [roles(row) for row in rows] == [{"red": "B04.tif"}]


def test_a_relative_link_starts_from_the_item_where_that_says_where_it_is(tmp_path: Path, build: Any) -> None:
    links = [{"rel": "self", "href": f"file://{tmp_path}/deep/items/x.json"}]
    _, [row] = build(saved(tmp_path / "x.json", item("x", {"B04": {"href": "../B04.tif"}}, links=links)))
    assert row["source_uri"] == f"file://{tmp_path}/deep/B04.tif"


@pytest.mark.parametrize(
    ("href", "uri"),
    [
        ("https://sentinel-cogs.s3.us-west-2.amazonaws.com/a/B04.tif", "s3://sentinel-cogs/a/B04.tif"),
        ("https://s3-eu-central-1.amazonaws.com/pub/a%20b.tif", "s3://pub/a b.tif"),
        ("https://naip.s3.amazonaws.com/x.tif", "s3://naip/x.tif"),
        ("https://storage.googleapis.com/gcp-public/x.jp2", "gs://gcp-public/x.jp2"),
        ("https://naip.s3.amazonaws.com/x.tif?X-Amz-Signature=1", None),
    ],
)
def test_buckets_that_are_written_as_web_pages_are_buckets(tmp_path: Path, href: str, uri: str | None) -> None:
    path = saved(tmp_path / "x.json", item("x", {"red": {"href": href}}))
    if uri is None:
        with pytest.raises(SourceError, match="cannot be read"):
            read_items(path, f"file://{path}")
    else:
        found = read_items(path, f"file://{path}")
        assert found is not None
        assert list(found.paths) == [uri]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"type": "Collection", "stac_version": "1.0.0", "id": "s2"}, "is a STAC Collection, .* give its items"),
        (item("x", {"B04": {"href": "https://example.org/B04.tif"}}), "asset https://example.org/B04.tif of item 'x'"),
        (item("x", {"doc": {"href": "a.pdf"}}), "no asset that is a GeoTIFF"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, build: Any, said: Any, told: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps(said))
    with pytest.raises(SourceError, match=told):
        build(tmp_path / "x.json")
