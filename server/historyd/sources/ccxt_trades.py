"""Trades through ccxt: one call in the venue's way, its answer's shape checked, its rows turned into Arrow.

Which calls to make is decided in trade_paging.py. Promises those of sources/base.py.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from historyd.errors import BadAnswer, VenueRefused
from historyd.model.time_range import MICROS_PER_MS
from historyd.sources.base import TradesAnswer
from historyd.sources.ccxt_exchange import Question, Rows, asked, asking
from historyd.sources.trade_paging import Bookmarks, TradePage, TradePager
from historyd.sources.trade_rows import to_trades
from historyd.sources.trade_venues import Paging, Probe, trade_traits_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.model.wait import Observer
    from historyd.sources.ccxt_session import Session
    from historyd.sources.trade_venues import TradeTraits

_Learned = TypeVar("_Learned")

_LEAST_CAP: Final = 50
"""No venue cuts its answers at fewer trades than this unless it was asked to; where a wrong guess costs many calls."""


class TradeSource:
    """Asks for trades of all exchanges; remembers of each where places begin and how long answers were."""

    def __init__(self) -> None:
        self._marks: defaultdict[str, Bookmarks] = defaultdict(Bookmarks)
        self._longest: defaultdict[str, int] = defaultdict(int)

    async def fetch(
        self, session: Session, series: SeriesId, window: TimeRange, page_trades: int | None, observer: Observer
    ) -> TradesAnswer:
        """Asks for the trades of a part of the window. Raises as sources/base.py says."""
        piece, asked_at = await self._asking(session, series, page_trades, observer, lambda pager: pager.piece(window))
        return TradesAnswer(piece.rows, asked_at, piece.covered, piece.unreachable)

    async def beginning(
        self, session: Session, series: SeriesId, page_trades: int | None, observer: Observer
    ) -> TradesAnswer | None:
        """What is known of the time before the first trade. Raises as `fetch`."""
        try:
            piece, asked_at = await self._asking(session, series, page_trades, observer, TradePager.beginning)
        except VenueRefused:
            return None  # it may not take so wide a question; whether it refuses all of them, the next one tells
        return None if piece is None else TradesAnswer(piece.rows, asked_at, piece.covered, piece.unreachable)

    def may_be_cut(self, exchange: str, rows: int, limit: int) -> bool:
        """Whether an answer may have been cut at the venue's page size, which may be less than what we believe.

        It was not if it is shorter than what was asked for and than another answer of this venue.
        """
        self._longest[exchange] = longest = max(self._longest[exchange], rows)
        least = _LEAST_CAP if trade_traits_of(exchange).paging is Paging.WINDOWS else 1
        return rows >= min(limit, max(longest, least))

    async def _asking(
        self,
        session: Session,
        series: SeriesId,
        page_trades: int | None,
        observer: Observer,
        learn: Callable[[TradePager], Awaitable[_Learned]],
    ) -> tuple[_Learned, int]:
        """What a pager learned, and when its first call for trades was sent."""
        with asking(Question(observer, series.symbol)):
            market = await session.trade_market(series.symbol)
        traits = _traits(series.exchange, market, page_trades)
        listed_ms = market.get("created")
        with asking(Question(observer, series.symbol, Rows(traits.rows_path))) as question:
            pager = TradePager(
                series.exchange,
                series.symbol,
                traits,
                _Call(session, series, traits, self.may_be_cut),
                self._marks[series.exchange],
                session.desk.clock.now,
                int(listed_ms) * MICROS_PER_MS if listed_ms else None,
            )
            learned = await learn(pager)
        return learned, question.sent_at or session.desk.host_clock()


@dataclass(frozen=True, slots=True)
class _Call:
    """Makes calls for the trades of one series; an AskTrades."""

    session: Session
    series: SeriesId
    traits: TradeTraits
    may_be_cut: Callable[[str, int, int], bool]

    async def __call__(
        self, since_ms: int | None = None, until_ms: int | None = None, *, limit: int | None = None, **params: Any
    ) -> TradePage:
        ccxt, question = await self.session.ccxt(), asked()
        exchange, most = self.series.exchange, limit or self.traits.page_trades
        seen_before = question.rows_seen
        given = {**self.traits.params, **({} if until_ms is None else {"until": until_ms}), **params}
        trades: Any = await self.session.call(lambda: ccxt.fetch_trades(self.series.symbol, since_ms, most, given))
        if not isinstance(trades, list) or (not trades and question.rows_seen > seen_before):
            # There were rows, but not where ccxt looks for this market's.
            raise BadAnswer(f"{exchange} answered in a shape that is not its own", exchange=exchange)
        rows = to_trades(trades, exchange, newest_first=self.traits.newest_first)
        return TradePage(rows, self.may_be_cut(exchange, rows.num_rows, most), _cursor(exchange, trades))


def _traits(exchange: str, market: Mapping[str, Any], page_trades: int | None) -> TradeTraits:
    traits = trade_traits_of(exchange)
    if market.get("option"):
        traits = replace(traits, paging=Paging.LATEST, probe=Probe.NONE, rows_path=None)
    if page_trades is not None and page_trades < traits.page_trades:
        traits = replace(traits, page_trades=page_trades)
    return traits


def _cursor(exchange: str, trades: list[Any]) -> str | None:
    """Kraken's cursor, which ccxt appends to the last trade of an answer."""
    if exchange != "kraken" or not trades:
        return None
    raw = trades[-1].get("info")
    return str(raw[-1]) if isinstance(raw, list) and raw and raw[-1] is not None else None
