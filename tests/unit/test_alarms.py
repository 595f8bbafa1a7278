"""Which alarms are told, when, and how their end is told."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from historyd.model.time_range import MICROS_PER_S
from historyd.observability.alarms import Alarms, Message, Trouble, spell
from historyd.observability.options import AlertOptions

MINUTE = 60 * MICROS_PER_S
HOUR = 60 * MINUTE


def alarms(**options: Any) -> Alarms:
    return Alarms(AlertOptions(**{"repeat_after_s": 7200, "settle_s": 60, "most_per_hour": 5, **options}))


def texts(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


def test_an_alarm_is_told_once_while_it_lasts() -> None:
    house = alarms()
    assert house.raised(Trouble.BACKFILL, "btc", "no", 0) == Message(Trouble.BACKFILL, "btc", "no")
    assert all(house.raised(Trouble.BACKFILL, "btc", "no", at * MINUTE) is None for at in range(1, 120))
    assert house.raised(Trouble.STALLED, "btc", "other", MINUTE) is not None
    assert house.raised(Trouble.BACKFILL, "eth", "another", MINUTE) is not None


def test_an_alarm_that_goes_on_is_told_again_with_how_long_and_how_often() -> None:
    house = alarms()
    for at in range(120):
        house.raised(Trouble.BACKFILL, "btc", "no", at * MINUTE)
    again = house.raised(Trouble.BACKFILL, "btc", "still no", 121 * MINUTE)
    assert again is not None
    assert again.text == "still no (still so after 2 h 1 min, 121 times)"


def test_its_end_is_told_once_it_has_stayed_away() -> None:
    house = alarms()
    house.raised(Trouble.BACKFILL, "btc", "no", 0)
    house.cleared(Trouble.BACKFILL, "btc", 12 * MINUTE)
    house.cleared(Trouble.BACKFILL, "btc", 12 * MINUTE + 30 * MICROS_PER_S)
    assert house.settled(13 * MINUTE - 1) == []
    assert house.settled(13 * MINUTE) == [
        Message(Trouble.BACKFILL, "btc", "btc works again after 12 min", is_over=True)
    ]
    assert house.settled(14 * MINUTE) == []
    assert len(house) == 0


def test_an_alarm_that_comes_and_goes_is_one_alarm() -> None:
    house = alarms()
    told = [house.raised(Trouble.BACKFILL, "btc", "no", 0)]
    for at in range(1, 100):
        house.cleared(Trouble.BACKFILL, "btc", at * MINUTE - 1)
        told += [*house.settled(at * MINUTE), house.raised(Trouble.BACKFILL, "btc", "no", at * MINUTE)]
    assert [message for message in told if message is not None] == [Message(Trouble.BACKFILL, "btc", "no")]


def test_the_end_of_what_was_never_told_is_not_told_either() -> None:
    house = alarms(most_per_hour=1)
    house.raised(Trouble.BACKFILL, "btc", "no", 0)
    assert house.raised(Trouble.BACKFILL, "eth", "no", 0) is None
    house.cleared(Trouble.BACKFILL, "eth", 1)
    house.cleared(Trouble.BACKFILL, "never raised", 1)
    assert house.settled(HOUR) == []
    assert len(house) == 1


def test_what_was_held_back_is_counted_in_the_next_message_and_told_if_it_is_raised_again() -> None:
    house = alarms()
    told = [house.raised(Trouble.BACKFILL, f"s{number}", "no", 0) for number in range(12)]
    assert [message is not None for message in told] == [True] * 5 + [False] * 7
    later = house.raised(Trouble.BACKFILL, "s9", "no", HOUR)
    assert later is not None
    assert later.text == "no [7 more messages were held back]"
    after = house.raised(Trouble.BACKFILL, "s10", "no", HOUR)
    assert after is not None
    assert after.text == "no"


def test_trouble_that_has_no_end_is_told_again_after_a_while_and_not_kept() -> None:
    house = alarms()
    assert house.raised(Trouble.QUARANTINE, "btc", "bad rows", 0) is not None
    assert house.raised(Trouble.QUARANTINE, "btc", "bad rows", HOUR) is None
    assert house.settled(2 * HOUR) == []
    assert len(house) == 1
    assert house.settled(3 * HOUR) == []
    assert len(house) == 0


def test_an_alarm_that_nobody_speaks_of_is_forgotten_after_a_week() -> None:
    house = alarms()
    house.raised(Trouble.BACKFILL, "btc", "no", 0)
    house.settled(7 * 24 * HOUR - 1)
    assert len(house) == 1
    assert house.settled(7 * 24 * HOUR) == []
    assert len(house) == 0


def test_all_of_a_kind_can_end_together() -> None:
    house = alarms(settle_s=0)
    for cause in ("disk full", "table suspended"):
        house.raised(Trouble.STORE, cause, "no", 0)
    house.raised(Trouble.CLOCK, "binance", "no", 0)
    house.cleared_all(Trouble.STORE, 5 * MICROS_PER_S)
    assert texts(house.settled(5 * MICROS_PER_S)) == [
        "disk full works again after 5 s",
        "table suspended works again after 5 s",
    ]
    house.cleared(Trouble.CLOCK, "binance", MINUTE)
    assert texts(house.settled(MINUTE)) == ["binance: the clocks agree again after 1 min"]


steps = st.lists(
    st.tuples(st.sampled_from(["raise", "clear", "tick"]), st.integers(0, 7), st.integers(0, 20 * MINUTE)), max_size=120
)


@given(steps)
def test_no_hour_has_too_many_alarms_and_every_end_has_its_beginning(history: list[tuple[str, int, int]]) -> None:
    house, now = alarms(), 0
    alarm_times: list[int] = []
    open_keys: dict[str, int] = {}
    for what, number, pause in history:
        now += pause
        key = f"s{number}"
        if what == "raise" and (told := house.raised(Trouble.BACKFILL, key, "no", now)) is not None:
            assert now - open_keys.get(key, -7200 * MICROS_PER_S) >= 7200 * MICROS_PER_S
            open_keys[key] = now
            alarm_times.append(now)
            assert not told.is_over
        elif what == "clear":
            house.cleared(Trouble.BACKFILL, key, now)
        elif what == "tick":
            for over in house.settled(now):
                assert over.is_over
                del open_keys[over.key]
    for first in alarm_times:
        assert sum(first <= at < first + HOUR for at in alarm_times) <= 5


def test_spans_are_spelt_in_one_unit_or_two() -> None:
    seconds = [0, 59, 60, 3599, 3600, 11_100, 86_399, 86_400, 187_200]
    assert [spell(span * MICROS_PER_S) for span in seconds] == [
        "0 s", "59 s", "1 min", "59 min", "1 h 0 min", "3 h 5 min", "23 h 59 min", "1 d 0 h", "2 d 4 h",
    ]  # fmt: skip
