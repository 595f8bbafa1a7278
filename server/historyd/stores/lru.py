"""What is kept in memory of what was read: by name, bounded in bytes, those not used for longest go first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T")


class Lru(Generic[T]):
    """Values that take at most `most_bytes` together. For one thread at a time."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._kept_bytes = 0

    def get(self, name: Hashable) -> T | None:
        """The value of this name, used just now; None if there is none."""
        found = self._kept.get(name)
        if found is None:
            return None
        self._kept.move_to_end(name)
        return found[0]

    def put(self, name: Hashable, value: T, size: int) -> None:
        """Keeps a value of so many bytes in place of the one that had the name; not at all if it alone is too large."""
        self.pop(name)
        self._kept[name] = (value, size)
        self._kept_bytes += size
        while self._kept_bytes > self._most_bytes:
            self._kept_bytes -= self._kept.popitem(last=False)[1][1]

    def pop(self, name: Hashable) -> T | None:
        """Keeps the value of this name no longer, and gives it; None if there is none."""
        if name not in self._kept:
            return None
        value, size = self._kept.pop(name)
        self._kept_bytes -= size
        return value
