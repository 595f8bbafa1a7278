"""Which events mean trouble, in which words, and when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from historyd.errors import (
    BadAnswer,
    CorruptPage,
    ExchangeUnavailable,
    HistoryError,
    NoSource,
    QuotaUnavailable,
    RateLimited,
    ShuttingDown,
    StoreUnavailable,
    UnknownSymbol,
    VenueRefused,
    WaitTooLong,
)
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_S
from historyd.observability.alarms import Alarms, Message, Trouble
from historyd.observability.hooks import (
    AccessRefused,
    Answered,
    ClockSeen,
    Event,
    PageBegun,
    PageDone,
    PageFailed,
    PageLeft,
    PauseDemanded,
    SeriesFailed,
)
from historyd.observability.options import AlertOptions
from historyd.observability.troubles import Troubles
from tests.rows import BTC, minutes

MINUTE = 60 * MICROS_PER_S
ETH = SeriesId.parse("ohlcv:binance:ETH/USDT:1m")
PAGE = minutes(0, 1000)
DEFECT = "a defect of the server, RuntimeError; its log has more"


class Room:
    """Troubles on a clock that the test moves."""

    def __init__(self, **options: Any) -> None:
        chosen = AlertOptions(**{"settle_s": 0, "most_per_hour": 1000, **options})
        self.troubles = Troubles(chosen, Alarms(chosen))
        self.now = 0

    def hear(self, *events: Event) -> list[tuple[Trouble, str]]:
        """What is told of the events, by kind and words."""
        return [_pair(message) for event in events for message in self.troubles.heard(event, self.now)]

    def after(self, seconds: float) -> list[tuple[Trouble, str]]:
        """What the passing of time tells."""
        self.now += round(seconds * MICROS_PER_S)
        return [_pair(message) for message in self.troubles.passed(self.now)]


def _pair(message: Message) -> tuple[Trouble, str]:
    return message.trouble, message.text


def done(series: SeriesId = BTC, rows: int = 1000, bad: int = 0) -> PageDone:
    return PageDone(series, PAGE, rows, bad, 1)


def failed(error: Exception, series: SeriesId = BTC) -> PageFailed:
    return PageFailed(series, PAGE, error)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ExchangeUnavailable("binance is away"), (Trouble.BACKFILL, f"{BTC}: {PAGE}: binance is away")),
        (BadAnswer("nonsense"), (Trouble.BACKFILL, f"{BTC}: {PAGE}: nonsense")),
        (RateLimited("spent", retry_after_s=5.0), (Trouble.BACKFILL, f"{BTC}: {PAGE}: spent")),
        (VenueRefused("no such question", http_status="400"), (Trouble.BACKFILL, f"{BTC}: {PAGE}: no such question")),
        (CorruptPage(str(BTC), "x"), (Trouble.BACKFILL, f"{BTC}: {PAGE}: {CorruptPage(str(BTC), 'x')}")),
        (
            RuntimeError("secret"),
            (Trouble.BACKFILL, f"{BTC}: {PAGE}: a defect of the server, RuntimeError; its log has more"),
        ),
        (
            StoreUnavailable("not kept", cause="table suspended"),
            (Trouble.STORE, f"{BTC}: {PAGE}: not kept (table suspended)"),
        ),
        (QuotaUnavailable("Redis is away", key="ccxt:binance"), (Trouble.QUOTA, "Redis is away")),
    ],
)
def test_a_page_that_failed_is_told_as_what_it_was(error: Exception, told: tuple[Trouble, str]) -> None:
    assert Room().hear(PageBegun(BTC, PAGE), failed(error), failed(error)) == [told]


@pytest.mark.parametrize(
    "error",
    [
        UnknownSymbol("binance", "BTCUSDT"),
        NoSource("binance"),
        ShuttingDown(),
        WaitTooLong("too long for you", retry_after_s=5.0),
        RateLimited("told as a ban", retry_after_s=60.0),
        *(VenueRefused("told as a refusal", http_status=status) for status in ("401", "403", "451")),
    ],
    ids=repr,
)
def test_a_callers_mistake_a_stop_and_what_the_source_has_told_are_not_told(error: HistoryError) -> None:
    room = Room()
    assert room.hear(failed(error), SeriesFailed(BTC, error)) == []
    assert len(room.troubles.alarms) == 0


def test_a_series_that_works_again_is_told_and_no_other() -> None:
    room = Room()
    room.hear(failed(ExchangeUnavailable("no")), SeriesFailed(ETH, ExchangeUnavailable("no")))
    room.now = 12 * MINUTE
    room.hear(done(BTC))
    assert room.after(0) == [(Trouble.BACKFILL, f"{BTC} works again after 12 min")]


def test_the_store_and_the_shared_quota_work_again_with_the_next_page_that_is_done() -> None:
    room = Room()
    room.hear(failed(StoreUnavailable("no", cause="disk full")), failed(QuotaUnavailable("no")))
    room.now = MINUTE
    room.hear(done(ETH))
    assert set(room.after(0)) == {
        (Trouble.STORE, "the store (disk full) works again after 1 min"),
        (Trouble.QUOTA, "binance works again after 1 min"),
    }


@pytest.mark.parametrize(
    ("status", "seconds", "told"),
    [
        (418, 120.0, "binance (fapi) has banned us until 1970-01-01T00:02:00Z (HTTP 418)"),
        (418, None, "binance (fapi) has banned us (HTTP 418)"),
        (429, 60.0, "binance (fapi) has banned us until 1970-01-01T00:01:00Z (HTTP 429)"),
        (None, 3600.0, "binance (fapi) has banned us until 1970-01-01T01:00:00Z"),
        (429, 59.0, None),
        (429, None, None),
        (200, None, None),
    ],
)
def test_a_ban_is_a_long_pause_or_a_418(status: int | None, seconds: float | None, told: str | None) -> None:
    wanted = [] if told is None else [(Trouble.BAN, told)]
    assert Room().hear(PauseDemanded("binance", "fapi", status, seconds)) == wanted


def test_bans_and_refusals_are_over_when_the_same_hosts_answer() -> None:
    room = Room()
    assert room.hear(AccessRefused("binance", "", 451, "it does not serve this place")) == [
        (Trouble.REFUSED, "it does not serve this place")
    ]
    room.hear(PauseDemanded("binance", "", 418, None))
    room.hear(Answered("binance", "fapi"), Answered("okx", ""))
    assert room.after(60) == []
    room.hear(Answered("binance", ""))
    assert set(room.after(0)) == {
        (Trouble.BAN, "binance works again after 1 min"),
        (Trouble.REFUSED, "binance works again after 1 min"),
    }


@pytest.mark.parametrize(("ahead_s", "words"), [(7, "7 s ahead of"), (-3600, "3600 s behind")])
def test_clocks_that_differ_too_much_are_told_until_they_agree(ahead_s: int, words: str) -> None:
    room = Room(clock_skew_s=5)
    assert room.hear(ClockSeen("binance", 5 * MICROS_PER_S)) == []
    assert room.hear(ClockSeen("binance", ahead_s * MICROS_PER_S)) == [
        (Trouble.CLOCK, f"binance's clock is {words} this host's: check the host's clock")
    ]
    room.hear(ClockSeen("binance", -5 * MICROS_PER_S))
    assert room.after(0) == [(Trouble.CLOCK, "binance: the clocks agree again after 0 s")]


@pytest.mark.parametrize(("rows", "bad", "told"), [(990, 10, False), (989, 11, True), (0, 0, False), (0, 1, True)])
def test_a_page_with_too_many_bad_rows_is_told(rows: int, bad: int, told: bool) -> None:
    text = f"{BTC}: {bad} of {rows + bad:,} rows of {PAGE} were set aside; `markethistory quality` tells why"
    assert Room().hear(done(BTC, rows, bad)) == ([(Trouble.QUARANTINE, text)] if told else [])


def test_a_backfill_is_stalled_if_pages_are_due_and_none_is_done_for_long() -> None:
    room = Room(stalled_after_s=600)
    room.hear(PageBegun(BTC, PAGE), PageBegun(ETH, PAGE))
    assert room.after(599) == []
    room.hear(done(BTC))
    assert room.after(599) == []
    assert room.after(1) == [(Trouble.STALLED, "binance: no page done for 10 min, 1 under way")]
    assert room.after(600) == []
    room.hear(done(ETH))
    assert room.after(0) == [(Trouble.STALLED, "binance: pages are done again after 10 min")]


@pytest.mark.parametrize("end", [PageLeft(BTC, PAGE), failed(ShuttingDown())], ids=["left", "failed"])
def test_nothing_is_stalled_if_nothing_is_due_however_long(end: Event) -> None:
    room = Room(stalled_after_s=600)
    room.hear(PageBegun(BTC, PAGE), end)
    assert room.after(100_000) == []
    room.hear(PageBegun(BTC, PAGE))
    assert room.after(599) == []
