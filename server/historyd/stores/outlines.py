"""What a read of a window came to, kept so that the next one like it need not look for its rows.

Backtests ask for the same window over and over. An outline lists the window's rows in order: whole blocks by name, as
their packs are kept already (packs.py), and all else, such as the window's edges, as it is. It is true of one edition
of its series, and the next edition has another name, so nothing is ever out of date.
Promises: a read that comes to more than MOST_BYTES_OF_ONE is not held while it goes on. Never does: read anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from historyd.stores.block_table import Block
from historyd.stores.steps import Loaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from historyd.stores.steps import Part

Outline: TypeAlias = "Sequence[pa.RecordBatch | Block]"

MOST_BYTES: Final = 16 * 2**20
"""Of all outlines that are kept."""
MOST_BYTES_OF_ONE: Final = 2 * 2**20
"""Both edges of a window, each about a block."""
_NAME_BYTES: Final = 256
"""What the name of a block takes, about."""


class Draft:
    """An outline that is being noted down; it is given up once it is too large."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._parts: list[pa.RecordBatch | Block] | None = []

    def add(self, part: Part) -> None:
        """Notes what comes next; gives up at a block whose name the next read may know."""
        if self._parts is None:
            return
        if isinstance(part, Loaded):
            self._parts = None
            return
        self.nbytes += _size(part)
        self._parts.append(part)
        if self.nbytes > MOST_BYTES_OF_ONE:
            self._parts = None

    @property
    def outline(self) -> Outline | None:
        """The whole of it; None if it was given up."""
        return self._parts


def _size(part: pa.RecordBatch | Block) -> int:
    """Bytes of memory that a part takes, rows with all that they are cut from."""
    return _NAME_BYTES if isinstance(part, Block) else _NAME_BYTES + int(part.get_total_buffer_size())
