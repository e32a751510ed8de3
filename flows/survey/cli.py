"""The commands for surveys. Only what `--help` needs is imported at the top."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from swath.flows.console.command import busy, ray_address
from swath.flows.console.options import HOUSE, Json, Warehouse, examples

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

Table = Annotated[str, typer.Argument(help="A table, or a run by its id: the table as that run left it.")]
Folder = Annotated[str, typer.Option("--output", "-o", help="A folder or s3:// prefix.")]
Date = Annotated[str | None, typer.Option(help="Regular expression that finds the day in a path: '_(\\d{8})'.")]
Ray = Annotated[str, typer.Option(envvar="SWATH_RAY", help="As of `swath run`.")]


class Reference(StrEnum):
    auto = "auto"
    zero = "zero"
    scene = "scene"


@app.command(
    epilog=examples("swath mosaic fields -o ./joined", "swath mosaic RUN --raster s3://maps/a.tif -o ./joined")
)
def mosaic(
    table: Table,
    folder: Folder,
    raster: Annotated[str | None, typer.Option(help="Only this one, by its URI.")] = None,
    min_pixels: Annotated[int, typer.Option(min=1, help="Smaller polygons are left out.")] = 16,
    warehouse: Warehouse = HOUSE,
    ray: Ray = "auto",
    as_json: Json = False,
) -> None:
    """Join the windows of rasters again: a COG for every layer, one GeoParquet of polygons and boxes."""
    from swath.flows.survey import mosaic as work

    with busy("joining windows"):
        done = work.mosaic(warehouse, table, folder, raster, ray_address(ray), min_pixels)
    work.show(done, as_json)


@app.command(
    epilog=examples(
        "swath zones parcels.geojson fields", "swath zones parcels.gpkg RUN --name parcel --cover 'ndvi>0.3' --json"
    )
)
def zones(
    fields: Annotated[str, typer.Argument(help="GeoJSON, GeoPackage, shapefile or GeoParquet with outlines.")],
    table: Table,
    name: Annotated[str | None, typer.Option(help="Attribute that names the zones.")] = None,
    layer: Annotated[str | None, typer.Option(help="Of a file with several.")] = None,
    crs: Annotated[str | None, typer.Option(help="Of a file that states none, such as EPSG:32633.")] = None,
    date: Date = None,
    cover: Annotated[list[str] | None, typer.Option(help="INDEX>VALUE counts as cover; may be repeated.")] = None,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Cover, index statistics and counts per field and date, as the table `zones`."""
    from swath.flows.survey import zones as work

    with busy("measuring zones"):
        summary, rows = work.zones(warehouse, fields, table, name, layer, crs, date, cover or ())
    work.show(summary, rows, as_json)


@app.command(
    epilog=examples(
        "swath change fields --index ndvi",
        "swath change fields --index ndvi --from 2012 --to 2017 --zones parcels.gpkg",
    )
)
def change(
    table: Table,
    index: Annotated[str, typer.Option(help="Which index; its step needs `raster: true`.")] = "ndvi",
    before: Annotated[
        str | None, typer.Option("--from", help="A date, partition, run or file; else the first day.")
    ] = None,
    after: Annotated[str | None, typer.Option("--to", help="Likewise; else the last day.")] = None,
    fields: Annotated[str | None, typer.Option("--zones", help="Outlines of fields to compare, too.")] = None,
    against: Annotated[Reference, typer.Option(help="What counts as no change.")] = Reference.auto,
    level: Annotated[float, typer.Option(min=0, max=1, help="Share of false ones among significant changes.")] = 0.05,
    date: Date = None,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Difference of an index between two dates, per window and field, with its significance, as the table `changes`."""
    from swath.flows.survey import change as work

    with busy("comparing"):
        done = work.change(warehouse, table, index, before, after, fields, against.value, level, date)
    work.show(*done, as_json)


@app.command(epilog=examples("swath stac fields -o items.json", "swath stac RUN -o s3://catalogs/fields"))
def stac(
    table: Table,
    output: Annotated[str, typer.Option("--output", "-o", help="items.json, or a folder for a static catalog.")],
    date: Date = None,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Write a table's items as STAC: footprint, time, projection, source files and what was made of them."""
    from swath.flows.survey import stac as work

    with busy("writing items"):
        done = work.stac(warehouse, table, output, date)
    work.show(done, as_json)


@app.command(
    epilog=examples(
        "swath map survey -o map.png --value vegetation_fraction",
        "swath map RUN -o map.png --raster s3://maps/a.tif --value ndvi",
    )
)
def map(
    table: Table,
    output: Annotated[str, typer.Option("--output", "-o", help="A PNG file or s3:// object.")],
    value: Annotated[str | None, typer.Option(help="A number among the columns of `items`, or an index.")] = None,
    raster: Annotated[str | None, typer.Option(help="Only this one, by its URI.")] = None,
    width: Annotated[int, typer.Option(min=200, max=8000, help="Pixels of the map's longer side.")] = 1600,
    imagery: Annotated[bool, typer.Option(help="Whether photos and rasters lie beneath.")] = True,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Draw footprints, outcomes and a value over the imagery itself."""
    from swath.flows.survey import mapping

    with busy("drawing"):
        drawn = mapping.draw_map(warehouse, table, output, value, raster, width, imagery)
    mapping.show(drawn, as_json)
