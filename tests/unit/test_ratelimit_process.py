"""Who shares a limiter in a process, and what happens when two settings claim one key."""

from __future__ import annotations

import pytest

from historyd.ratelimit.local import LocalLimiter
from historyd.ratelimit.options import RateLimiterOptions
from historyd.ratelimit.process import BudgetConflict, ProcessLimiters


def options(**given: object) -> RateLimiterOptions:
    return RateLimiterOptions.model_validate(given)


def test_process_scope_shares_one_limiter_per_key() -> None:
    """The same key is the same limiter; another exchange, host group or suffix is another."""
    limiters = ProcessLimiters()
    shared = limiters.limiter("binance", "api", options())
    assert limiters.limiter("binance", "api", options()) is shared
    others = [
        limiters.limiter("kraken", "api", options()),
        limiters.limiter("binance", "fapi", options()),
        limiters.limiter("binance", "api", options(key_suffix="a")),
    ]
    assert {limiter.key for limiter in (shared, *others)} == {
        "ccxt:binance:api",
        "ccxt:kraken:api",
        "ccxt:binance:fapi",
        "ccxt:binance:a:api",
    }


def test_local_scope_shares_with_nobody_else() -> None:
    """An exchange's local limiter is the same at every call, and never that of another exchange or scope."""
    limiters = ProcessLimiters()
    local = options(scope="local", key_template="joint")
    first = limiters.limiter("binance", "", local)
    assert limiters.limiter("binance", "", local) is first
    assert limiters.limiter("binance", "fapi", local) is not first
    assert limiters.limiter("bybit", "", local) is not first
    assert limiters.limiter("binance", "", options(key_template="joint")) is not first


def test_a_template_can_join_exchanges_under_one_quota() -> None:
    """A key without the exchange's name is shared by all who use it."""
    limiters = ProcessLimiters()
    joint = options(key_template="proxy-a")
    assert limiters.limiter("binance", "", joint) is limiters.limiter("bybit", "", joint)


@pytest.mark.parametrize("other", [{"max_concurrency": 2}, {"min_interval_s": 1}, {"penalty_backoff_ms": 5}])
def test_one_key_never_stands_for_two_budgets(other: dict[str, object]) -> None:
    """The second, different setting is refused; the first limiter stays."""
    limiters = ProcessLimiters()
    first = limiters.limiter("binance", "", options())
    with pytest.raises(BudgetConflict, match="ccxt:binance"):
        limiters.limiter("binance", "", options(**other))
    assert limiters.limiter("binance", "", options()) is first


def test_what_becomes_of_calls_without_redis_is_part_of_the_setting() -> None:
    """Two settings of one key that differ in it contradict each other."""
    limiters = ProcessLimiters(cluster=lambda key, budget, _: LocalLimiter(key, budget))
    limiters.limiter("binance", "", options(scope="cluster"))
    with pytest.raises(BudgetConflict):
        limiters.limiter("binance", "", options(scope="cluster", on_redis_down="share", expected_replicas=2))


def test_owners_share_nothing_with_each_other() -> None:
    """What a process shares is what one owner holds: there is no state of the module."""
    assert ProcessLimiters().limiter("kraken", "", options()) is not ProcessLimiters().limiter("kraken", "", options())


def test_settings_worded_differently_but_equal_share() -> None:
    """What counts is the budget they mean, not the words."""
    limiters = ProcessLimiters()
    first = limiters.limiter("binance", "", options(min_interval_s=1.2))
    assert limiters.limiter("binance", "", options(min_interval_ms=1_200, burst=1)) is first
