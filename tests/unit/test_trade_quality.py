"""What becomes of each trade of an answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historyd.model.rows import NO_TRADES, RAW_TRADES, TRADES
from historyd.model.time_range import TimeRange
from historyd.quality.trades import judge_trades

if TYPE_CHECKING:
    from historyd.quality.verdict import Verdict

WINDOW = TimeRange(0, 1_000)
Row = tuple[int | None, str | None, float | None, float | None, str | None]
NAN, INF = float("nan"), float("inf")


def raw(*rows: Row) -> pa.RecordBatch:
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * 5
    arrays = [
        pa.array(list(column), pa.int64()).cast(field.type)
        if field.name == "ts"
        else pa.array(list(column), field.type)
        for column, field in zip(columns, RAW_TRADES, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW_TRADES)


def kept(verdict: Verdict) -> list[tuple[Any, ...]]:
    assert verdict.rows.schema == TRADES
    columns = [verdict.rows.column(0).cast(pa.int64()), *verdict.rows.columns[1:]]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def test_good_trades_are_numbered_within_their_time() -> None:
    verdict = judge_trades(raw((5, "a", 1.0, 1.0, "buy"), (5, "b", 1.0, 1.0, "sell"), (7, "c", 2.0, 1.0, None)), WINDOW)
    assert kept(verdict) == [
        (5, 0, "a", 1.0, 1.0, "buy"),
        (5, 1, "b", 1.0, 1.0, "sell"),
        (7, 0, "c", 2.0, 1.0, None),
    ]
    assert verdict.quarantined == ()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((None, "x", 1.0, 1.0, "buy"), "no_timestamp"),
        ((5, "x", NAN, 1.0, "buy"), "not_finite"),
        ((5, "x", 1.0, INF, "buy"), "not_finite"),
        ((5, "x", 0.0, 1.0, "buy"), "price_not_positive"),
        ((5, "x", -1.0, 1.0, "buy"), "price_not_positive"),
        ((5, "x", 1.0, 0.0, "buy"), "amount_not_positive"),
        ((5, "x", 1.0, -2.0, "buy"), "amount_not_positive"),
    ],
)
def test_a_trade_that_breaks_a_rule_is_set_aside_with_the_reason_and_the_rest_is_served(row: Row, reason: str) -> None:
    good = [(10 + at, str(at), 1.0, 1.0, "buy") for at in range(9)]
    verdict = judge_trades(raw(*good, row), WINDOW)
    assert [(bad.ts, bad.reason) for bad in verdict.quarantined] == [(row[0], reason)]
    assert json.loads(verdict.quarantined[0].row)["id"] == "x"
    assert verdict.rows.num_rows == 9
    assert verdict.believable
    assert not judge_trades(raw(*good[:5], row), WINDOW).believable


def test_what_the_venue_does_not_say_breaks_no_rule() -> None:
    assert kept(judge_trades(raw((5, "a", None, None, None)), WINDOW)) == [(5, 0, "a", None, None, None)]


def test_of_an_id_said_twice_the_later_word_counts() -> None:
    said = [(5, "a", 1.0, 1.0, "buy"), (5, "b", 1.0, 1.0, "buy"), (5, "a", 2.0, 1.0, "buy"), (5, "b", 1.0, 1.0, "buy")]
    verdict = judge_trades(raw(*said), WINDOW)
    assert kept(verdict) == [(5, 0, "b", 1.0, 1.0, "buy"), (5, 1, "a", 2.0, 1.0, "buy")]
    assert [bad.reason for bad in verdict.quarantined] == ["superseded"]


def test_trades_without_ids_get_the_same_ones_whenever_their_time_is_asked_for() -> None:
    twins = [(5, None, 1.0, 1.0, "buy"), (5, None, 1.0, 1.0, "buy"), (5, None, 1.0, 1.0, "sell")]
    first = kept(judge_trades(raw(*twins, (6, None, 1.0, 1.0, "buy")), WINDOW))
    again = kept(judge_trades(raw((4, None, 1.0, 1.0, "buy"), *twins), WINDOW))
    assert first[:3] == again[1:]
    assert len({(ts, text) for ts, _, text, *_ in first}) == 4


def test_rows_outside_of_the_window_say_nothing() -> None:
    assert kept(judge_trades(raw((1_000, "a", 1.0, 1.0, "buy"), (-1, "b", NAN, 1.0, "buy")), WINDOW)) == []
    assert kept(judge_trades(NO_TRADES, WINDOW)) == []


ROWS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from([None, "1", "2", "3"]),
        st.sampled_from([1.0, 2.0, -1.0, NAN, None]),
        st.sampled_from([1.0, 0.0, None]),
        st.sampled_from(["buy", "sell", None]),
    ),
    max_size=12,
)


@settings(max_examples=200)
@given(ROWS)
def test_the_judgement_is_that_of_an_oracle_that_looks_at_one_trade_after_the_other(rows: list[Row]) -> None:
    verdict = judge_trades(raw(*rows), TimeRange(1, 4))
    good: list[Row] = []
    aside = 0
    alike: dict[Any, int] = {}
    for ts, text, price, amount, side in rows:
        if ts is None or not 1 <= ts < 4:
            continue
        if text is None:
            number = alike.setdefault((ts, repr(price), repr(amount), side), 0)
            alike[ts, repr(price), repr(amount), side] += 1
            text = f"made up {price} {amount} {side} {number}"  # noqa: PLW2901
        if price == -1.0 or amount == 0.0 or (price is not None and price != price):  # noqa: PLR0124
            aside += 1
            continue
        row = (ts, text, price, amount, side)
        same = [other for other in good if other[:2] == row[:2]]
        if same == [row]:
            continue
        aside += len(same)
        good = [other for other in good if other not in same] + [row]
    assert len(verdict.quarantined) == aside
    ordered = sorted(good, key=lambda row: row[0] or 0)
    assert [(row[0], *row[3:]) for row in kept(verdict)] == [(row[0], *row[2:]) for row in ordered]
    numbers = [row[:2] for row in kept(verdict)]
    assert numbers == [(ts, sum(other[0] == ts for other in ordered[:at])) for at, (ts, *_) in enumerate(ordered)]
    assert len({(row[0], row[2]) for row in kept(verdict)}) == len(good)
