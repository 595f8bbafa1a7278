"""`ensure`: plans for all series, a question if they take many calls, then all of them with progress bars."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import typer

from markethistory.cli.board import Board, duration, table
from markethistory.cli.documents import plain, say, say_error
from markethistory.cli.expanding import markets_of
from markethistory.cli.fanout import fan_out, tell_errors
from markethistory.cli.moments import window
from markethistory.cli.running import ExitCode, complain, run
from markethistory.values import CoverageState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markethistory.aio import AsyncClient
    from markethistory.cli.fanout import Outcome
    from markethistory.values import CoverageSpan, EnsurePlan, EnsureResult

MANY_CALLS: Final = 1000
"""More calls to exchanges than this are asked about first."""


class Ensuring:
    """One run of `ensure`."""

    def __init__(
        self,
        server: str,
        series: Sequence[str],
        start: str,
        end: str | None,
        *,
        refresh: bool = False,
        jobs: int,
        as_json: bool,
    ) -> None:
        first, self._end = window(start, end)
        assert first is not None
        self._start = first
        self._server = server
        self._series = markets_of(server, series)
        self._refresh = refresh
        self._jobs = jobs
        self._json = as_json

    def show_plans(self) -> None:
        """What would be fetched: a table, or one document for each series."""
        outcomes = run(self._plans())
        _say_all(outcomes, as_json=self._json)
        planned = [(outcome.series, outcome.value) for outcome in outcomes if outcome.value is not None]
        if planned and not self._json:
            columns = {"series": "left", "spans": "right", "pages": "right", "calls": "right", "at least": "right"}
            rows = (
                [name, len(plan.missing), plan.page_count, plan.call_count, duration(plan.least_duration)]
                for name, plan in planned
            )
            table("plan", columns, rows)
        _exit_with(tell_errors(self._server, outcomes))

    def run(self, *, yes: bool) -> None:
        """Fetches, then tells what that took."""
        outcomes = self.fetch(yes=yes)
        _say_all(outcomes, as_json=self._json)
        done = [(outcome.series, outcome.value) for outcome in outcomes if outcome.value is not None]
        if done and not self._json:
            columns = {"series": "left", "rows": "right", "calls": "right", "not covered": "left"}
            rows = ([name, did.row_count, did.call_count, describe(did.uncovered)] for name, did in done)
            table("fetched", columns, rows)
        code = tell_errors(self._server, outcomes)
        holes = any(has_holes(result.uncovered) for _, result in done)
        _exit_with(code or (ExitCode.INCOMPLETE if holes else ExitCode.OK))

    def fetch(self, *, yes: bool) -> list[Outcome[EnsureResult]]:
        """Makes all ranges covered, asking first if that takes many calls."""
        if not yes:
            self._confirm(run(self._plans()))
        return run(self._ensures())

    async def _plans(self) -> list[Outcome[EnsurePlan]]:
        async def plan(history: AsyncClient, name: str) -> EnsurePlan:
            return await history.plan(name, self._start, self._end, refresh=self._refresh)

        return await fan_out(self._server, self._series, self._jobs, plan)

    async def _ensures(self) -> list[Outcome[EnsureResult]]:
        with Board(len(self._series), quiet=self._json) as board:

            async def ensure(history: AsyncClient, name: str) -> EnsureResult:
                watch = board.watch_ensure(name)
                try:
                    return await history.ensure(name, self._start, self._end, refresh=self._refresh, on_progress=watch)
                finally:
                    board.done(name)

            return await fan_out(self._server, self._series, self._jobs, ensure)

    def _confirm(self, outcomes: list[Outcome[EnsurePlan]]) -> None:
        """Asks before many calls. A series whose plan failed is told about when it is fetched."""
        plans = [outcome.value for outcome in outcomes if outcome.value is not None]
        calls = sum(plan.call_count for plan in plans)
        if calls <= MANY_CALLS:
            return
        longest = max(plan.least_duration for plan in plans)
        question = f"{calls:,} calls to exchanges, at least {duration(longest)}"
        if self._json or not sys.stdin.isatty():
            complain(f"{question}: say --yes to make them")
            raise typer.Exit(ExitCode.DECLINED)
        if not typer.confirm(f"{question}. Go on?", err=True):
            raise typer.Exit(ExitCode.DECLINED)


def describe(uncovered: Iterable[CoverageSpan]) -> str:
    """Spans that are not covered, a line each."""
    return "\n".join(str(span) for span in uncovered)


def has_holes(uncovered: Iterable[CoverageSpan]) -> bool:
    """Whether a span is not covered for another reason than that it is too fresh."""
    return any(span.state is not CoverageState.PENDING for span in uncovered)


def _say_all(outcomes: Iterable[Outcome[EnsurePlan]] | Iterable[Outcome[EnsureResult]], *, as_json: bool) -> None:
    for outcome in outcomes if as_json else ():
        if outcome.error is not None:
            say_error(outcome.series, outcome.error)
        else:
            say(series=outcome.series, **plain(outcome.value))


def _exit_with(code: ExitCode) -> None:
    if code is not ExitCode.OK:
        raise typer.Exit(code)
