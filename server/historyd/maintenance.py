"""What an operator does to a store: see what it takes, remove what is not wanted.

Looking needs no other process to be stopped; removing from a file is refused while a server holds it.
Never does: make a store that is not there, or ask (the command line does).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from historyd.errors import InvalidField, StoreUnavailable
from historyd.model.series import SeriesId
from historyd.model.time_range import TimeRange, from_datetime, iso
from historyd.stores.copying import copy
from historyd.stores.embedded import open_embedded
from historyd.stores.places import open_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from historyd.stores.base import Store, StoredSeries
    from historyd.stores.embedded import Usage
    from historyd.stores.places import Place

_PAGE: Final = 1_000
_WIDEST: Final = 1_000
"""More columns of characters than any table has."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a store takes, None for a QuestDB, whose files this cannot see; and each series in it, by id."""

    usage: Usage | None
    series: tuple[StoredSeries, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; times in ISO 8601, None where there is none."""
        return {
            **(asdict(self.usage) if self.usage is not None else {}),
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


async def measure(place: Place) -> Report:
    """What the store there takes. Raises StoreUnavailable."""
    if isinstance(place, Path):
        _require(place)
        async with open_embedded(place, readonly=True) as store:
            return Report(await store.usage(), await _series(store))
    async with open_place(place) as store:
        return Report(None, await _series(store))


async def _series(store: Store) -> tuple[StoredSeries, ...]:
    found: list[StoredSeries] = []
    while page := await store.list_series("*", str(found[-1].series) if found else "", _PAGE):
        found += page
    return tuple(found)


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
    if usage is not None:
        console.print(
            f"file {decimal(usage.file_bytes)}, log {decimal(usage.log_bytes)}, free {decimal(usage.free_bytes)}"
        )


def parse_target(series: str, time_range: str | None) -> Target:
    """Reads a series id and a range `START/END`: dates, or instants with their offset from UTC; END exclusive.

    Raises InvalidField.
    """
    return Target(SeriesId.parse(series), None if time_range is None else _parse_range(time_range))


async def forget(place: Place, target: Target) -> int:
    """Removes the rows and the coverage of a target together; returns the rows removed. Raises StoreUnavailable."""
    if isinstance(place, Path):
        _require(place)
    async with open_place(place) as store:
        return await store.forget(target.series, target.window)


async def move(origin: Place, target: Place, tell: Callable[[SeriesId, int], None]) -> int:
    """Copies all that one store holds to the other; returns the rows copied. Raises as `stores.copying.copy`."""
    if isinstance(origin, Path):
        _require(origin)
        async with open_embedded(origin, readonly=True) as store, open_place(target) as other:
            return await copy(store, other, tell)
    async with open_place(origin) as store, open_place(target) as other:
        return await copy(store, other, tell)


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
