"""Which events mean trouble, and which mean that it is over. Pure: no clock, no I/O.

| trouble    | with what    | raised by                                             | over when               |
|------------|--------------|-------------------------------------------------------|-------------------------|
| BACKFILL   | series       | a page or an opening that failed, retries spent       | a page of it is done    |
| STALLED    | exchange     | no page done for `stalled_after_s` while some are due | one is, or none is due  |
| BAN        | host group   | 418, or a pause of `ban_s` or more                    | it answers              |
| REFUSED    | host group   | 401, 403, 451                                         | it answers              |
| CLOCK      | exchange     | clocks that differ by more than `clock_skew_s`        | they do not             |
| STORE      | cause        | a page that could not be kept (`table suspended` ...) | a page is kept          |
| QUOTA      | exchange     | the quota shared through Redis cannot be asked        | a page of it is done    |
| QUARANTINE | series       | a page of which too many rows were set aside          |                         |

A name that a caller got wrong, a caller's deadline, a stop of the server and a range that lies too deep are no trouble
of the server's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from historyd.errors import (
    HistoryError,
    NoSource,
    NotFound,
    QuotaUnavailable,
    RateLimited,
    ShuttingDown,
    StoreUnavailable,
    VenueRefused,
    WaitTooLong,
)
from historyd.model.time_range import MICROS_PER_S, iso
from historyd.observability.alarms import Alarms, Message, Trouble, spell
from historyd.observability.hooks import (
    AccessRefused,
    Answered,
    ClockSeen,
    PageBegun,
    PageDone,
    PageFailed,
    PageLeft,
    PauseDemanded,
    SeriesFailed,
)

if TYPE_CHECKING:
    from historyd.model.series import SeriesId
    from historyd.observability.hooks import Event
    from historyd.observability.options import AlertOptions

_NO_TROUBLE: Final = (NotFound, NoSource, ShuttingDown, WaitTooLong)
_TOO_MANY_REQUESTS_BANNED: Final = 418


@dataclass(slots=True)
class _Due:
    """The pages of one exchange that are under way, and since when none was done."""

    since: int
    pages: int = 0


@dataclass(slots=True)
class Troubles:
    """Turns events into messages by way of alarms."""

    options: AlertOptions
    alarms: Alarms
    _due: dict[str, _Due] = field(default_factory=dict)

    def heard(self, event: Event, now: int) -> list[Message]:
        """What to tell after an event."""
        match event:
            case PageBegun(series):
                self._due.setdefault(series.exchange, _Due(now)).pages += 1
            case PageLeft(series):
                self._left(series.exchange, now, done=False)
            case PageDone():
                return self._done(event, now)
            case PageFailed(series, window, error):
                self._left(series.exchange, now, done=False)
                return self._failed(series, f"{series}: {window}", error, now)
            case SeriesFailed(series, error):
                return self._failed(series, str(series), error, now)
            case _:
                return self._heard_of_venue(event, now)
        return []

    def _heard_of_venue(self, event: Answered | PauseDemanded | AccessRefused | ClockSeen, now: int) -> list[Message]:
        match event:
            case Answered(exchange, hosts):
                for trouble in (Trouble.BAN, Trouble.REFUSED):
                    self.alarms.cleared(trouble, _place(exchange, hosts), now)
                return []
            case PauseDemanded():
                return self._paused(event, now)
            case AccessRefused(exchange, hosts, _, message):
                return self._raise(Trouble.REFUSED, _place(exchange, hosts), message, now)
            case ClockSeen(exchange, ahead):
                return self._clock(exchange, ahead, now)

    def passed(self, now: int) -> list[Message]:
        """What to tell because time has passed. Call it every few seconds."""
        told: list[Message] = []
        for exchange, due in self._due.items():
            if now - due.since >= self.options.stalled_after_s * MICROS_PER_S:
                text = f"{exchange}: no page done for {spell(now - due.since)}, {due.pages} under way"
                told += self._raise(Trouble.STALLED, exchange, text, now)
        return [*told, *self.alarms.settled(now)]

    def _done(self, event: PageDone, now: int) -> list[Message]:
        series, exchange = event.series, event.series.exchange
        self._left(exchange, now, done=True)
        for trouble, key in ((Trouble.BACKFILL, str(series)), (Trouble.QUOTA, exchange)):
            self.alarms.cleared(trouble, key, now)
        self.alarms.cleared_all(Trouble.STORE, now)
        bad, rows = event.quarantined_count, event.row_count + event.quarantined_count
        if bad <= self.options.quarantine_share * rows:
            return []
        text = f"{series}: {bad:,} of {rows:,} rows of {event.window} were set aside; `markethistory quality` tells why"
        return self._raise(Trouble.QUARANTINE, str(series), text, now)

    def _left(self, exchange: str, now: int, *, done: bool) -> None:
        """A page is under way no more."""
        due = self._due.get(exchange)
        if due is None:
            return
        due.pages -= 1
        if done:
            due.since = now
        if due.pages <= 0:
            del self._due[exchange]
        if done or due.pages <= 0:
            self.alarms.cleared(Trouble.STALLED, exchange, now)

    def _failed(self, series: SeriesId, where: str, error: Exception, now: int) -> list[Message]:
        if isinstance(error, _NO_TROUBLE) or self._told_by_venue(error):
            return []
        match error:
            case StoreUnavailable():
                cause = error.metadata.get("cause", "failed")
                return self._raise(Trouble.STORE, f"the store ({cause})", f"{where}: {error} ({cause})", now)
            case QuotaUnavailable():
                return self._raise(Trouble.QUOTA, series.exchange, str(error), now)
            case HistoryError():
                return self._raise(Trouble.BACKFILL, str(series), f"{where}: {error}", now)
            case _:
                text = f"{where}: a defect of the server, {type(error).__name__}; its log has more"
                return self._raise(Trouble.BACKFILL, str(series), text, now)

    def _told_by_venue(self, error: Exception) -> bool:
        """Whether the source has told of it already, with the host group: a ban, or a refusal."""
        match error:
            case RateLimited():
                return (error.retry_after_s or 0.0) >= self.options.ban_s
            case VenueRefused():
                return error.metadata.get("http_status") in {"401", "403", "451"}
            case _:
                return False

    def _paused(self, event: PauseDemanded, now: int) -> list[Message]:
        seconds = event.seconds or 0.0
        if event.http_status != _TOO_MANY_REQUESTS_BANNED and seconds < self.options.ban_s:
            return []
        place = _place(event.exchange, event.hosts)
        how = f" (HTTP {event.http_status})" if event.http_status is not None else ""
        until = now + round(seconds * MICROS_PER_S)
        bound = f" until {iso(until - until % MICROS_PER_S)}" if seconds else ""
        return self._raise(Trouble.BAN, place, f"{place} has banned us{bound}{how}", now)

    def _clock(self, exchange: str, ahead: int, now: int) -> list[Message]:
        if abs(ahead) <= self.options.clock_skew_s * MICROS_PER_S:
            self.alarms.cleared(Trouble.CLOCK, exchange, now)
            return []
        order = "ahead of" if ahead > 0 else "behind"
        text = f"{exchange}'s clock is {abs(ahead) / MICROS_PER_S:.0f} s {order} this host's: check the host's clock"
        return self._raise(Trouble.CLOCK, exchange, text, now)

    def _raise(self, trouble: Trouble, key: str, text: str, now: int) -> list[Message]:
        message = self.alarms.raised(trouble, key, text, now)
        return [] if message is None else [message]


def _place(exchange: str, hosts: str) -> str:
    return f"{exchange} ({hosts})" if hosts else exchange
