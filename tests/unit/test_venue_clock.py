"""The exchange's clock, learnt from `Date` headers in whole seconds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from historyd.model.time_range import MICROS_PER_S
from historyd.sources.clock import BELIEVED_FOR, VenueClock

HOUR = 3600 * MICROS_PER_S


class Host:
    """A host clock that the test sets."""

    def __init__(self, now: int = 1_700_000_000 * MICROS_PER_S) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def reply(clock: VenueClock, host: Host, ahead: int, there: int, back: int) -> None:
    """A call that takes `there` to the exchange, whose clock is `ahead` of the host's, and `back`."""
    sent = host.now
    date_s = (sent + there + ahead) // MICROS_PER_S
    host.now += there + back
    clock.observe(date_s, sent, host.now)


def test_it_is_the_hosts_before_the_first_reply() -> None:
    host = Host()
    assert VenueClock(host).now() == host.now


@given(
    st.integers(-HOUR, HOUR),
    st.lists(
        st.tuples(st.integers(0, 5_000_000), st.integers(0, 5_000_000), st.integers(0, 20_000_000)),
        min_size=1,
        max_size=20,
    ),
)
def test_it_is_never_ahead_of_the_exchanges(ahead: int, replies: list[tuple[int, int, int]]) -> None:
    host = Host()
    clock = VenueClock(host)
    for number, (there, back, pause) in enumerate(replies):
        reply(clock, host, ahead, there, back)
        truth = host.now + ahead
        assert clock.now() <= truth
        if number == 0:
            assert clock.now() > truth - MICROS_PER_S - back
        host.now += pause


def test_many_quick_replies_bring_it_near() -> None:
    host = Host()
    clock = VenueClock(host)
    for _ in range(50):
        reply(clock, host, -HOUR, 5_000, 5_000)
        host.now += 190_000
    assert host.now - HOUR - clock.now() < 250_000


def test_a_host_clock_that_is_set_forward_is_noticed_with_the_next_reply() -> None:
    host = Host()
    clock = VenueClock(host)
    reply(clock, host, 0, 5_000, 5_000)
    host.now += 60 * MICROS_PER_S
    reply(clock, host, -60 * MICROS_PER_S, 5_000, 5_000)
    assert clock.now() <= host.now - 60 * MICROS_PER_S


def test_an_old_bound_is_dropped() -> None:
    host = Host(1_700_000_000 * MICROS_PER_S)
    clock = VenueClock(host)
    clock.observe(host.now // MICROS_PER_S, host.now, host.now)
    before = clock.now() - host.now
    host.now += BELIEVED_FOR + MICROS_PER_S + 400_000
    clock.observe(host.now // MICROS_PER_S, host.now, host.now)
    assert clock.now() - host.now < before
