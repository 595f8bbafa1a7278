"""What is shown on a terminal: progress bars on standard error, tables on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from markethistory.values import EnsurePlan, EnsureProgress, Wait, WaitCause, iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta
    from types import TracebackType

    from rich.console import JustifyMethod

    from markethistory.ensuring import EnsureEvent

MOST_BARS: Final = 8
_WIDEST: Final = 1_000
"""More columns of characters than any table has."""


class Board:
    """Progress bars, one for each series; silent if `quiet` or if standard error is no terminal.

    Of more than `MOST_BARS` series it shows only those under way, and how many are done.
    """

    def __init__(self, series_count: int, *, quiet: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[told]}"),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._all: TaskID | None = None
        if series_count > MOST_BARS:
            self._all = self._progress.add_task("all series", total=series_count, told=f"of {series_count:,}")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def watch_ensure(self, series: str) -> Callable[[EnsureEvent], None]:
        """A bar for an ensure; give it the events."""
        task = self._add(series)

        def show(event: EnsureEvent) -> None:
            if isinstance(event, EnsurePlan):
                self._progress.update(task, total=event.page_count, told=f"{event.call_count:,} calls to make")
            else:
                self._progress.update(task, completed=event.pages_done, told=_told(event))

        return show

    def watch_read(self, series: str) -> Callable[[int], None]:
        """A bar for a read, whose end is not known; give it the rows so far."""
        task = self._add(series)
        return lambda rows: self._progress.update(task, told=f"{rows:,} rows read")

    def done(self, series: str) -> None:
        """Nothing more comes of a series."""
        if self._all is None:
            return
        self._progress.advance(self._all)
        task = self._tasks.pop(series, None)
        if task is not None:
            self._progress.remove_task(task)

    def _add(self, series: str) -> TaskID:
        task = self._tasks[series] = self._progress.add_task(series, total=None, told="")
        return task


def table(title: str, columns: dict[str, str], rows: Iterable[Iterable[Any]]) -> None:
    """Prints a table as wide as it is: a cell cut in two says nothing. `columns` maps headings to `left` or `right`."""
    shown = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading, side in columns.items():
        justify: JustifyMethod = "right" if side == "right" else "left"
        shown.add_column(heading, justify=justify, no_wrap=True)
    for row in rows:
        shown.add_row(*map(_cell, row))
    Console(width=Console(width=_WIDEST).measure(shown).maximum).print(shown)


def duration(span: timedelta) -> str:
    """`1:02:03`, or `2 days, 1:02:03`."""
    return str(span).partition(".")[0]


def moment(when: datetime | None) -> str:
    """ISO 8601 to the second, empty for None."""
    return "" if when is None else iso(when.replace(microsecond=0))


def _cell(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def _told(event: EnsureProgress) -> str:
    parts = [f"{event.rows_done:,} rows", f"{event.calls_done:,} calls"]
    if event.remaining is not None:
        parts.append(f"{duration(event.remaining)} left")
    if event.wait is not None:
        parts.append(_waits(event.wait))
    return " · ".join(parts)


def _waits(wait: Wait) -> str:
    until = wait.until.astimezone().strftime("%H:%M:%S")
    if wait.cause is WaitCause.QUOTA:
        return f"waiting for quota until {until}"
    if wait.cause is WaitCause.PENALTY:
        return f"the exchange asked for a pause until {until}"
    return f"trying again at {until}: {wait.detail}"
