"""Windows that a venue was seen not to serve, remembered for a while so that nobody asks in a loop.

Kept in memory only: after a restart each is asked for once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from historyd.coverage import Unreachable
from historyd.model.time_range import MICROS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange

PROBE_TTL: Final = 3600 * MICROS_PER_S
"""How long an unreachable window is not asked for again."""


class Probes:
    """Windows that the venue was seen not to serve, for an hour each."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._seen: dict[SeriesId, list[tuple[int, Unreachable]]] = {}

    def add(self, series: SeriesId, window: TimeRange, reason: str) -> None:
        """Remembers that the venue did not serve the window now."""
        self._seen.setdefault(series, []).append((self._clock(), Unreachable(window, reason)))

    def of(self, series: SeriesId, believed_since: int | None = None) -> list[Unreachable]:
        """What is still remembered of a series, of that only what was seen since `believed_since`."""
        seen = self._seen.get(series)
        if seen is None:
            return []
        oldest = self._clock() - PROBE_TTL
        fresh = [(seen_at, hit) for seen_at, hit in seen if seen_at >= oldest]
        self._seen[series] = fresh
        if not fresh:
            del self._seen[series]
        return [hit for seen_at, hit in fresh if believed_since is None or seen_at >= believed_since]
