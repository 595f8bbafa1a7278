"""What a fetch tells while it runs: that it calls, or what it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class WaitCause(StrEnum):
    """Why no call is under way."""

    QUOTA = "quota"
    PENALTY = "penalty"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait until about `until` (microseconds, host clock); `detail` is the quota's key or the failure."""

    cause: WaitCause
    until: int
    detail: str


class Observer(Protocol):
    """Is told what a fetch is doing. Must not block, nor raise but where it says so."""

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for just this, so that it goes before the pages of long backfills."""

    @property
    def deadline(self) -> int | None:
        """Until when somebody waits for it (microseconds, host clock); None: for as long as it takes."""

    def waiting(self, wait: Wait) -> None:
        """The next call has to wait."""

    def calling(self) -> None:
        """A call to the exchange is sent now. May raise a HistoryError: then it is not to be sent."""
