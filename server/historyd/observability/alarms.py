"""Alarms: what is wrong right now, and what of it is told when. Pure: no clock, no I/O.

Rules:
1. An alarm is one kind of trouble with one thing (its key). While it lasts it is told once, and again after
   `repeat_after_s`; how often it was raised is counted.
2. Trouble that ends is told only if it was told before, and only once it has stayed away for `settle_s`: an alarm that
   comes and goes is one alarm.
3. No more than `most_per_hour` alarms are told within any hour; the others are counted in the next message, and told
   if they are raised again later. Recoveries are never held back, there are no more of them than alarms.
4. An alarm that nobody raises or clears is forgotten after a week.

Instants are microseconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from historyd.model.time_range import MICROS_PER_DAY, MICROS_PER_S

if TYPE_CHECKING:
    from historyd.observability.options import AlertOptions

_HOUR: Final = 3600 * MICROS_PER_S
_FORGET_AFTER: Final = 7 * MICROS_PER_DAY


class Trouble(StrEnum):
    """The kinds of trouble."""

    BACKFILL = "backfill failed"
    STALLED = "backfill stalled"
    BAN = "banned"
    REFUSED = "refused"
    CLOCK = "clock skew"
    STORE = "store"
    QUOTA = "shared quota"
    QUARANTINE = "quarantine"
    TEST = "test"


_ONCE: Final = frozenset((Trouble.QUARANTINE,))
"""Trouble that just happens: it has no end that could be told."""


_OVER: Final = {
    Trouble.STALLED: "{}: pages are done again after {}",
    Trouble.CLOCK: "{}: the clocks agree again after {}",
}
"""What is said of trouble with a thing that was over after a span."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is told: of which trouble with what, in words; `is_over` if it is a recovery."""

    trouble: Trouble
    key: str
    text: str
    is_over: bool = False


@dataclass(slots=True)
class _Alarm:
    since: int
    raised_at: int
    count: int = 0
    told_at: int | None = None
    fine_since: int | None = None


class Alarms:
    """The alarms of one server."""

    def __init__(self, options: AlertOptions) -> None:
        self._repeat_after = round(options.repeat_after_s * MICROS_PER_S)
        self._settle = round(options.settle_s * MICROS_PER_S)
        self._most_per_hour = options.most_per_hour
        self._alarms: dict[tuple[Trouble, str], _Alarm] = {}
        self._told: deque[int] = deque()
        self._held_back = 0

    def __len__(self) -> int:
        return len(self._alarms)

    def raised(self, trouble: Trouble, key: str, text: str, now: int) -> Message | None:
        """Something is wrong; what to tell of it now, if anything."""
        alarm = self._alarms.setdefault((trouble, key), _Alarm(now, now))
        alarm.count += 1
        alarm.raised_at, alarm.fine_since = now, None
        if alarm.told_at is not None and now - alarm.told_at < self._repeat_after:
            return None
        if not self._may_tell(now):
            self._held_back += 1
            return None
        again = (
            f" (still so after {spell(now - alarm.since)}, {alarm.count} times)" if alarm.told_at is not None else ""
        )
        alarm.told_at = now
        return Message(trouble, key, f"{text}{again}{self._held_back_note()}")

    def cleared(self, trouble: Trouble, key: str, now: int) -> None:
        """It is not wrong, or not any more."""
        alarm = self._alarms.get((trouble, key))
        if alarm is None:
            return
        if alarm.told_at is None:
            del self._alarms[trouble, key]
        elif alarm.fine_since is None:
            alarm.fine_since = now

    def cleared_all(self, trouble: Trouble, now: int) -> None:
        """Nothing of the kind is wrong any more."""
        for kind, key in list(self._alarms):
            if kind is trouble:
                self.cleared(trouble, key, now)

    def settled(self, now: int) -> list[Message]:
        """The recoveries to tell now. Call it every few seconds."""
        over: list[Message] = []
        for (trouble, key), alarm in list(self._alarms.items()):
            if alarm.fine_since is not None and now - alarm.fine_since >= self._settle:
                words = _OVER.get(trouble, "{} works again after {}")
                text = words.format(key, spell(alarm.fine_since - alarm.since))
                over.append(Message(trouble, key, text, is_over=True))
                del self._alarms[trouble, key]
            elif now - alarm.raised_at >= (self._repeat_after if trouble in _ONCE else _FORGET_AFTER):
                del self._alarms[trouble, key]
        return over

    def _may_tell(self, now: int) -> bool:
        while self._told and now - self._told[0] >= _HOUR:
            self._told.popleft()
        if len(self._told) >= self._most_per_hour:
            return False
        self._told.append(now)
        return True

    def _held_back_note(self) -> str:
        held_back, self._held_back = self._held_back, 0
        return f" [{held_back} more messages were held back]" if held_back else ""


def spell(micros: int) -> str:
    """A span in words of one unit or two: `12 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    seconds = max(0, micros) // MICROS_PER_S
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"
