"""ccxt's exchange classes under our rules: who pays for a call, what is believed of its answer, which error it is.

ccxt makes every HTTP request through `fetch2` and what it calls, so that nothing it does gets around the hooks,
`load_markets` included:
- `fetch2`: one request. Holds a slot of the limiter from before the wait for quota until the reply; turns what went
  wrong into the contract's errors; a spent quota is told to all who hold the limiter's key.
- `throttle`: books the cost at the limiter instead of at ccxt's own bucket, then notes when the call is sent.
- `fetch`: a time limit of our own around ccxt's (which a stale keep-alive connection has outlived before), and the
  shape of the answer: ccxt turns HTML, an empty body or truncated JSON behind status 200 into "no rows".
- `open`: aiohttp sends a GET again by itself if a kept connection broke, and follows redirects: second calls that
  nobody has paid for. The one is switched off, the other refused.
- `on_rest_response`: status and headers of exactly this request; what they say of the weight used goes to the limiter.
  ccxt's attributes `last_*` belong to whichever request was last, so they are never read.
- `parse_ohlcvs`, `parse_trades`: all rows that came, in the order in which they came. ccxt would drop those outside
  of the window, which we want to see, and sort trades of one time by their ids as text.

What a request belongs to is carried by context variables: ccxt's signatures have no room for it.
Never does: retry, paginate, or keep anything from one request to the next but the exchange's clock.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from historyd.errors import BadAnswer, ExchangeUnavailable, HistoryError, RateLimited, VenueRefused
from historyd.observability.hooks import NOBODY, AccessRefused, Answered, ClockSeen, PauseDemanded
from historyd.ratelimit.base import Cost
from historyd.sources.ccxt_errors import REFUSALS, Reply, judge, redirected
from historyd.sources.ccxt_rows import count_rows
from historyd.sources.trade_rows import PLAIN_TRADES
from historyd.sources.used_weight import used_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from historyd.model.wait import Observer
    from historyd.observability.hooks import Hooks
    from historyd.ratelimit.base import Limiter
    from historyd.sources.clock import VenueClock
    from historyd.sources.venues import VenueTraits

    class _CcxtExchange:
        """What the hooks use of ccxt's async Exchange, which has no types worth the name."""

        rateLimit: float  # noqa: N815 - ccxt's name
        timeout: float
        session: Any

        def open(self, lazy: bool) -> None: ...  # noqa: FBT001 - ccxt's signature
        async def fetch2(
            self, path: str, api: Any, method: str, params: Mapping[str, Any], config: Mapping[str, Any]
        ) -> Any: ...
        async def fetch(self, url: str, method: str, headers: Any, body: Any) -> Any: ...
        def on_rest_response(self, code: int, reason: str, *rest: Any) -> str: ...
        def parse_trade(self, trade: Any, market: Any) -> dict[str, Any]: ...
        def parse_ohlcvs(self, ohlcvs: Any, market: Any, timeframe: str, since: None, limit: None) -> list[Any]: ...

else:
    _CcxtExchange = object

_LOG: Final = logging.getLogger(__name__)
_TIMEOUT_GRACE_S: Final = 2.0
"""How much longer than ccxt's time limit ours is: it is only there for when ccxt's fails."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What answers must hold: a list of rows at `path` (`VenueTraits.bars_path`); None: anywhere."""

    path: tuple[str, ...] | None


@dataclass(slots=True)
class Question:
    """What a call into ccxt is about, and for whom.

    Attributes:
        observer: told of waits and calls.
        symbol: the symbol asked for, None if it is about none.
        rows: where its answers must have rows; None if it is not about rows.
        about_bars: whether these are bars.
        sent_at: when its first request was sent (microseconds, host clock); None before that.
        rows_seen: rows in the raw answers so far.
    """

    observer: Observer
    symbol: str | None = None
    rows: Rows | None = None
    about_bars: bool = False
    sent_at: int | None = None
    rows_seen: int = 0


@dataclass(slots=True)
class Desk:
    """What all calls to one exchange go through.

    Attributes:
        exchange: the ccxt id.
        traits: its entry in the venue table.
        limiter_for: the limiter of a host group of this exchange.
        clock: the exchange's clock.
        host_clock: microseconds since 1970.
        hooks: told of answers, pauses, refusals and clocks.
        bar_cost: what the last call for bars cost; None before the first.
    """

    exchange: str
    traits: VenueTraits
    limiter_for: Callable[[str], Limiter]
    clock: VenueClock
    host_clock: Callable[[], int]
    hooks: Hooks = NOBODY
    bar_cost: Cost | None = None


@dataclass(slots=True)
class _Request:
    """One HTTP request under way."""

    question: Question
    limiter: Limiter
    group: str
    sent_at: int = 0
    reply: Reply = field(default_factory=Reply)


_QUESTION: Final[ContextVar[Question]] = ContextVar("question")
_REQUEST: Final[ContextVar[_Request]] = ContextVar("request")


@contextmanager
def asking(question: Question) -> Iterator[Question]:
    """Calls into ccxt made inside, also by tasks started inside, belong to this question."""
    token = _QUESTION.set(question)
    try:
        yield question
    finally:
        _QUESTION.reset(token)


def asked() -> Question:
    """The question that is being asked."""
    return _QUESTION.get()


def translate(error: Exception, desk: Desk) -> Exception:
    """The contract's error for what ccxt raised without a request (a local check, its parser)."""
    return judge(error, Reply(), desk.exchange, desk.traits, _QUESTION.get().symbol)


def _refusing_redirects(exchange: str) -> Any:
    """An aiohttp trace that ends a request which is told to go elsewhere."""
    # Only whoever uses ccxt has aiohttp.
    from aiohttp import TraceConfig, TraceRequestRedirectParams  # noqa: PLC0415

    async def refuse(_session: Any, _context: Any, told: TraceRequestRedirectParams) -> None:
        place = told.response.headers.get("Location", "")
        raise redirected(exchange, told.response.status, urlsplit(place).hostname or "")

    trace = TraceConfig()
    trace.on_request_redirect.append(refuse)
    trace.freeze()
    return trace


class GovernedCalls(_CcxtExchange):
    """The hooks; comes before ccxt's class in the method resolution order."""

    _desk: Desk

    async def fetch2(
        self,
        path: str,
        api: Any = "public",
        method: str = "GET",
        params: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Any:
        """Makes one request, paid for; raises the contract's errors."""
        desk = self._desk
        group = desk.traits.host_group(api if isinstance(api, str) else api[0])
        limiter = desk.limiter_for(group)
        request = _Request(_QUESTION.get(), limiter, group)
        token = _REQUEST.set(request)
        try:
            async with limiter.slot(request.question.observer):
                answer = await super().fetch2(path, api, method, params or {}, config or {})
        except HistoryError:
            raise
        except Exception as error:
            _LOG.debug("%s %s: HTTP %s, %r", desk.exchange, path, request.reply.status, error)
            judged = judge(error, request.reply, desk.exchange, desk.traits, request.question.symbol)
            if isinstance(judged, RateLimited):
                limiter.penalise(judged.retry_after_s)
            _tell(desk, request, judged)
            raise judged from error
        else:
            desk.hooks.happened(Answered(desk.exchange, group))
            return answer
        finally:
            _REQUEST.reset(token)

    async def throttle(self, cost: float | None = None) -> None:
        """Waits for the quota, then notes that the call is sent."""
        request, desk = _REQUEST.get(), self._desk
        units = 1.0 if cost is None else float(cost)
        price = Cost(weight=desk.traits.weight(request.group, units), budget_ms=units * self.rateLimit)
        await request.limiter.acquire(price, request.question.observer)
        request.question.observer.calling()
        request.sent_at = desk.host_clock()
        if request.question.sent_at is None:
            request.question.sent_at = request.sent_at
        if request.question.about_bars:
            desk.bar_cost = price

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        """Sends the request and returns the decoded answer, once its shape is right."""
        desk = self._desk
        try:
            async with asyncio.timeout(self.timeout / 1000 + _TIMEOUT_GRACE_S):
                answer = await super().fetch(url, method, headers, body)
        except TimeoutError as late:
            raise ExchangeUnavailable(f"{desk.exchange} did not answer in time", exchange=desk.exchange) from late
        if not isinstance(answer, (list, dict)):
            raise BadAnswer(f"{desk.exchange} answered with something that is not JSON", exchange=desk.exchange)
        question = _REQUEST.get().question
        if question.rows is not None:
            question.rows_seen += count_rows(answer, question.rows.path, desk.exchange)
        return answer

    def open(self, lazy: bool = False) -> None:  # noqa: FBT001, FBT002 - ccxt's signature
        """Opens the session, without aiohttp's own repetition of requests."""
        is_new = self.session is None
        super().open(lazy)
        if is_new and self.session is not None:
            self.session._retry_connection = False  # noqa: SLF001 - there is no public switch; a test watches it
            self.session.trace_configs.append(_refusing_redirects(self._desk.exchange))

    def on_rest_response(
        self, code: int, reason: str, url: str, method: str, response_headers: Any, response_body: str, *rest: Any
    ) -> str:
        """Keeps status, headers and body of this request; learns the exchange's clock from a good one."""
        request, desk = _REQUEST.get(), self._desk
        headers = {str(name).lower(): str(value) for name, value in response_headers.items()}
        request.reply = Reply(code, headers, response_body)
        for interval_ms, used in used_weights(headers, desk.traits.used_weight):
            request.limiter.observe(used, interval_ms)
        # Error pages may come from anything on the way; their clocks are not the exchange's.
        if code == 200 and (date_s := request.reply.date_s) is not None:
            desk.clock.observe(date_s, request.sent_at, desk.host_clock())
            desk.hooks.happened(ClockSeen(desk.exchange, desk.clock.ahead))
        return super().on_rest_response(code, reason, url, method, response_headers, response_body, *rest)

    def parse_ohlcvs(self, ohlcvs: Any, market: Any = None, timeframe: str = "1m", *_since_and_limit: Any) -> list[Any]:
        """All rows of the answer, none dropped for `since` and `limit`."""
        desk = self._desk
        if isinstance(ohlcvs, list):
            if desk.traits.plain_rows and not (market or {}).get("inverse"):
                return ohlcvs
            if not all(isinstance(row, (list, dict)) for row in ohlcvs):
                raise BadAnswer(f"{desk.exchange} answered with rows that are no bars", exchange=desk.exchange)
        return super().parse_ohlcvs(ohlcvs, market, timeframe, None, None)

    def parse_trades(self, trades: Any, market: Any = None, *_since_limit_and_params: Any) -> list[Any]:
        """All trades of the answer, in its order; one that cannot be read has no time."""
        exchange = self._desk.exchange
        rows = list(trades.values()) if isinstance(trades, dict) else trades
        if not isinstance(rows, list) or not all(isinstance(row, (list, dict)) for row in rows):
            raise BadAnswer(f"{exchange} answered with rows that are no trades", exchange=exchange)
        read = PLAIN_TRADES.get(exchange)
        return [(read and read(row)) or self._read_trade(row, market) for row in rows]

    def _read_trade(self, trade: Any, market: Any) -> dict[str, Any]:
        try:
            return self.parse_trade(trade, market)
        except Exception:  # noqa: BLE001 - ccxt's parser may stumble in any way; the row is set aside
            return {"info": trade}


def _tell(desk: Desk, request: _Request, error: HistoryError) -> None:
    """Tells the hooks of a venue that wants a pause or refuses us."""
    status = request.reply.status
    if isinstance(error, RateLimited):
        desk.hooks.happened(PauseDemanded(desk.exchange, request.group, status, error.retry_after_s))
    elif isinstance(error, VenueRefused) and status in REFUSALS:
        desk.hooks.happened(AccessRefused(desk.exchange, request.group, status, str(error)))
