"""The last rows of series, kept in memory for those who ask for them again and again.

A strategy polls the last hundred bars; between two commits the answer is the same. What is kept is bounded in rows
and in series, and is thrown away by the first commit to its series. Never does: read anything.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

    from historyd.stores.ledger import Edition

MOST_ROWS: Final = 2_048
"""The longest tail kept, about 100 kB."""
MOST_SERIES: Final = 256


class Tails:
    """The rows kept, by series; those not used for longest go first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[Edition, pa.RecordBatch]] = OrderedDict()

    def get(self, edition: Edition, count: int) -> pa.RecordBatch | None:
        """The last `count` rows, if at least so many are kept of this edition."""
        kept, rows = self._kept.get(edition.series, (None, None))
        if kept != edition or rows is None or rows.num_rows < count:
            return None
        self._kept.move_to_end(edition.series)
        return rows.slice(rows.num_rows - count)

    def keep(self, edition: Edition, rows: pa.RecordBatch) -> None:
        """Keeps the last rows of a series as of an edition of it."""
        self._kept[edition.series] = (edition, rows)
        self._kept.move_to_end(edition.series)
        if len(self._kept) > MOST_SERIES:
            self._kept.popitem(last=False)
