"""The commands that only ask: coverage, series, markets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from markethistory.cli.board import moment, table
from markethistory.cli.documents import plain, say, say_error
from markethistory.cli.expanding import stored_of
from markethistory.cli.fanout import fan_out, tell_errors
from markethistory.cli.moments import window
from markethistory.cli.running import ExitCode, run
from markethistory.cli.servers import open_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markethistory.aio import AsyncClient
    from markethistory.values import CoverageSpan


def show_coverage(
    server: str, series: Sequence[str], start: str | None, end: str | None, *, jobs: int, as_json: bool
) -> None:
    """One table or document for each series."""
    first, behind = window(start, end)

    async def ask(history: AsyncClient, name: str) -> list[CoverageSpan]:
        return await history.coverage(name, first, behind)

    outcomes = run(fan_out(server, stored_of(server, series), jobs, ask))
    for outcome in outcomes:
        if as_json and outcome.error is not None:
            say_error(outcome.series, outcome.error)
        elif as_json:
            say(series=outcome.series, spans=outcome.value)
        elif outcome.value is not None:
            _coverage_table(outcome.series, outcome.value)
    code = tell_errors(server, outcomes)
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def show_series(server: str, pattern: str, *, as_json: bool) -> None:
    """The series stored: a table, or one document a line."""
    with open_client(server) as history:
        found = history.series(pattern)
    if as_json:
        for one in found:
            say(**plain(one))
        return
    columns = {"series": "left", "first row": "left", "last row": "left", "rows": "right", "bytes": "right"}
    rows = ([one.series, moment(one.first), moment(one.last), one.row_count, one.byte_count] for one in found)
    table(f"{len(found):,} series", columns, rows)


def show_markets(server: str, exchange: str, pattern: str, *, as_json: bool) -> None:
    """The markets of an exchange: a table, or one document."""
    with open_client(server) as history:
        found = history.markets(exchange, pattern)
    if as_json:
        say(exchange=exchange, timeframes=found.timeframes, markets=found.markets)
        return
    rows = ([one.symbol, one.type, "yes" if one.active else "no", moment(one.listed_at)] for one in found.markets)
    columns = {"symbol": "left", "type": "left", "active": "left", "listed": "left"}
    table(f"{len(found.markets):,} markets of {exchange}, timeframes {' '.join(found.timeframes)}", columns, rows)


def _coverage_table(series: str, spans: list[CoverageSpan]) -> None:
    columns = {"start": "left", "end": "left", "state": "left", "rows": "right", "checked": "left", "reason": "left"}
    rows = (
        [
            moment(span.range.start),
            moment(span.range.end),
            span.state,
            span.row_count,
            moment(span.checked_at),
            span.reason,
        ]
        for span in spans
    )
    table(series, columns, rows)
