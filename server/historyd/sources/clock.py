"""The exchange's clock, as far as its replies' `Date` headers tell.

A `Date` of D, truncated to seconds, in the reply to a call sent at `s` and answered at `r` (host clock) means that
the exchange's clock is ahead of the host's by between `D - r` and `D + 1 s - s`. `VenueClock` keeps the highest
lower bound, so that `now` is never ahead of the exchange's clock and behind it by at most about a second.

Promises: a bound that a later reply contradicts (the host's clock was set) or that is old (clocks drift) is dropped.
Never does: read any clock by itself but the one it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from historyd.model.time_range import MICROS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

BELIEVED_FOR: Final = 600 * MICROS_PER_S
"""How long a bound is kept: at a drift of 100 ppm it is wrong by 60 ms by then."""


class VenueClock:
    """One exchange's clock. `host_clock` gives microseconds since 1970."""

    def __init__(self, host_clock: Callable[[], int]) -> None:
        self._host_clock = host_clock
        self._ahead: int | None = None
        self._seen_at = 0

    def now(self) -> int:
        """The exchange's time in microseconds, never ahead of it; the host's before the first reply."""
        return self._host_clock() + (self._ahead or 0)

    @property
    def ahead(self) -> int:
        """How far the exchange's clock is ahead of the host's, at least, in microseconds; 0 before the first reply."""
        return self._ahead or 0

    def observe(self, date_s: float, sent_at: int, received_at: int) -> None:
        """Learns from a reply: its `Date` in seconds, and when it was asked for and received (host clock)."""
        date = int(date_s * MICROS_PER_S)
        lowest, highest = date - received_at, date + MICROS_PER_S - sent_at
        contradicted = self._ahead is not None and self._ahead > highest
        old = received_at - self._seen_at > BELIEVED_FOR
        if self._ahead is None or contradicted or old or lowest > self._ahead:
            self._ahead, self._seen_at = lowest, received_at
