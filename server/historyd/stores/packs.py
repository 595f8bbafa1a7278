"""What packers made of blocks that are read again and again, kept in memory to be given out as it is.

Backtests and bots ask for the same ranges over and over; what is sent of a block that did not change is the same each
time, and to make it costs more than to send it. A block is packed when it is read for the second time before so many
bytes of others were read for the first time; so who reads all of a long history once, or round and round, neither
pays for packing nor drives out what others read often. Those packs go first that were not given out for longest.
Promises: at most MOST_BYTES are kept. A block's name stands for its bytes for ever, so nothing is ever out of date.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from historyd.stores.base import Packed
from historyd.stores.lru import Lru

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

MOST_BYTES: Final = 64 * 2**20
"""Some 1.4 million bars."""


class Packs:
    """The packs that are kept, by name. For several threads at once."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._lock = threading.Lock()
        self._kept = Lru[Packed](most_bytes)
        self._seen = Lru[bool](most_bytes)

    def get(self, name: Hashable) -> Packed | None:
        """The pack of this name, if it is kept."""
        with self._lock:
            return self._kept.get(name)

    def make(self, name: Hashable, size: int, pack: Callable[[], Packed | None]) -> Packed | None:
        """What `pack` makes, kept from now on, if a block of so many bytes was read lately under this name."""
        with self._lock:
            if self._seen.pop(name) is None:
                self._seen.put(name, value=True, size=size)
                return None
        packed = pack()
        if packed is not None:
            with self._lock:
                self._kept.put(name, packed, packed.nbytes)
        return packed
