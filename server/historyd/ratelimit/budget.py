"""What a quota is: limits of calls, weight or milliseconds of budget, each over a sliding window.

Plain values. A budget is built by options.py from the user's words and kept by window_log.py.
Never does: count anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, Final

from historyd.model.time_range import MICROS_PER_MS

if TYPE_CHECKING:
    from historyd.ratelimit.base import Cost

PARTS: Final = 1_000_000
"""Amounts are counted in whole millionths: sums of costs like 0.4 stay exact."""
MARGIN_SHARE: Final = 100
"""The margin is this part of the window: 1 % of the capacity is the price of late sends doing no harm."""
LEAST_MARGIN: Final = MICROS_PER_MS // 2
MOST_MARGIN: Final = 300 * MICROS_PER_MS


class Unit(StrEnum):
    """What a limit counts; each names a field of Cost."""

    CALLS = "calls"
    WEIGHT = "weight"
    BUDGET_MS = "budget_ms"


@dataclass(frozen=True, slots=True)
class Limit:
    """No sliding window of `window` microseconds holds more than `amount` of a unit.

    Attributes:
        unit: what is counted.
        amount: most of it in one window, in millionths; positive.
        window: microseconds; positive.
        margin: microseconds that a call may be sent after it is due without breaking the limit. Half of it is
            for waking late, half for the way from `acquire` to the wire.
    """

    unit: Unit
    amount: int
    window: int
    margin: int

    @classmethod
    def of(cls, unit: Unit, amount: float, interval_ms: float) -> Limit:
        """A limit in the user's units, with the margin that its window allows.

        The window is rounded up to a microsecond, the amount to a millionth; neither to nothing.
        """
        window = max(1, ceil(interval_ms * MICROS_PER_MS))
        margin = min(max(window // MARGIN_SHARE, LEAST_MARGIN), MOST_MARGIN)
        return cls(unit, max(1, round(amount * PARTS)), window, margin)

    @property
    def spacing(self) -> int:
        """Microseconds between the time of a booking and the time its amount can be booked again."""
        return self.window + self.margin

    @property
    def grace(self) -> int:
        """Microseconds after its due time within which a caller must have woken."""
        return self.margin // 2

    def counts_weight_in(self, interval_ms: int) -> bool:
        """Whether this limits the weight of such intervals."""
        return self.unit is Unit.WEIGHT and self.window == interval_ms * MICROS_PER_MS

    def share(self, replicas: int) -> Limit:
        """What each of so many servers may use by itself: whole units, so maybe none."""
        return replace(self, amount=self.amount // PARTS // replicas * PARTS)

    def parts(self, cost: Cost) -> int:
        """What a call costs under this limit, in millionths."""
        amount: float = getattr(cost, self.unit)
        return round(amount * PARTS)

    def overrun(self, parts: int) -> int:
        """Microseconds for which a cost above the amount fills the limit beyond one window; else 0."""
        excess = parts - self.amount
        return -(-excess * self.window // self.amount) if excess > 0 else 0


@dataclass(frozen=True, slots=True)
class Budget:
    """The quota of one venue budget.

    Attributes:
        limits: all of them hold, for every call.
        concurrency: calls of this process under way at once; at least 1.
        penalty_s: seconds of pause after a refusal for which the venue named no time.
        replicas: among so many servers the quota is divided while what they share it through is away; None: then
            nobody is served.
    """

    limits: tuple[Limit, ...]
    concurrency: int = 1
    penalty_s: float = 1.0
    replicas: int | None = None
