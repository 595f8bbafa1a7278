"""The options of a rate limiter: the specification's dictionary is read, and every setting means the budget it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from historyd.ratelimit.budget import PARTS, Budget, Limit, Unit
from historyd.ratelimit.options import CCXT_BUDGET, OnRedisDown, RateLimiterOptions, Scope


def options(**given: object) -> RateLimiterOptions:
    return RateLimiterOptions.model_validate(given)


def calls(amount: float, interval_ms: float) -> Limit:
    return Limit.of(Unit.CALLS, amount, interval_ms)


def test_defaults_are_the_specifications() -> None:
    """One call at a time, shared in the process, CCXT's own budget, a second's pause after a bare 429."""
    assert options().scope is Scope.PROCESS
    assert options().budget() == Budget((CCXT_BUDGET,), concurrency=1, penalty_s=1.0)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({"tokens_per_interval": 1200, "interval_ms": 60_000}, [calls(1200, 60_000)]),
        ({"tokens_per_interval": 20, "interval_ms": 1_000, "burst_tokens": 5}, [calls(20, 1_000), calls(5, 250)]),
        ({"tokens_per_interval": 20, "interval_ms": 1_000, "burst": 1}, [calls(1, 50)]),
        ({"tokens_per_interval": 20, "interval_ms": 1_000, "burst": 90}, [calls(20, 1_000)]),
        ({"tokens_per_interval": 20}, [calls(1, 50)]),
        ({"tokens_per_interval": 20, "burst": 4}, [calls(20, 1_000), calls(4, 200)]),
        ({"tokens_per_interval": 0.5}, [calls(0.5, 1_000)]),
        ({"min_interval_s": 1.2}, [calls(1, 1_200)]),
        ({"min_interval_ms": 1_200}, [calls(1, 1_200)]),
        ({"min_interval_s": 1.2, "min_interval_ms": 1_200, "burst": 1}, [calls(1, 1_200)]),
        ({"min_interval_s": 0}, [CCXT_BUDGET]),
        (
            {"tokens_per_interval": 9, "interval_ms": 500, "min_interval_s": 0.1},
            [calls(9, 500), calls(1, 100)],
        ),
        (
            {"limits": [{"weight": 1200, "interval_ms": 60_000}, {"calls": 20, "interval_ms": 1_000}]},
            [Limit.of(Unit.WEIGHT, 1200, 60_000), calls(20, 1_000)],
        ),
    ],
)
def test_what_the_options_mean(given: dict[str, object], limits: list[Limit]) -> None:
    """The table of meanings in options.py."""
    assert list(options(**given).budget().limits) == limits


def test_concurrency_and_penalty() -> None:
    """`local_semaphore` wins over `max_concurrency`; a penalty of 0 is one of 0."""
    assert options(max_concurrency=5).budget().concurrency == 5
    assert options(max_concurrency=5, local_semaphore=2).budget().concurrency == 2
    assert options(penalty_backoff_ms=5000).budget().penalty_s == 5.0
    assert options(penalty_backoff_ms=0).budget().penalty_s == 0.0


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"scope": "clutser"}, "did you mean 'cluster'"),
        ({"scope": "proces"}, "did you mean 'process'"),
        ({"scope": "Local"}, "did you mean 'local'"),
        ({"scope": "galaxy"}, "it is 'local', 'process' or 'cluster'"),
        ({"scope": 3}, "scope"),
        ({"max_concurency": 1}, "max_concurency"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"min_interval_s": 1.2, "min_interval_ms": 1_000}, "give one of them"),
        ({"min_interval_s": -1}, "min_interval_s"),
        ({"min_interval_s": float("nan")}, "min_interval_s"),
        ({"tokens_per_interval": 0}, "tokens_per_interval"),
        ({"tokens_per_interval": float("inf")}, "tokens_per_interval"),
        ({"interval_ms": 1_000}, "interval_ms means nothing without tokens_per_interval"),
        ({"burst": 2}, "burst_tokens above 1 means nothing without tokens_per_interval"),
        ({"min_interval_s": 1, "burst_tokens": 3}, "burst_tokens above 1 means nothing"),
        ({"key_template": "{nope}"}, "there is no {nope}"),
        ({"key_template": "{exchange}{suffix}"}, "needs a key_suffix"),
        ({"limits": [{"interval_ms": 1_000}]}, "either weight or calls"),
        ({"limits": [{"weight": 1, "calls": 1, "interval_ms": 1_000}]}, "either weight or calls"),
        ({"limits": [{"weight": 1, "interval_ms": 0}]}, "interval_ms"),
        ({"limits": [{"weigth": 1, "interval_ms": 5}]}, "weigth"),
        ({"scope": "cluster", "on_redis_down": "share"}, "needs expected_replicas"),
        ({"scope": "cluster", "on_redis_down": "shar", "expected_replicas": 2}, "did you mean 'share'"),
        ({"scope": "cluster", "on_redis_down": "allow"}, "it is 'refuse' or 'share'"),
        ({"scope": "cluster", "on_redis_down": "share", "expected_replicas": 0}, "expected_replicas"),
        ({"scope": "cluster", "expected_replicas": 2}, "means nothing without on_redis_down: share"),
        ({"on_redis_down": "share", "expected_replicas": 2}, "means nothing in scope 'process'"),
    ],
)
def test_what_cannot_be_meant_is_an_error(given: dict[str, object], complaint: str) -> None:
    """A wrong option stops the start; it is never guessed at."""
    with pytest.raises(ValidationError) as refused:
        options(**given)
    assert complaint in str(refused.value)


def test_the_specifications_quick_start_is_read() -> None:
    """Its dictionary."""
    read = options(
        max_concurrency=1, min_interval_s=1.2, scope="cluster", redis_dsn="redis://localhost:6379/0", burst=1
    )
    assert read.budget().limits == (calls(1, 1_200),)
    assert "6379" not in repr(read)


def test_without_redis_nothing_is_sent_unless_shares_are_asked_for() -> None:
    """`refuse` is the default; `share` needs to know among how many."""
    assert options(scope="cluster").budget().replicas is None
    assert options(scope="cluster", on_redis_down="refuse").budget().replicas is None
    assert options(scope="cluster", on_redis_down="share", expected_replicas=3).budget().replicas == 3


@pytest.mark.parametrize(
    ("amount", "replicas", "share"), [(20, 3, 6), (20, 1, 20), (20, 21, 0), (2.5, 1, 2), (1, 2, 0)]
)
def test_a_share_is_rounded_down_to_whole_calls(amount: float, replicas: int, share: int) -> None:
    """All shares together are never more than the limit."""
    assert calls(amount, 1_000).share(replicas) == replace(calls(amount, 1_000), amount=share * PARTS)


def test_every_option_of_the_specification_is_known_with_its_default() -> None:
    """Beside ours; what is not in this list is refused."""
    given = {name: field.default for name, field in RateLimiterOptions.model_fields.items()}
    assert given == {
        "scope": Scope.PROCESS,
        "max_concurrency": 1,
        "min_interval_s": None,
        "min_interval_ms": None,
        "tokens_per_interval": None,
        "interval_ms": None,
        "burst_tokens": None,
        "local_semaphore": None,
        "key_suffix": None,
        "key_template": None,
        "penalty_backoff_ms": None,
        "redis_dsn": None,
        "on_redis_down": OnRedisDown.REFUSE,
        "expected_replicas": None,
        "limits": (),
    }


@pytest.mark.parametrize(
    ("interval_ms", "margin"), [(1, 500), (50, 500), (1_000, 10_000), (60_000, 300_000), (86_400_000, 300_000)]
)
def test_the_margin_is_one_percent_within_bounds(interval_ms: float, margin: int) -> None:
    """Microseconds: half a millisecond at least, 300 ms at most."""
    assert calls(1, interval_ms).margin == margin
