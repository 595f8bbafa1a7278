"""What an exchange sees of a limiter's callers: when calls were sent, and how full its windows were."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Sends:
    """Calls as (microseconds, cost in the unit looked at, who), in the order they were sent."""

    log: list[tuple[int, float, str]] = field(default_factory=list)

    def add(self, at: int, cost: float = 1.0, who: str = "") -> None:
        self.log.append((at, cost, who))

    @property
    def times(self) -> list[int]:
        return [at for at, _, _ in self.log]

    @property
    def callers(self) -> list[str]:
        return [who for _, _, who in self.log]

    def fullest(self, window: int) -> float:
        """Most cost in any sliding window [t, t + window): the fullest one begins at a send."""
        return max(
            (sum(cost for at, cost, _ in self.log if begin <= at < begin + window) for begin in self.times),
            default=0.0,
        )
