"""Repeats what a retry can mend, with pauses, and tells why it pauses.

Mendable: the exchange is away, answers nonsense, or wants a pause that is short enough to wait for, and nobody's
deadline comes before. Anything else
(an unknown symbol, a refusal) comes out at the first attempt: asking again would only spend quota.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from historyd.errors import ExchangeUnavailable, RateLimited, WaitTooLong
from historyd.model.time_range import MICROS_PER_S
from historyd.model.wait import Wait, WaitCause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from historyd.model.wait import Observer
    from historyd.sources.base import RetryPolicy

T = TypeVar("T")

LONGEST_PAUSE_S: Final = 60.0
"""A pause that the exchange demands for longer than this ends the call instead of being waited for."""


class Retrying:
    """Makes calls to a source again. `clock` gives microseconds, `sleep` takes seconds."""

    def __init__(self, clock: Callable[[], int], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._clock = clock
        self._sleep = sleep

    async def call(self, policy: RetryPolicy, observer: Observer, ask: Callable[[], Awaitable[T]]) -> T:
        """Awaits `ask()` until it succeeds, fails for good or `policy.attempts` are spent; raises its last error."""

        def tell(state: RetryCallState) -> None:
            until = self._clock() + int(state.upcoming_sleep * MICROS_PER_S)
            observer.waiting(Wait(WaitCause.RETRY, until, str(_error(state))))

        async def once() -> T:  # tenacity awaits only what it can tell is a coroutine function
            return await ask()

        attempts = AsyncRetrying(
            stop=stop_after_attempt(policy.attempts),
            retry=retry_if_exception(_mendable),
            wait=lambda state: _pause_s(policy, state),
            before_sleep=tell,
            sleep=self._sleep,
            reraise=True,
        )
        return await attempts(once)


def _mendable(error: BaseException) -> bool:
    if isinstance(error, RateLimited):
        return not isinstance(error, WaitTooLong) and (error.retry_after_s or 0.0) <= LONGEST_PAUSE_S
    return isinstance(error, ExchangeUnavailable)


def _pause_s(policy: RetryPolicy, state: RetryCallState) -> float:
    """`backoff_s`, doubling; at least what the exchange asked for."""
    backoff = policy.backoff_s * float(2 ** (state.attempt_number - 1))
    error = _error(state)
    demanded = error.retry_after_s if isinstance(error, RateLimited) else None
    return max(backoff, demanded or 0.0)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None
