"""The limiters of this process: one per key, so that all who name a budget alike share it.

Promises: asked again, the same limiter is given. Scope `process` gives one limiter per key, whichever exchange asks;
scope `local` one per exchange and host group, whatever the key says. Two different budgets for one limiter are a
contradiction and raise BudgetConflict: neither is silently taken for the other's, and no key stands for two quotas.
Lives as long as its owner, on one event loop; it stays as small as the configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from historyd.ratelimit.key import limiter_key
from historyd.ratelimit.local import REAL_TIME, LocalLimiter, Timing
from historyd.ratelimit.options import Scope

if TYPE_CHECKING:
    from historyd.ratelimit.options import RateLimiterOptions


class BudgetConflict(ValueError):
    """Two configurations name one key and differ in its budget."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"two different rate_limiter settings share the key {key!r}: make them equal, "
            "or tell them apart with key_suffix or key_template"
        )


class ProcessLimiters:
    """Makes limiters and remembers them."""

    def __init__(self, timing: Timing = REAL_TIME) -> None:
        self._timing = timing
        self._limiters: dict[tuple[str, ...], LocalLimiter] = {}

    def limiter(self, exchange: str, host_group: str, options: RateLimiterOptions) -> LocalLimiter:
        """The limiter of one host group of an exchange, "" if all of its hosts share one quota.

        Raises BudgetConflict.
        """
        key = limiter_key(exchange, options.key_suffix, options.key_template)
        if host_group:
            key = f"{key}:{host_group}"
        budget = options.budget()
        identity = (exchange, host_group) if options.scope is Scope.LOCAL else (key,)
        limiter = self._limiters.get(identity)
        if limiter is None:
            limiter = self._limiters[identity] = LocalLimiter(key, budget, self._timing)
        if limiter.budget != budget:
            raise BudgetConflict(key)
        return limiter
