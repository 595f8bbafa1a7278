"""The pure parts of the embedded store: statements by name, blocks cut by time, spans kept in memory."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historyd.coverage import Covered, Fact, merge
from historyd.model.rows import EMPTY, RowKey
from historyd.model.series import Kind
from historyd.model.time_range import MICROS_PER_MS, TimeRange
from historyd.model.timeframe import Timeframe
from historyd.stores import blocks
from historyd.stores.flat import open_flat
from historyd.stores.ledger import Edition
from historyd.stores.spans import UNCOUNTED, added, clipped, folded
from historyd.stores.sql import parse_statements
from historyd.stores.tails import MOST_SERIES, Tails
from tests.rows import MINUTE, bars, minutes, trades

if TYPE_CHECKING:
    from random import Random

GRID = Timeframe.parse("1m").grid()


@st.composite
def facts(draw: st.DrawFn) -> list[Fact]:
    """Disjoint facts, ascending, touching or not, empty or not, given early or late."""
    found, cursor = [], 0
    for gap, width in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=12)):
        window = minutes(cursor + gap, cursor + gap + width)
        asked_at = draw(st.sampled_from([1, 2, 10**15, 10**15 + 1]))
        found.append(Fact(window, asked_at, draw(st.integers(0, width))))
        cursor += gap + width
    return found


@given(facts())
def test_folding_gives_what_merging_gives(found: list[Fact]) -> None:
    rows = [(fact.range.start, fact.range.end, fact.asked_at, fact.row_count) for fact in found]
    assert folded(rows) == merge(found)


@given(facts(), st.randoms(use_true_random=False))
def test_adding_facts_in_any_order_gives_what_merging_gives(found: list[Fact], dice: Random) -> None:
    spans: list[Covered] = []
    for fact in dice.sample(found, len(found)):
        spans = added(spans, fact)
    assert spans == merge(found)


def test_a_part_of_a_full_or_empty_span_needs_no_counting() -> None:
    full, empty, gappy = (
        Covered(minutes(0, 10), 10, 1),
        Covered(minutes(10, 20), 0, 1),
        Covered(minutes(20, 30), 9, 1),
    )
    parts = clipped([full, empty, gappy], minutes(4, 30), GRID)
    assert [part.row_count for part in parts] == [6, 0, 9]
    parts = clipped([full, empty, gappy], TimeRange(4 * MINUTE + 1, 30 * MINUTE - 1), GRID)
    assert [part.row_count for part in parts] == [5, 0, UNCOUNTED]
    assert [part.row_count for part in clipped([full], minutes(4, 30), None)] == [UNCOUNTED]
    assert clipped([full, gappy], minutes(10, 20), GRID) == []


def test_statements_are_found_by_name_with_their_comments() -> None:
    found = parse_statements("-- preface\n-- name: one\nSELECT 1\n\n-- name: two\n-- why\nSELECT 2\n")
    assert found == {"one": "SELECT 1", "two": "-- why\nSELECT 2"}


def test_two_statements_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="named one"):
        parse_statements("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")


@given(st.lists(st.integers(1, 5), max_size=20), st.integers(1, 7))
def test_splitting_keeps_instants_whole_and_loses_nothing(runs: list[int], rows: int) -> None:
    batch = trades((ms, seq) for ms, count in enumerate(runs) for seq in range(count))
    pieces = blocks.split(batch, rows)
    assert blocks.join(pieces, Kind.TRADES).equals(batch)
    for left, right in pairwise(pieces):
        assert blocks.times(left)[-1] < blocks.times(right)[0]
    for piece in pieces:
        assert piece.num_rows <= rows or len(set(blocks.times(piece))) == 1


def test_a_block_is_decoded_to_what_was_encoded_also_from_a_slice() -> None:
    batch = bars(range(100)).slice(10, 50)
    assert blocks.decode(blocks.encode(batch).to_pybytes(), Kind.OHLCV).equals(batch)
    assert blocks.times(batch)[0] == 10 * MINUTE
    assert len(blocks.times(EMPTY[Kind.OHLCV])) == 0


@pytest.mark.parametrize("content", [b"", b"nonsense", blocks.encode(bars([1, 2])).to_pybytes()[:100]])
def test_what_is_no_block_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a record batch"):
        blocks.decode(content, Kind.OHLCV)


def test_rows_through_a_key_are_dropped_by_instant_and_ordinal() -> None:
    batch = trades([(1, 0), (2, 0), (2, 1), (3, 0)])
    assert blocks.drop_through(batch, RowKey(2 * MICROS_PER_MS, 0)).equals(batch.slice(2))
    assert blocks.drop_through(batch, RowKey(2 * MICROS_PER_MS, 9)).equals(batch.slice(3))
    assert blocks.drop_through(batch, RowKey(0)).equals(batch)
    assert blocks.drop_through(bars([1, 2, 3]), RowKey(2 * MINUTE)).equals(bars([3]))


@given(st.lists(st.integers(0, 60), min_size=2, max_size=40, unique=True).map(sorted), st.integers(-1, 62))
def test_single_rows_of_a_flat_block_are_those_of_the_whole(opens: list[int], minute: int) -> None:
    batch = bars(opens)
    with closing(sqlite3.connect(":memory:")) as con:
        con.execute("CREATE TABLE block (content BLOB)")
        con.execute("INSERT INTO block VALUES (?)", (blocks.encode(batch).to_pybytes(),))
        with con.blobopen("block", "content", 1, readonly=True) as blob:
            flat = open_flat(blob, len(opens))
            assert flat is not None
            assert flat.before(minute * MINUTE) == blocks.before(batch, minute * MINUTE)
            assert [flat.time(row) for row in range(len(opens))] == list(blocks.times(batch))
            assert flat.batch(1, len(opens) - 1).equals(batch.slice(1))


def test_a_kept_tail_is_only_given_for_its_edition_and_length() -> None:
    tails = Tails()
    tails.keep(Edition(1, 5), bars(range(10)))
    kept = tails.get(Edition(1, 5), 3)
    assert kept is not None
    assert kept.equals(bars(range(7, 10)))
    assert tails.get(Edition(1, 6), 3) is None
    assert tails.get(Edition(1, 5), 11) is None
    assert tails.get(Edition(2, 5), 3) is None


def test_tails_of_too_many_series_push_out_the_one_not_used_for_longest() -> None:
    tails = Tails()
    for series in range(MOST_SERIES):
        tails.keep(Edition(series, 0), bars(range(2)))
    assert tails.get(Edition(0, 0), 1) is not None
    tails.keep(Edition(MOST_SERIES, 0), bars(range(2)))
    assert tails.get(Edition(1, 0), 1) is None
    assert tails.get(Edition(0, 0), 1) is not None
