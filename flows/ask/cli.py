"""`swath similar` and `swath metrics`. Only what `--help` needs is imported at the top."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swath.flows.console.command import busy, say
from swath.flows.console.options import HOUSE, Json, Warehouse, examples

app = typer.Typer(rich_markup_mode="rich")


@app.command(
    epilog=examples(
        "swath similar photos/0001.jpg",
        "swath similar s3://shop/2026/0001.jpg -k 20 --pipeline photos",
        "swath similar a-file-that-is-in-no-table.jpg --json",
    )
)
def similar(
    uri: Annotated[str, typer.Argument(help="An item of the table by its URI or id, or any file.")],
    count: Annotated[int, typer.Option("-k", "--count", min=1, help="How many.")] = 10,
    pipeline: Annotated[str | None, typer.Option(help="Whose table; needed where there are several.")] = None,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """List the items that look most like one: by embeddings where a step `embed` made some, else by perceptual hash."""
    from swath.flows.ask.results import write_result
    from swath.flows.ask.similar import similar as look

    with busy("comparing"):
        found = look(warehouse, uri, count, pipeline)
    write_result(found, "json" if as_json else "table")


@app.command(
    epilog=examples(
        "swath metrics",
        "swath metrics --serve 9464 --warehouse s3://lake/swath",
        "SWATH_METRICS_TOKEN=... swath metrics --serve 9464 --host 0.0.0.0 --tls-cert tls.crt --tls-key tls.key",
    )
)
def metrics(
    last: Annotated[int, typer.Option(min=1, help="How many runs, the newest.")] = 50,
    serve: Annotated[
        int | None, typer.Option(metavar="PORT", help="Answer Prometheus at this port until interrupted.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address that --serve listens at; beyond loopback only with TLS and a token.")
    ] = "127.0.0.1",
    tls_cert: Annotated[Path | None, typer.Option(help="The server's certificate, PEM, with its chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    warehouse: Warehouse = HOUSE,
) -> None:
    """Print the figures of the newest runs in the form that Prometheus reads, or serve them to it.

    infra/grafana has boards for them, infra/prometheus alerts. With SWATH_METRICS_TOKEN set, a scrape must bring it as
    bearer token.
    """
    from swath.flows.run import metrics as of_runs
    from swath.infra.settings import settings
    from swath.schemas.errors import ConfigurationError

    if serve is None:
        print(of_runs.exposition(warehouse, last), end="")
        return
    token = settings().metrics_token
    try:
        server, thread = of_runs.serve(warehouse, last, serve, host, token, tls_cert, tls_key)
    except OSError as error:
        raise ConfigurationError(f"cannot listen at {host}:{serve} ({error.strerror}); give another port") from None
    say(f"http{'s' if tls_cert else ''}://{host}:{server.server_port}/metrics")
    thread.join()
