"""The commands and their options; what they do is in the modules beside.

Promises: a fault is one line on standard error that says what was wrong and what to do, never a traceback; tables and
JSON go to standard output, progress and questions to standard error.
"""

# Typer reads the annotations when it runs, so they are not deferred here.
from typing import Annotated

import typer

from markethistory.cli.asking import show_coverage, show_markets, show_series
from markethistory.cli.ensuring import Ensuring
from markethistory.cli.quality import show_quality
from markethistory.cli.reading import ReadChoice, Reading
from markethistory.cli.running import EXIT_CODES, faults_told
from markethistory.cli.targets import check_output

app = typer.Typer(
    name="markethistory",
    help="Asks a historyd server for market history.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_WHEN = "an ISO 8601 time with offset or Z, a date (midnight UTC), or a span such as 7d, 12h, 30m before now"

_SERIES = "Such as ohlcv:binance:BTC/USDT:1m, or a pattern: 'ohlcv:binance:*/USDT:1m'."
SeriesIds = Annotated[list[str], typer.Argument(metavar="SERIES...", help=_SERIES)]
_WHERE = "The server; https://HOST:PORT speaks TLS. MARKETHISTORY_TOKEN is sent along, MARKETHISTORY_CA is trusted."
Server = Annotated[str, typer.Option(envvar="MARKETHISTORY_SERVER", metavar="HOST:PORT", help=_WHERE)]
_START = typer.Option("--start", "-s", metavar="WHEN", help=f"First instant: {_WHEN}.")
Start = Annotated[str | None, _START]
End = Annotated[str | None, typer.Option("--end", "-e", metavar="WHEN", help="First instant after; default now.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Series at once.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines: one JSON document a line, no colour.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before more than 1,000 calls to exchanges.")]

_SERVER = "127.0.0.1:50051"


@app.command()
def coverage(
    series: SeriesIds,
    *,
    start: Start = None,
    end: End = None,
    jobs: Jobs = 4,
    as_json: AsJson = False,
    server: Server = _SERVER,
) -> None:
    """Shows what is known of series: covered, pending, unreachable, missing. Asks no exchange."""
    with faults_told(server):
        show_coverage(server, series, start, end, jobs=jobs, as_json=as_json)


@app.command()
def ensure(  # noqa: PLR0913 -- one parameter for each option
    series: SeriesIds,
    *,
    start: Annotated[str, _START],
    end: End = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask again for what is covered.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be fetched, and stop.")] = False,
    yes: Yes = False,
    jobs: Jobs = 4,
    as_json: AsJson = False,
    server: Server = _SERVER,
) -> None:
    """Makes ranges covered: fetches what the server does not have."""
    with faults_told(server):
        work = Ensuring(server, series, start, end, refresh=refresh, jobs=jobs, as_json=as_json)
        if plan:
            work.show_plans()
        else:
            work.run(yes=yes)


@app.command()
def read(  # noqa: PLR0913 -- one parameter for each option
    series: SeriesIds,
    *,
    start: Start = None,
    end: End = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=1, help="The last N rows before --end.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            callback=check_output,
            help="Write to FILE.parquet, .csv or .arrow, with {series} in it to a file for each. '-': CSV to stdout.",
        ),
    ] = None,
    columns: Annotated[str | None, typer.Option(help="Comma-separated; ts always comes. Default: all.")] = None,
    stored_only: Annotated[bool, typer.Option("--stored-only", help="Fetch nothing from the exchange.")] = False,
    require_complete: Annotated[bool, typer.Option("--require-complete", help="Fail if a span cannot be had.")] = False,
    yes: Yes = False,
    jobs: Jobs = 4,
    as_json: AsJson = False,
    server: Server = _SERVER,
) -> None:
    """Reads rows, fetching first what is missing: a short look at them, or all of them into files."""
    with faults_told(server):
        choice = ReadChoice(start, end, last, output, columns, stored_only, require_complete)
        Reading(server, series, choice, jobs=jobs, as_json=as_json).run(yes=yes)


@app.command()
def quality(  # noqa: PLR0913 -- one parameter for each option
    series: SeriesIds,
    *,
    start: Annotated[
        str | None, typer.Option("--start", "-s", metavar="WHEN", help=f"First instant: {_WHEN}. Default 30d.")
    ] = None,
    end: End = None,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", min=0, help="List the first N quarantined rows of each series too.")
    ] = 0,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            callback=check_output,
            help="Write the days to FILE.parquet, .csv or .arrow; '-': CSV to stdout.",
        ),
    ] = None,
    jobs: Jobs = 4,
    as_json: AsJson = False,
    server: Server = _SERVER,
) -> None:
    """Shows how good the stored rows are, by UTC day: gaps, what was set aside and why, revisions, outliers."""
    with faults_told(server):
        show_quality(server, series, start, end, rows=rows, output=output, jobs=jobs, as_json=as_json)


@app.command(name="series")
def list_series(
    pattern: Annotated[str, typer.Argument(help="* is any text, ? one character.")] = "*",
    *,
    as_json: AsJson = False,
    server: Server = _SERVER,
) -> None:
    """Lists the series stored."""
    with faults_told(server):
        show_series(server, pattern, as_json=as_json)


@app.command()
def markets(
    exchange: Annotated[str, typer.Argument(help="CCXT id, lower case, such as binance.")],
    pattern: Annotated[str, typer.Argument(help="* is any text, ? one character, such as 'BTC/*'.")] = "*",
    *,
    as_json: AsJson = False,
    server: Server = _SERVER,
) -> None:
    """Lists the markets and timeframes of an exchange."""
    with faults_told(server):
        show_markets(server, exchange, pattern, as_json=as_json)
