"""The protocol of a limiter: the quota of one venue budget.

A limiter promises that no sliding window of its limits holds more calls (or weight) than the limit allows, as
long as no call is sent later than half of the limit's margin (budget.py) after `acquire` returned. A caller
books once and sleeps once. Callers are served in the order they came, the urgent ones (`Observer.urgent`) before the
others, which do not starve. A cancelled caller leaves nothing behind.
A limiter never makes a call itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from historyd.model.wait import Observer


@dataclass(frozen=True, slots=True)
class Cost:
    """What one HTTP call costs, in the units that limits count.

    Attributes:
        calls: HTTP calls, 1 for one.
        weight: in the venue's own unit of weight (ccxt's cost where the venue table names no other).
        budget_ms: milliseconds of the venue's budget by ccxt's tables (cost x rateLimit).
    """

    calls: float = 1.0
    weight: float = 1.0
    budget_ms: float = 0.0


class Limiter(Protocol):
    """The quota of one venue budget, shared by all who hold its key."""

    @property
    def key(self) -> str:
        """Names the budget."""

    def slot(self, observer: Observer) -> AbstractAsyncContextManager[None]:
        """One of `max_concurrency` places for a call under way; held from before `acquire` until the reply.

        Raises WaitTooLong if all are taken, and callers of before are due after `Observer.deadline`.
        """

    async def acquire(self, cost: Cost, observer: Observer) -> None:
        """Returns when the call may be sent, at once. Tells the observer if it has to wait, and why.

        Raises RateLimited, with the seconds left, while the venue has asked for a pause of more than a minute;
        WaitTooLong, with nothing booked, if the call would be due after `Observer.deadline`;
        QuotaUnavailable if the quota is shared and what it is shared through is away.
        """

    def penalise(self, seconds: float | None) -> None:
        """The venue asked for a pause: nobody who holds the key is served for so long; the longest pause counts.

        None: it named no time (a 429 without Retry-After), the configured penalty counts.
        """

    def observe(self, used: float, interval_ms: int) -> None:
        """The venue says that so much weight was used in its present interval, by all who have this budget.

        What the limits of that interval do not know of counts under them from now on, for as long.
        """

    def least_duration(self, cost: Cost, calls: int) -> float:
        """Least seconds in which so many calls of this cost can be sent, from an unused quota."""
