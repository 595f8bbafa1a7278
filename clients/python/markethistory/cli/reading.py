"""`read`: fetches what is missing with progress bars, then shows the rows or writes them to files."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from markethistory.cli.board import Board, moment, table
from markethistory.cli.documents import plain, say, say_error
from markethistory.cli.ensuring import Ensuring, has_holes
from markethistory.cli.expanding import asks_for_several, markets_of, stored_of
from markethistory.cli.fanout import Outcome, fan_out, tell_errors
from markethistory.cli.joining import Joined
from markethistory.cli.moments import window
from markethistory.cli.running import ExitCode, WrongUsage, complain, run
from markethistory.cli.sinks import FileSink, Preview, Sink, StdoutSink
from markethistory.cli.targets import STDOUT, file_of, files_of, is_per_series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markethistory.aio import AsyncClient
    from markethistory.requests import ReadOptions
    from markethistory.streams import AsyncBatchStream
    from markethistory.values import ReadSummary


_SIDES: Final = {"ts": "left", "id": "left", "side": "left"}


@dataclass(frozen=True, slots=True)
class ReadChoice:
    """What was typed."""

    start: str | None
    end: str | None
    last: int | None
    output: str | None
    columns: str | None
    stored_only: bool
    require_complete: bool


@dataclass(frozen=True, slots=True)
class Got:
    """What became of one series: how the read ended, and where its rows are."""

    summary: ReadSummary
    preview: Preview | None
    file: Path | None


class Reading:
    """One run of `read`."""

    def __init__(self, server: str, series: Sequence[str], choice: ReadChoice, *, jobs: int, as_json: bool) -> None:
        if (choice.start is None) == (choice.last is None):
            raise WrongUsage("give one of --start and --last")
        if choice.output == STDOUT and as_json:
            raise WrongUsage("-o - takes no --json")
        if choice.output is not None and choice.output != STDOUT:
            file_of(choice.output)  # a wrong directory is told before anybody is asked
        self._start, self._end = window(choice.start, choice.end)
        self._server = server
        self._choice = choice
        self._jobs = jobs
        self._json = as_json
        self._series = (stored_of if choice.stored_only else markets_of)(server, series)
        self._files: dict[str, Path] = {}
        self._joined: Joined | None = None
        self._aim(choice.output, several=asks_for_several(series))

    def _aim(self, output: str | None, *, several: bool) -> None:
        """Decides where the rows go."""
        if output is None:
            return
        path = None if output == STDOUT else Path(output)
        if path is not None and is_per_series(output):
            self._files = files_of(self._series, output)
        elif path is not None:
            self._files = dict.fromkeys(self._series, file_of(output))
        if several and (path is None or not is_per_series(output)):
            self._joined = Joined(self._series, path)

    def run(self, *, yes: bool) -> None:
        """Fetches, reads, and tells how it went."""
        choice = self._choice
        failed: list[Outcome[Got]] = []
        if choice.start is not None and not choice.stored_only:
            fetching = Ensuring(
                self._server, self._series, choice.start, choice.end, jobs=self._jobs, as_json=self._json
            )
            fetched = fetching.fetch(yes=yes)
            failed = [Outcome(outcome.series, error=outcome.error) for outcome in fetched if outcome.error]
        unfit = {outcome.series for outcome in failed}
        wanted = [name for name in self._series if name not in unfit]
        with self._joined or nullcontext():
            outcomes = [*failed, *run(self._read_all(wanted))]
            if self._joined is not None:
                self._joined.write()
        for outcome in outcomes:
            self._tell(outcome)
        self._tell_joined([outcome.value for outcome in outcomes if outcome.value is not None])
        code = tell_errors(self._server, outcomes)
        holes = any(outcome.value is not None and not outcome.value.summary.complete for outcome in outcomes)
        if code or holes:
            raise typer.Exit(code or ExitCode.INCOMPLETE)

    async def _read_all(self, series: Sequence[str]) -> list[Outcome[Got]]:
        with Board(len(series), quiet=self._json) as board:

            async def read(history: AsyncClient, name: str) -> Got:
                shown = board.watch_read(name)
                sink = self._sink(name)
                rows = 0
                try:
                    async with self._stream(history, name) as stream:
                        async for batch in stream:
                            sink.write(batch)
                            rows += batch.num_rows
                            shown(rows)
                    sink.finish(stream.schema)
                finally:
                    sink.discard()
                    board.done(name)
                return Got(stream.summary, sink if isinstance(sink, Preview) else None, self._files.get(name))

            return await fan_out(self._server, series, self._jobs, read)

    def _stream(self, history: AsyncClient, name: str) -> AsyncBatchStream:
        choice = self._choice
        options: ReadOptions = {
            "columns": choice.columns.split(",") if choice.columns is not None else None,
            "ensure": not choice.stored_only,
            "require_complete": choice.require_complete,
        }
        if choice.last is not None:
            return history.last_batches(name, choice.last, end=self._end, **options)
        assert self._start is not None
        return history.read_batches(name, self._start, self._end, **options)

    def _sink(self, name: str) -> Sink:
        if self._joined is not None:
            return self._joined.part(name)
        if name in self._files:
            return FileSink(self._files[name])
        return StdoutSink() if self._choice.output == STDOUT else Preview()

    def _tell(self, outcome: Outcome[Got]) -> None:
        got = outcome.value
        if self._json:
            if outcome.error is not None:
                say_error(outcome.series, outcome.error)
            elif got is not None:
                rows = {} if got.preview is None else {"head": got.preview.head, "tail": got.preview.tail}
                say(series=outcome.series, **plain(got.summary), **_file(got), **rows)
            return
        if got is None:
            return
        if got.preview is not None:
            _show(outcome.series, got.preview)
        elif got.file is not None and self._joined is None:
            typer.echo(f"{got.file}: {got.summary.row_count:,} rows")
        if has_holes(got.summary.uncovered):
            complain(f"{outcome.series}: " + "; ".join(map(str, got.summary.holes)))

    def _tell_joined(self, got: Sequence[Got]) -> None:
        """One line for the one file of several series."""
        if self._joined is not None and got and got[0].file is not None and not self._json:
            rows = sum(one.summary.row_count for one in got)
            typer.echo(f"{got[0].file}: {rows:,} rows of {len(got):,} series")


def _file(got: Got) -> dict[str, Any]:
    return {} if got.file is None else {"file": str(got.file)}


def _show(series: str, preview: Preview) -> None:
    rows = [*preview.head, *preview.tail]
    names = list(rows[0]) if rows else ["ts"]
    columns = {name: _SIDES.get(name, "right") for name in names}
    shown = [_cells(row) for row in preview.head]
    if preview.row_count > len(rows):
        shown.append(["..."] * len(names))
    shown += [_cells(row) for row in preview.tail]
    table(f"{series}: {preview.row_count:,} rows", columns, shown)


def _cells(row: dict[str, Any]) -> list[Any]:
    return [
        moment(row["ts"]),
        *(f"{value:.10g}" if isinstance(value, float) else value for value in list(row.values())[1:]),
    ]
