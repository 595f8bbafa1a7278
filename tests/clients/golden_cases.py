"""The golden cases themselves: what each is about is its name; README.md says what a client has to know."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1.coverage_pb2 import CoverageSpan, CoverageState
from tests.clients.digest import error_digest, lines_digest
from tests.clients.golden import MINUTE, START, TRADES, Case, Failure, Framing, Round, Row, span

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW: Final = (START, START + 10 * MINUTE)
DAY: Final = (START, START + 1440 * MINUTE)
PLAIN: Final = Framing(WINDOW)
WIDE: Final = Framing(DAY)
BROKEN: Final = Failure("UNAVAILABLE", "connection reset")


def bars(count: int, first: int = 0) -> list[Row]:
    """One-minute bars, each row different from all others."""
    return [(START + i * MINUTE, *(i * 10 + c + 0.25 for c in range(5))) for i in range(first, first + count)]


def trades(count: int) -> list[Row]:
    """Trades in threes of one time, with text beyond ASCII, empty texts and nulls."""
    names, sides = ("a", "é€𝄞", "", None), ("buy", "sell", None)
    return [
        (START + i // 3 * 1_001, i % 3, f"{names[i % 4]}{i}" if names[i % 4] else names[i % 4], i + 0.5, 0.1 * i, side)
        for i in range(count)
        for side in [sides[i % len(sides)]]
    ]


EXTREMES: Final[list[Row]] = [
    (START, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 0.0),
    (START + MINUTE, 1.0, float("inf"), float("-inf"), 2.0**53 + 2, 1e-7),
]
NULLS: Final[list[Row]] = [
    tuple(None if column and (number + column) % 3 == 0 else value for column, value in enumerate(row))
    for number, row in enumerate(bars(9))
]
ALL_NULL: Final[list[Row]] = [(START + 9 * MINUTE, None, None, None, None, None)]
# About as large as a message may be, and easy to pack.
LARGE: Final[list[Row]] = [(START + i * MINUTE, 2.0, 4.0, 1.0, 3.0, float(i % 4)) for i in range(65_000)]


def whole(name: str, framing: Framing, messages: Sequence[Sequence[Sequence[Row]]], **more: Any) -> Case:
    """A read that goes well in one call."""
    rows = [row for message in messages for batch in message for row in batch]
    case = Case(name, (Round(framing.frames(messages)),), len(rows), framing.digest(rows), **more)
    return replace(case, window=more.get("window", framing.window), columns=framing.columns)


def resumed(name: str, framing: Framing, parts: tuple[list[Row], list[Row]], **more: Any) -> Case:
    """A read that breaks between its two parts."""
    first, second = parts
    after: Any = (first[-1][0], first[-1][1] if framing.schema is TRADES else 0)
    half = len(first) // 2
    rounds = (
        Round(replace(framing, summary=False).frames([[first[:half]], [first[half:]]]), failure=BROKEN),
        Round(framing.frames([[second]]), resume_after=after),
    )
    rows = [*first, *second]
    return Case(name, rounds, len(rows), framing.digest(rows), **{"window": framing.window, **more})


def failing(name: str, code: str, reason: str, metadata: dict[str, str], **more: Any) -> Case:
    """A call that ends with an error that has details."""
    retry_after_ms, messages = more.pop("retry_after_ms", None), more.pop("messages", ())
    failure = Failure(code, f"{name}: it is so", reason, metadata, retry_after_ms)
    digest = error_digest(reason, metadata, retry_after_ms)
    return Case(name, (Round(messages, failure=failure),), 0, digest, reason, **more)


def _reads() -> list[Case]:
    chunks = [[bars(3)], [bars(2, 3), bars(1, 5), bars(2, 6)], [bars(1, 8), bars(1, 9)]]
    moving = (None, None)
    return [
        whole("plain", PLAIN, [[bars(10)]]),
        whole("extremes", PLAIN, [[EXTREMES]]),
        whole("nulls", PLAIN, [[NULLS], [ALL_NULL]]),
        whole("empty", PLAIN, []),
        whole("open_range", WIDE, [[bars(4)]], window=moving),
        whole("chunks", replace(PLAIN, head=True, tail=True), chunks),
        whole("lz4", replace(WIDE, compression="lz4"), [[bars(300)], [bars(200, 300)]], compression="lz4"),
        whole("zstd", replace(WIDE, compression="zstd"), [[bars(300)], [bars(200, 300)]], compression="zstd"),
        whole("zstd_nulls", replace(PLAIN, compression="zstd"), [[NULLS], [ALL_NULL]], compression="zstd"),
        whole("columns", replace(PLAIN, columns=("volume", "close")), [[bars(10)]]),
        whole("large", Framing((START, START + 65_000 * MINUTE)), [[LARGE]]),
        whole("trades", replace(WIDE, schema=TRADES), [[trades(20)], [trades(31)[20:]]], kind="trades"),
        whole("last", WIDE, [[bars(5, 1435)]], call="last", last=5),
        whole("last_many", WIDE, [[bars(700)], [bars(700, 700)]], call="last", last=1400),
    ]


def _resumed() -> list[Case]:
    late = (START + 200 * MINUTE, DAY[1])
    lost_twice = (
        Round(replace(PLAIN, summary=False).frames([[bars(2)]])),  # ends well, but without a summary
        Round(replace(PLAIN, summary=False).frames([[bars(3, 2)]]), (START + MINUTE, 0), BROKEN),
        Round(PLAIN.frames([[bars(5, 5)]]), (START + 4 * MINUTE, 0)),
    )
    all_but_summary = (
        Round(replace(PLAIN, summary=False).frames([[bars(10)]]), failure=BROKEN),
        Round(PLAIN.frames([]), (START + 9 * MINUTE, 0)),
    )
    busy = Failure("UNAVAILABLE", "stopping", "SHUTTING_DOWN", {}, 20)
    plain = PLAIN.digest(bars(10))
    return [
        resumed("resumed", PLAIN, (bars(6), bars(4, 6))),
        resumed("resumed_open_range", PLAIN, (bars(6), bars(4, 6)), window=(START, None)),
        resumed("trades_resumed", replace(WIDE, schema=TRADES), (trades(11), trades(20)[11:]), kind="trades"),
        resumed("last_resumed", Framing(late), (bars(1000, 200), bars(240, 1200)), call="last", last=1240, window=DAY),
        Case("resumed_twice", lost_twice, 10, plain),
        Case("resumed_for_summary", all_but_summary, 10, plain),
        Case("retry_info", (Round(failure=busy), Round(PLAIN.frames([[bars(10)]]))), 10, plain),
        Case("broken_at_once", (Round(failure=BROKEN), Round(PLAIN.frames([[bars(10)]]))), 10, plain),
    ]


def _cut() -> list[Case]:
    cut = replace(PLAIN, summary=False)
    after_cut = (Round(cut.frames([[bars(10)]])), Round(cut.frames([]), (START + 9 * MINUTE, 0)))
    return [
        Case("cut", after_cut, error="STREAM_CUT"),
        Case("cut_at_once", (Round(),), error="STREAM_CUT"),
        Case("ensure_cut", (Round([_plan(1)]),), error="STREAM_CUT", call="ensure"),
    ]


def _broken_contracts() -> list[Case]:
    """Answers that no client may hand on, nor ask for again: the good ones after them are for a client that does."""
    begun, rest = replace(PLAIN, summary=False).frames([[bars(6)]]), PLAIN.frames([[bars(4, 6)]])
    answers: dict[str, list[Any]] = {
        name: PLAIN.frames([[bars(6)], [bars(4, 6)]])
        for name in ("torn", "miscounted", "miscounted_read", "keyless", "rangeless")
    }
    answers["torn"][1].arrow_ipc = answers["torn"][1].arrow_ipc[:-100]
    answers["miscounted"][1].row_count += 1
    answers["miscounted_read"][1].summary.row_count += 1
    answers["keyless"][1].ClearField("last_key")
    answers["rangeless"][0].ClearField("range")
    answers["backwards"] = PLAIN.frames([[bars(4, 6)], [bars(6)]])
    answers["garbled"] = [*begun, b"\x2a\xff\xff\xff\x07 is less than its length says"]
    resumptions = {
        "repeated": PLAIN.frames([[bars(5, 5)]]),
        "another_schema": replace(PLAIN, columns=("close",)).frames([[bars(4, 6)]]),
    }
    resumed_at = (START + 5 * MINUTE, 0)
    good = (Round(PLAIN.frames([[bars(10)]])), Round(rest, resumed_at))
    rounds: dict[str, Sequence[Round]] = {name: (Round(answer), *good) for name, answer in answers.items()}
    for name, answer in resumptions.items():
        rounds[name] = (Round(begun, failure=BROKEN), Round(answer, resumed_at), *good)
    return [Case(name, answered, error="CONTRACT_BROKEN") for name, answered in rounds.items()]


def _errors() -> list[Case]:
    store = {"cause": "disk full"}
    gap = {"series": "ohlcv:conformance:INCOMPLETE/USD:1m", "first_gap": "2024-01-01T00:06:00Z/2024-01-01T00:10:00Z"}
    begun = replace(PLAIN, summary=False).frames([[bars(6)]])
    rounds = (
        Round(failure=Failure("UNAVAILABLE", "the store is full", "STORE_UNAVAILABLE", store)),
        Round(PLAIN.frames([[bars(10)]])),  # for a client that asks again although it should not
    )
    symbol = {"exchange": "conformance", "symbol": "BTCUSDT", "nearest": "BTC/USDT,BTC/USDT:USDT"}
    refused = {"exchange": "conformance", "http_status": "451"}
    limited, away = {"exchange": "conformance"}, {"exchange": "conformance", "http_status": "503"}
    return [
        failing("not_found", "NOT_FOUND", "UNKNOWN_SYMBOL", symbol),
        failing("incomplete", "FAILED_PRECONDITION", "INCOMPLETE", gap, messages=begun),
        failing("rate_limited", "RESOURCE_EXHAUSTED", "RATE_LIMITED", limited, retry_after_ms=3_600_000),
        failing("exchange_away", "UNAVAILABLE", "EXCHANGE_UNAVAILABLE", away, retry_after_ms=10),
        failing("last_not_found", "NOT_FOUND", "UNKNOWN_SYMBOL", symbol, call="last", last=5),
        failing("coverage_error", "INVALID_ARGUMENT", "INVALID_FIELD", {"field": "x", "value": "é"}, call="coverage"),
        failing("ensure_refused", "FAILED_PRECONDITION", "VENUE_REFUSED", refused, call="ensure", messages=[_plan(2)]),
        Case("not_retried", rounds, 0, error_digest("STORE_UNAVAILABLE", store, None), "STORE_UNAVAILABLE"),
    ]


def _covered(start: int, end: int, state: str, rows: int = 0, reason: str = "") -> CoverageSpan:
    value = CoverageState.Value(f"COVERAGE_STATE_{state}")
    found = CoverageSpan(range=span(start, end), state=value, row_count=rows, reason=reason)
    if state == "COVERED":
        found.checked_at.FromMicroseconds(end + 5)
    return found


def _coverage(name: str, spans: Sequence[tuple[int, int, str, int]], window: tuple[int | None, int | None]) -> Case:
    answer = pb.CoverageResponse(range=span(spans[0][0], spans[-1][1]), spans=[_covered(*each) for each in spans])
    total = sum(rows for *_, rows in spans)
    return Case(name, (Round([answer]),), total, lines_digest(spans), call="coverage", window=window)


def _coverages() -> list[Case]:
    at = [START + n * MINUTE for n in (0, 2, 5, 6, 9, 10)]
    spans = [
        (at[0], at[1], "UNREACHABLE", 0),
        (at[1], at[2], "COVERED", 3),
        (at[2], at[3], "COVERED", 0),
        (at[3], at[4], "MISSING", 0),
        (at[4], at[5], "PENDING", 0),
    ]
    return [
        _coverage("coverage", spans, WINDOW),
        _coverage("coverage_of_all_time", [(0, 4_102_444_800_123_456, "MISSING", 0)], (None, None)),
    ]


def _plan(pages: int) -> pb.EnsureRangeResponse:
    plan = pb.EnsurePlan(range=span(*WINDOW), missing=[span(*WINDOW)], page_count=pages, call_count=pages)
    plan.least_duration.FromMilliseconds(1500)
    return pb.EnsureRangeResponse(plan=plan)


def _progress(pages: int, rows: int, page: tuple[int, int] | None) -> pb.EnsureRangeResponse:
    told = pb.EnsureProgress(pages_done=pages, rows_done=rows, calls_done=pages)
    if page is not None:
        told.page.CopyFrom(span(*page))
    else:
        told.wait.cause = pb.EnsureWait.CAUSE_QUOTA
        told.wait.until.FromMicroseconds(START)
        told.wait.detail = "ccxt:conformance"
    return pb.EnsureRangeResponse(progress=told)


def _result(pages: int, rows: int, uncovered: Sequence[CoverageSpan] = ()) -> pb.EnsureRangeResponse:
    result = pb.EnsureResult(row_count=rows, page_count=pages, call_count=pages, uncovered=uncovered)
    return pb.EnsureRangeResponse(result=result)


def _ensures() -> list[Case]:
    one, two = (START, START + 5 * MINUTE), (START + 5 * MINUTE, START + 10 * MINUTE)
    hole = (two[1] - MINUTE, two[1], "PENDING", 0)
    tail = [(*WINDOW, "RESULT", 9), hole]
    waiting = [(0, 0, "PROGRESS", 0), (*one, "PROGRESS", 5), (*two, "PROGRESS", 9)]
    result = _result(2, 9, [_covered(*hole)])
    told = [_plan(2), _progress(0, 0, None), _progress(1, 5, one), _progress(2, 9, two), result]
    again = (
        Round([_plan(2), _progress(1, 5, one)], failure=BROKEN),
        Round([_plan(1), _progress(1, 4, two), _result(1, 4, [_covered(*hole)])]),
    )
    lines = [(*WINDOW, "PLAN", 2), *waiting, *tail]
    return [
        Case("ensure", (Round(told),), 9, lines_digest(lines), call="ensure"),
        Case("ensure_resumed", again, 9, lines_digest([lines[0], *lines[2:]]), call="ensure", window=(START, None)),
    ]


CASES: Final = [*_reads(), *_resumed(), *_cut(), *_broken_contracts(), *_errors(), *_coverages(), *_ensures()]
