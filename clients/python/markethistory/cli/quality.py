"""`quality`: how good the stored rows are, day by day, as tables, JSON or a file; and the rows that were set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from markethistory.cli.board import moment, table
from markethistory.cli.documents import plain, say, say_error
from markethistory.cli.expanding import stored_of
from markethistory.cli.fanout import fan_out, tell_errors
from markethistory.cli.moments import window
from markethistory.cli.running import ExitCode, WrongUsage, run
from markethistory.cli.sinks import FileSink, StdoutSink
from markethistory.cli.targets import STDOUT, file_of
from markethistory.quality import table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markethistory.aio import AsyncClient
    from markethistory.cli.sinks import Sink
    from markethistory.quality import QualityDay, QualityReport

DEFAULT_START = "30d"
_COLUMNS = {
    "day": "left",
    **dict.fromkeys(
        ("rows", "expected", "empty", "spoiled", "missing", "pending", "unreachable", "revised", "outliers"), "right"
    ),
    "zero volume": "left",
    "quarantined": "left",
}


def show_quality(  # noqa: PLR0913 -- one parameter for each option
    server: str,
    series: Sequence[str],
    start: str | None,
    end: str | None,
    *,
    rows: int,
    output: str | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Reports on each series; with `rows` it lists so many of its quarantined rows too."""
    first, behind = window(start or DEFAULT_START, end)
    assert first is not None
    begin = first
    if output == STDOUT and as_json:
        raise WrongUsage("-o - takes no --json")
    sink = _sink(output)

    async def ask(history: AsyncClient, name: str) -> QualityReport:
        return await history.quality(name, begin, behind, row_limit=rows)

    outcomes = run(fan_out(server, stored_of(server, series), jobs, ask))
    reports = [outcome.value for outcome in outcomes if outcome.value is not None]
    if sink is not None:
        _write(reports, sink)
    for outcome in outcomes:
        if as_json and outcome.error is not None:
            say_error(outcome.series, outcome.error)
        elif as_json:
            say(**plain(outcome.value))
        elif outcome.value is not None and sink is None:
            _show(outcome.value)
    code = tell_errors(server, outcomes)
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def _sink(output: str | None) -> Sink | None:
    if output is None:
        return None
    return StdoutSink() if output == STDOUT else FileSink(file_of(output))


def _write(reports: Sequence[QualityReport], sink: Sink) -> None:
    found = table_of(reports)
    try:
        for batch in found.to_batches():
            sink.write(batch)
        sink.finish(found.schema)
    finally:
        sink.discard()


def _show(report: QualityReport) -> None:
    table(report.series, _COLUMNS, map(_cells, report.days))
    if report.quarantined_rows:
        shown = ([moment(row.at), row.reason, row.row] for row in report.quarantined_rows)
        table("set aside", {"at": "left", "reason": "left", "row": "left"}, shown)


def _cells(day: QualityDay) -> list[object]:
    reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in day.quarantined.items())
    runs = f"{day.zero_volume_count:,} in {day.zero_volume_run_count:,}, longest {day.longest_zero_volume_run:,}"
    return [
        moment(day.range.start),
        day.row_count,
        day.expected_count,
        day.empty_count,
        day.spoiled_count,
        day.missing_count,
        day.pending_count,
        day.unreachable_count,
        day.revised_count,
        day.outlier_count,
        runs if day.zero_volume_count else "",
        reasons,
    ]
