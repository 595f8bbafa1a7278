"""The options of a rate limiter as users write them, and the budget they mean.

How the options make a budget (all that are given hold at once, in every scope):
- `tokens_per_interval` with `interval_ms`: so many calls per sliding window, at once if need be; a smaller
  `burst_tokens` adds a window in which only so many fit. A larger one is cut to `tokens_per_interval`, as no window
  may hold more than that.
- `tokens_per_interval` alone: so many calls a second, evenly spaced unless `burst_tokens` allows more at once.
- `min_interval_s` (or `min_interval_ms`): that long at least from the start of a call to the start of the next.
- `limits`: windows of calls or weight, as the venue words them.
- none of these: CCXT's own budget of the venue, one millisecond of `cost x rateLimit` in each millisecond, which is
  never faster than CCXT's own throttle.
Unknown options, and combinations that mean nothing, are errors.
"""

from __future__ import annotations

from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from historyd.ratelimit.budget import Budget, Limit, Unit
from historyd.ratelimit.key import check_template

CCXT_BUDGET: Final = Limit.of(Unit.BUDGET_MS, 1, 1)
"""One millisecond of a venue's budget by CCXT's tables in each millisecond."""
DEFAULT_PENALTY_S: Final = 1.0
"""The pause after a 429 that names no time, where no `penalty_backoff_ms` is given."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Scope(StrEnum):
    """Who shares a limiter."""

    LOCAL = "local"
    PROCESS = "process"
    CLUSTER = "cluster"


class OnRedisDown(StrEnum):
    """What becomes of calls while the Redis of scope `cluster` is away."""

    REFUSE = "refuse"
    SHARE = "share"


class LimitOptions(BaseModel):
    """One window of a venue: exactly one of `weight` and `calls`, per `interval_ms`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: Positive | None = None
    calls: Positive | None = None
    interval_ms: Positive

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if (self.weight is None) == (self.calls is None):
            raise ValueError("a limit has either weight or calls")
        return self

    def limit(self) -> Limit:
        """The same in the limiter's units."""
        if self.weight is not None:
            return Limit.of(Unit.WEIGHT, self.weight, self.interval_ms)
        assert self.calls is not None
        return Limit.of(Unit.CALLS, self.calls, self.interval_ms)


class RateLimiterOptions(BaseModel):
    """The options of `rate_limiter`; every one may be left out.

    Attributes:
        scope: `local`: a limiter for this exchange alone; `process`: one for all who name the same key; `cluster`: one
            for all servers that name the same key at the same Redis.
        max_concurrency: calls under way at once.
        min_interval_s: seconds between the starts of two calls.
        min_interval_ms: the same in milliseconds; if both are given they must agree.
        tokens_per_interval: calls per `interval_ms`, or per second if that is not given.
        interval_ms: window of `tokens_per_interval`.
        burst_tokens: calls that may go at once; also written `burst`. Default `tokens_per_interval` if `interval_ms`
            is given, else 1.
        local_semaphore: calls of one process under way at once, wins over `max_concurrency`. In scope `cluster` also
            the bookings that one process may have in Redis.
        key_suffix: tells budgets of one exchange apart, such as accounts.
        key_template: the key itself, see key.py; then `key_suffix` stands only where the template says.
        penalty_backoff_ms: pause of all who hold the key after a 429 or 418 that names no time; 0: none.
            Default a second.
        redis_dsn: where scope `cluster` keeps its state; wins over `connectors.ccxt_rate_limiter_redis`, which wins
            over the environment's QMTL_CCXT_RATE_LIMITER_REDIS; else redis://localhost:6379/0. Other scopes ignore it.
        on_redis_down: what becomes of calls while the Redis of scope `cluster` is away. `refuse`: nothing is sent.
            `share`: each server goes on with its share of every limit.
        expected_replicas: among so many servers the quota is divided then, in whole calls; needed for, and only meant
            with, `share`.
        limits: further windows, of calls or weight.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Scope = Scope.PROCESS
    max_concurrency: Count = 1
    min_interval_s: NotNegative | None = None
    min_interval_ms: NotNegative | None = None
    tokens_per_interval: Positive | None = None
    interval_ms: Positive | None = None
    burst_tokens: Count | None = Field(default=None, validation_alias=AliasChoices("burst_tokens", "burst"))
    local_semaphore: Count | None = None
    key_suffix: str | None = None
    key_template: str | None = None
    penalty_backoff_ms: NotNegative | None = None
    redis_dsn: str | None = Field(default=None, repr=False)
    on_redis_down: OnRedisDown = OnRedisDown.REFUSE
    expected_replicas: Count | None = None
    limits: tuple[LimitOptions, ...] = ()

    @field_validator("scope", mode="before")
    @classmethod
    def _known_scope(cls, value: Any) -> Any:
        return _known("scope", value, Scope)

    @field_validator("on_redis_down", mode="before")
    @classmethod
    def _known_answer(cls, value: Any) -> Any:
        return _known("on_redis_down", value, OnRedisDown)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        seconds, millis = self.min_interval_s, self.min_interval_ms
        if seconds is not None and millis is not None and abs(seconds - millis / 1_000) > 1e-9:
            raise ValueError(f"min_interval_s is {seconds} s, but min_interval_ms is {millis} ms: give one of them")
        if self.tokens_per_interval is None:
            if self.interval_ms is not None:
                raise ValueError("interval_ms means nothing without tokens_per_interval")
            if (self.burst_tokens or 1) > 1:
                raise ValueError("burst_tokens above 1 means nothing without tokens_per_interval")
        check_template(self.key_template or "", self.key_suffix)
        return self

    @model_validator(mode="after")
    def _knows_what_to_do_without_redis(self) -> Self:
        shares = self.on_redis_down is OnRedisDown.SHARE
        if shares and self.scope is not Scope.CLUSTER:
            raise ValueError(f"on_redis_down: share means nothing in scope '{self.scope}', which needs no Redis")
        if shares and self.expected_replicas is None:
            raise ValueError("on_redis_down: share needs expected_replicas, the number of servers that share the quota")
        if not shares and self.expected_replicas is not None:
            raise ValueError("expected_replicas means nothing without on_redis_down: share")
        return self

    def budget(self) -> Budget:
        """The quota that these options mean."""
        limits = (*self._token_limits(), *self._gap(), *(entry.limit() for entry in self.limits))
        penalty_s = DEFAULT_PENALTY_S if self.penalty_backoff_ms is None else self.penalty_backoff_ms / 1_000
        concurrency = self.local_semaphore or self.max_concurrency
        return Budget(limits or (CCXT_BUDGET,), concurrency, penalty_s, self.expected_replicas)

    def _token_limits(self) -> tuple[Limit, ...]:
        tokens = self.tokens_per_interval
        if tokens is None:
            return ()
        interval_ms = self.interval_ms or 1_000.0
        burst = self.burst_tokens or (tokens if self.interval_ms else 1)
        whole = Limit.of(Unit.CALLS, tokens, interval_ms)
        if burst >= tokens:
            return (whole,)
        part = Limit.of(Unit.CALLS, burst, interval_ms * burst / tokens)
        # Calls that go one by one, each a part of the window apart, keep the whole window by themselves; and where
        # `tokens` is no whole number, its window would cut the rate down to the whole number below.
        return (part,) if burst == 1 else (whole, part)

    def _gap(self) -> tuple[Limit, ...]:
        gap_ms = self.min_interval_ms if self.min_interval_s is None else self.min_interval_s * 1_000
        return (Limit.of(Unit.CALLS, 1, gap_ms),) if gap_ms else ()


def _known(option: str, value: Any, kinds: type[StrEnum]) -> Any:
    """The value, if it is one of the kinds or no text. Raises ValueError, naming the nearest."""
    names = [kind.value for kind in kinds]
    if not isinstance(value, str) or value in names:
        return value
    nearest = get_close_matches(value.strip().lower(), names, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    known = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
    raise ValueError(f"no {option} {value!r}; it is {known}{hint}")
