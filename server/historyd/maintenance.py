"""What an operator does to a store file: see what it takes, remove what is not wanted.

Looking needs no other process to be stopped; removing is refused while a server holds the file.
Never does: make a store that is not there, or ask (the command line does).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from historyd.errors import InvalidField, StoreUnavailable
from historyd.model.series import SeriesId
from historyd.model.time_range import TimeRange, from_datetime, iso
from historyd.stores.embedded import open_embedded

if TYPE_CHECKING:
    from pathlib import Path

    from historyd.stores.base import StoredSeries
    from historyd.stores.embedded import Usage

_PAGE: Final = 1_000
_WIDEST: Final = 1_000
"""More columns of characters than any table has."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a store file takes, and each series in it, by id."""

    usage: Usage
    series: tuple[StoredSeries, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; times in ISO 8601, None where there is none."""
        return {
            "file_bytes": self.usage.file_bytes,
            "log_bytes": self.usage.log_bytes,
            "free_bytes": self.usage.free_bytes,
            "series": [
                {
                    "series": str(entry.series),
                    "rows": entry.row_count,
                    "bytes": entry.byte_count,
                    "first": None if entry.first is None else iso(entry.first),
                    "last": None if entry.last is None else iso(entry.last),
                }
                for entry in self.series
            ],
        }


@dataclass(frozen=True, slots=True)
class Target:
    """What to forget: a series, or a range of it."""

    series: SeriesId
    window: TimeRange | None

    def __str__(self) -> str:
        return f"{'all' if self.window is None else self.window} of {self.series}"


async def measure(path: Path) -> Report:
    """What the store at `path` takes. Raises StoreUnavailable."""
    _require(path)
    async with open_embedded(path, readonly=True) as store:
        found: list[StoredSeries] = []
        while page := await store.list_series("*", str(found[-1].series) if found else "", _PAGE):
            found += page
        return Report(await store.usage(), tuple(found))


def show(report: Report) -> None:
    """Prints a report as a table, on standard output."""
    table = Table(box=None, pad_edge=False)
    for name in ("series", "first", "last"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "bytes", "bytes/row"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in report.series:
        table.add_row(
            str(entry.series),
            "-" if entry.first is None else iso(entry.first),
            "-" if entry.last is None else iso(entry.last),
            f"{entry.row_count:,}",
            decimal(entry.byte_count),
            f"{entry.byte_count / entry.row_count:.1f}" if entry.row_count else "-",
        )
    console = Console(width=Console(width=_WIDEST).measure(table).maximum)  # a cell cut in two says nothing
    console.print(table)
    usage = report.usage
    console.print(f"file {decimal(usage.file_bytes)}, log {decimal(usage.log_bytes)}, free {decimal(usage.free_bytes)}")


def parse_target(series: str, time_range: str | None) -> Target:
    """Reads a series id and a range `START/END`: dates, or instants with their offset from UTC; END exclusive.

    Raises InvalidField.
    """
    return Target(SeriesId.parse(series), None if time_range is None else _parse_range(time_range))


async def forget(path: Path, target: Target) -> int:
    """Removes the rows and the coverage of a target together; returns the rows removed. Raises StoreUnavailable."""
    _require(path)
    async with open_embedded(path) as store:
        return await store.forget(target.series, target.window)


def _require(path: Path) -> None:
    if not path.exists():
        raise StoreUnavailable(f"there is no store at {path}: name its file in store.embedded.path")


def _parse_range(text: str) -> TimeRange:
    start, _, end = text.partition("/")
    first, after = _parse_instant(text, start), _parse_instant(text, end)
    if first >= after:
        raise InvalidField("RANGE", text, "must start before it ends")
    return TimeRange(first, after)


def _parse_instant(text: str, part: str) -> int:
    try:
        moment = datetime.fromisoformat(f"{date.fromisoformat(part)}T00:00:00Z" if len(part) == 10 else part)
        return from_datetime(moment)
    except ValueError:
        raise InvalidField(
            "RANGE", text, "must be START/END, such as 2024-01-01/2024-02-01 or with times such as 2024-01-01T12:00:00Z"
        ) from None
