"""The protocol of a store: where rows and coverage live.

A store promises:
1. `commit` makes rows and the fact that covers them durable and visible together; a fact is never ahead of its rows.
2. Facts only add knowledge: committing one twice, late or out of order changes nothing that a newer answer
   (greater `asked_at`) said. A newer answer replaces all of its range: rows it does not name are gone.
3. Readers never block the writer, and nothing blocks the event loop.
4. It holds the history of one origin per exchange and refuses another.
5. Drivers' errors never leave it: StoreUnavailable, CorruptPage or OriginMismatch do.
A store never asks an exchange for anything and knows no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Hashable, Sequence
    from contextlib import AbstractAsyncContextManager

    import pyarrow as pa

    from historyd.coverage import Covered, Fact
    from historyd.model.page import Layout
    from historyd.model.rows import Quarantined, RowKey
    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.model.venue import Origin


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """What a store holds of one series. `first` and `last` are row times, None if there are no rows."""

    series: SeriesId
    first: int | None
    last: int | None
    row_count: int
    byte_count: int
    covered: TimeRange | None


class Packed(Protocol):
    """What a packer made of the rows of a batch; never changed."""

    @property
    def num_rows(self) -> int:
        """Rows that it was made of."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""


class Packer(Protocol):
    """Makes of many rows what their reader wants of them, so that it need not be made again at each read."""

    @property
    def name(self) -> Hashable:
        """Packers of one name make the same of the same rows."""

    def pack(self, batch: pa.RecordBatch) -> Packed | None:
        """Packs rows, in any thread; None if these are not to be packed."""


Rows: TypeAlias = "pa.RecordBatch | Packed"


class Store(Protocol):
    """Where rows and coverage live. Opened and closed as an async context manager by its factory."""

    @property
    def uuid(self) -> str:
        """Names this store for ever, wherever its files are moved."""

    async def layout(self, series: SeriesId) -> Layout | None:
        """How the series is cut into pages; None if it was never written."""

    async def open_series(self, series: SeriesId, origin: Origin, layout: Layout) -> Layout:
        """Makes ready to write a series; call it before its first commit.

        The first caller fixes the layout for ever; later ones get that one back, whatever they ask for.
        Raises OriginMismatch if the store holds this exchange's history from another origin.
        """

    async def commit(
        self, series: SeriesId, fact: Fact, rows: pa.RecordBatch, quarantined: Sequence[Quarantined] = ()
    ) -> None:
        """Stores the rows of a range, its quarantined rows and the fact that covers it, all or nothing.

        `rows` has the schema of the series' kind, is ordered and unique by key, lies inside `fact.range`, has
        `fact.row_count` rows and, for bars, is on the grid of the series' layout. Where a newer answer is stored
        already, that one stays.
        """

    async def coverage(self, series: SeriesId, window: TimeRange) -> list[Covered]:
        """Maximal covered spans clipped to the window, ascending, each with its exact row count.

        Costs as much as there are spans, not rows.
        """

    def read(
        self, series: SeriesId, window: TimeRange, after: RowKey | None = None
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """Rows of the window in key order, only those after `after` if it is given.

        Batches have all columns of the kind's schema, hold 1 to about 20,000 rows and at most about 1 MiB;
        memory is bounded by a few of them, however slowly they are taken. Raises CorruptPage.
        """

    def read_packed(
        self, series: SeriesId, window: TimeRange, after: RowKey | None, packer: Packer
    ) -> AsyncGenerator[Rows, None]:
        """As `read`; but where a batch is read again and again, the store may give what the packer made of it."""

    def read_last(self, series: SeriesId, count: int, before: int) -> AsyncGenerator[pa.RecordBatch, None]:
        """The last `count` rows before `before`, in ascending key order, batches as in `read`."""

    async def quarantined_count(self, series: SeriesId, window: TimeRange) -> int:
        """How many rows of the window were set aside."""

    async def quarantined(self, series: SeriesId, window: TimeRange) -> list[Quarantined]:
        """The rows of the window that were set aside, ascending by `at`, which is set."""

    async def revised(self, series: SeriesId, window: TimeRange) -> list[int]:
        """The times of the window at which a newer answer changed, added or took away rows of an older one, ascending.

        Each once, however often it was revised. What was forgotten since, and what `historyd copy` brought from
        another store, is not known.
        """

    async def origin(self, exchange: str) -> Origin | None:
        """Where the history of an exchange comes from; None if no series of it is stored."""

    async def list_series(self, pattern: str, after: str, limit: int) -> list[StoredSeries]:
        """Series whose id is greater than `after` and matches the pattern (`*`, `?`), by id, at most `limit`."""

    async def forget(self, series: SeriesId, window: TimeRange | None = None) -> int:
        """Removes rows, quarantine and facts of the window (all: the layout too) together; returns the rows removed."""


class StoreFactory(Protocol):
    """Opens a store for writing."""

    def __call__(self) -> AbstractAsyncContextManager[Store]:
        """Opens it; raises StoreUnavailable if it cannot be opened, is newer than this code or has a writer."""
