"""What engine and sources tell whoever listens: frozen payloads, and the one method that takes them.

The parts that tell know this module and nothing of who listens; app.py wires the two. `happened` is called on the event
loop, in the middle of the work: it must neither block nor raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange


@dataclass(frozen=True, slots=True)
class PageBegun:
    """Callers wait for a page, and its fetch has begun."""

    series: SeriesId
    window: TimeRange


@dataclass(frozen=True, slots=True)
class PageDone:
    """A page is covered: rows stored and set aside; 0 calls if somebody else had covered it."""

    series: SeriesId
    window: TimeRange
    row_count: int
    quarantined_count: int
    call_count: int


@dataclass(frozen=True, slots=True)
class PageFailed:
    """A page could not be covered, its retries are spent."""

    series: SeriesId
    window: TimeRange
    error: Exception


@dataclass(frozen=True, slots=True)
class PageLeft:
    """The fetch of a page was cancelled: nobody waits for it any more, or the server stops."""

    series: SeriesId
    window: TimeRange


@dataclass(frozen=True, slots=True)
class SeriesFailed:
    """A series could not be made ready to be fetched, the retries are spent."""

    series: SeriesId
    error: Exception


@dataclass(frozen=True, slots=True)
class Answered:
    """A venue answered a call as it should. `hosts` names one of its host groups, "" its main one."""

    exchange: str
    hosts: str


@dataclass(frozen=True, slots=True)
class PauseDemanded:
    """A venue's quota is spent, by its own word. `seconds`: the pause it wants, None if it named none."""

    exchange: str
    hosts: str
    http_status: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class AccessRefused:
    """A venue refuses this host or key: 401, 403 or 451."""

    exchange: str
    hosts: str
    http_status: int
    message: str


@dataclass(frozen=True, slots=True)
class ClockSeen:
    """How far a venue's clock is ahead of the host's, at least, in microseconds; negative if the host's is ahead."""

    exchange: str
    ahead: int


Event: TypeAlias = (
    PageBegun | PageDone | PageFailed | PageLeft | SeriesFailed | Answered | PauseDemanded | AccessRefused | ClockSeen
)


class Hooks(Protocol):
    """Is told what happens."""

    def happened(self, event: Event) -> None:
        """Takes an event. Never blocks, never raises."""


class _Nobody:
    def happened(self, event: Event) -> None:
        pass


NOBODY: Final[Hooks] = _Nobody()
"""Listens to nothing."""
