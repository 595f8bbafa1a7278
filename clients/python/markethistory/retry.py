"""When a broken call is made again, after what pause, and until when. Never sleeps: the callers do."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Final

import grpc

from markethistory.errors import IncompleteStream, MarketHistoryError, TimedOut

_BROKEN: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,  # what a reset HTTP/2 stream becomes
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
}
_TRIED_BY_SERVER: Final = {"EXCHANGE_UNAVAILABLE", "BAD_ANSWER", "RATE_LIMITED"}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a broken stream is resumed.

    Attributes:
        attempts: calls in a row that may fail without bringing anything new; 1: never resume.
        backoff_s: longest pause before the second of them; doubles with each further one.
        most_s: longest pause at all. A server that asks for a longer one gets none: its error is raised.
    """

    attempts: int = 6
    backoff_s: float = 0.2
    most_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.backoff_s < 0 or self.most_s < 0:
            raise ValueError("attempts must be at least 1, pauses not negative")


class Attempts:
    """Counts the failures of one logical call."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._heard = False

    def heard(self) -> None:
        """The server is there."""
        self._heard = True

    def progressed(self) -> None:
        """The server brought something new: failures count anew."""
        self._heard = True
        self._failures = 0

    def pause_after(self, error: MarketHistoryError) -> float:
        """Seconds to wait before the next attempt. Raises the error itself if there should be none."""
        self._failures += 1
        # A server that never answered is more likely down than restarting: say so soon.
        allowed = self._policy.attempts if self._heard or error.reason else min(2, self._policy.attempts)
        asked = error.retry_after_s
        if self._failures >= allowed or not _may_help(error) or (asked or 0.0) > self._policy.most_s:
            raise error
        backoff = min(self._policy.backoff_s * 2.0 ** (self._failures - 1), self._policy.most_s)
        jittered = backoff * random.uniform(0.5, 1.0)  # noqa: S311  spreads a herd, keeps no secret
        return max(jittered, asked or 0.0)


def _may_help(error: MarketHistoryError) -> bool:
    """Whether the server says that asking again may help or, if it said nothing, the stream just broke.

    What the exchange refuses was tried again by the server already, as often as it is told to.
    """
    if error.reason:
        return error.retry_after_s is not None and error.reason not in _TRIED_BY_SERVER
    return isinstance(error, IncompleteStream) or error.code in _BROKEN


class Deadline:
    """The end of one logical call, resumed streams and pauses among it."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._ends_at = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Seconds left, None if there is no end. Raises TimedOut if there are none."""
        if self._ends_at is None:
            return None
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimedOut(f"not done within {self._timeout} s", code=grpc.StatusCode.DEADLINE_EXCEEDED)
        return left

    def allows(self, pause: float) -> bool:
        """Whether something can still be done after a pause of so many seconds."""
        return self._ends_at is None or time.monotonic() + pause < self._ends_at
