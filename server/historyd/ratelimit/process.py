"""Who shares which limiter.

Scope `local`: an exchange's own. Scope `process`: one limiter per key, so all who name the same key share its quota,
whatever exchange they ask. Scope `cluster`: the same, and with all servers that name the key at the same Redis.
Two settings with different budgets, scopes or Redis' under one key are a contradiction and raise BudgetConflict:
neither is silently taken for the other's, and no key stands for two quotas.
Lives as long as its owner, on one event loop; it stays as small as the configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from historyd.ratelimit.key import limiter_key
from historyd.ratelimit.local import REAL_TIME, LocalLimiter, Timing
from historyd.ratelimit.options import Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from historyd.ratelimit.base import Limiter
    from historyd.ratelimit.budget import Budget
    from historyd.ratelimit.options import RateLimiterOptions

    Claim: TypeAlias = tuple[Budget, Scope, str | None]
    Cluster: TypeAlias = Callable[[str, Budget, str | None], Limiter]


class BudgetConflict(ValueError):
    """Two configurations name one key and differ in its budget, its scope or its Redis."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"two different rate_limiter settings share the key {key!r}: make them equal, "
            "or tell them apart with key_suffix or key_template"
        )


class ProcessLimiters:
    """Makes limiters and remembers them. `cluster` makes one of a key, a budget and the DSN that was given, if any."""

    def __init__(self, timing: Timing = REAL_TIME, cluster: Cluster | None = None) -> None:
        self._timing = timing
        self._cluster = cluster
        self._claims: dict[tuple[str, ...], Claim] = {}
        self._limiters: dict[tuple[str, ...], Limiter] = {}

    def limiter(self, exchange: str, host_group: str, options: RateLimiterOptions) -> Limiter:
        """The limiter of one host group of an exchange, "" if all of its hosts share one quota.

        Raises BudgetConflict.
        """
        key, identity = self.claim(exchange, host_group, options)
        limiter = self._limiters.get(identity)
        if limiter is None:
            limiter = self._limiters[identity] = self._make(key, options)
        return limiter

    def claim(self, exchange: str, host_group: str, options: RateLimiterOptions) -> tuple[str, tuple[str, ...]]:
        """The key of these settings, and what tells their limiter from others. Makes none. Raises BudgetConflict."""
        key = limiter_key(exchange, options.key_suffix, options.key_template)
        if host_group:
            key = f"{key}:{host_group}"
        is_local = options.scope is Scope.LOCAL
        identity = (exchange, host_group) if is_local else (key,)
        claim = (options.budget(), options.scope, options.redis_dsn if options.scope is Scope.CLUSTER else None)
        if self._claims.setdefault(identity, claim) != claim:
            raise BudgetConflict(key)
        return key, identity

    def _make(self, key: str, options: RateLimiterOptions) -> Limiter:
        budget = options.budget()
        if options.scope is not Scope.CLUSTER:
            return LocalLimiter(key, budget, self._timing)
        assert self._cluster is not None, "scope cluster without a cluster"
        return self._cluster(key, budget, options.redis_dsn)
