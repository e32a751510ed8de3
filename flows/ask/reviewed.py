"""The views that depend on people: what they must decide, and the values with their decisions in place."""

from __future__ import annotations

import re
from collections.abc import Mapping

import duckdb
import pyarrow as pa

from swath.infra.settings import settings
from swath.schemas.corrections import DECIDED
from swath.schemas.errors import ConfigurationError
from swath.schemas.published import DECISIONS, PUBLISHED, VALUES, decisions, published, with_origin, with_review
from swath.schemas.review import Rules, is_reviewed, review, review_rate, values
from swath.schemas.sql import quoted
from swath.schemas.views import TABLE, View


def corrections_view(connection: duckdb.DuckDBPyConnection, scan: str) -> View:
    """Every decision of every pipeline."""
    names = ", ".join(quoted(column.name) for column in DECIDED)
    connection.execute(f"CREATE OR REPLACE VIEW main.corrections AS SELECT {names} FROM {scan}")
    return View("corrections", "One row a decision that a person took about a value, in any pipeline", DECIDED, "")


def review_views(
    connection: duckdb.DuckDBPyConnection,
    catalog: str,
    pipeline: str,
    schema: pa.Schema,
    steps: Mapping[str, str],
    made: Mapping[str, View],
    rules: Rules,
) -> dict[str, View]:
    """Makes the views in the SQL schema of the pipeline, where those `made` of its table stand already; none where
    there is nothing that people decide about."""
    if not is_reviewed(schema):
        return {}
    place = f"{catalog}.{quoted(pipeline)}"
    stored, decided, all_values, corrected = (f"{place}.{name}" for name in ("stored", DECISIONS, VALUES, PUBLISHED))
    shown = [review(all_values, decided), review_rate(stored, all_values)]
    bodies = {
        DECISIONS: decisions(pipeline, f"{catalog}.main.corrections"),
        VALUES: values(schema, steps, pipeline, rules).replace(TABLE, stored),
        PUBLISHED: published(schema, decided).replace(TABLE, stored),
        **{view.name: view.over(stored) for view in shown},
        "items": made[f"{pipeline}.items"].over(corrected),
    }
    waiting = f"{place}.{shown[0].name}"
    of_people = [
        with_origin(made[f"{pipeline}.fields"], schema, steps, corrected, decided),
        with_review(made[f"{pipeline}.documents"], corrected, decided, waiting),
    ]
    bodies |= {view.name: view.over(stored) for view in of_people}
    for name, body in bodies.items():
        connection.execute(f"CREATE OR REPLACE VIEW {place}.{quoted(name)} AS {body}")
    return {f"{pipeline}.{view.name}": view for view in (*shown, *of_people)}


def review_rules() -> Rules:
    """What the environment says a person must look at."""
    found = settings()
    return Rules(found.review_threshold, field_names(found.review_required), field_names(found.review_fields))


def field_names(text: str) -> tuple[str, ...]:
    """The names in `total, document_number`; raises ConfigurationError for what is no name of a field."""
    names = tuple(name for part in text.split(",") if (name := part.strip()))
    for name in names:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ConfigurationError(f"{name!r} is no name of a field; write them as total,document_number")
    return names
