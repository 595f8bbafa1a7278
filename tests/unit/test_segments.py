"""Segments against an oracle that keeps, for every instant, the answers in the order in which they came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from historyd.model.time_range import TimeRange
from historyd.model.timeframe import FixedGrid
from historyd.stores.segments import Segment, Segments
from historyd.stores.spans import UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 10
SLOTS = 12
GRID = FixedGrid(WIDTH, 0)
Windows = st.tuples(st.integers(0, SLOTS - 1), st.integers(1, SLOTS)).map(
    lambda pair: TimeRange(pair[0] * WIDTH, min(SLOTS, pair[0] + pair[1]) * WIDTH)
)
HOWS = ("full", "empty", "some", "forget")
Step = tuple[TimeRange, int, str]
"""A window, when it was asked for, and with how many rows it was answered, or that it is forgotten."""
Steps = st.lists(st.tuples(Windows, st.integers(1, 5), st.sampled_from(HOWS)), max_size=12)


def count_of(window: TimeRange, how: str) -> int:
    slots = GRID.count(window.start, window.end)
    return {"full": slots, "empty": 0, "some": max(0, slots - 1)}[how]


def replay(steps: Sequence[Step]) -> tuple[Segments, list[tuple[int, int] | None]]:
    """The segments, and for every slot the (asked_at, number) of the answer that counts."""
    segments = Segments(GRID)
    kept: list[tuple[int, int] | None] = [None] * SLOTS
    for number, (window, asked_at, how) in enumerate(steps):
        if how == "forget":
            segments.erase(window)
        else:
            segments.lay(Segment(window, asked_at, count_of(window, how), number))
        for place in range(window.start // WIDTH, window.end // WIDTH):
            before = kept[place]
            if how == "forget":
                kept[place] = None
            elif before is None or before[0] <= asked_at:
                kept[place] = (asked_at, number)
    return segments, kept


@given(Steps)
def test_in_every_slot_the_answer_counts_that_was_asked_last(steps: list[Step]) -> None:
    segments, kept = replay(steps)
    found: list[tuple[int, int] | None] = [None] * SLOTS
    end = 0
    for segment in segments.all():
        assert segment.range.start >= end, "disjoint and ascending"
        end = segment.range.end
        for place in range(segment.range.start // WIDTH, end // WIDTH):
            found[place] = (segment.asked_at, segment.answer)
    assert found == kept


@given(Steps)
def test_counts_are_exact_or_said_to_be_unknown(steps: list[Step]) -> None:
    segments, _ = replay(steps)
    for segment in segments.all():
        window, _, how = steps[segment.answer]
        slots = GRID.count(segment.range.start, segment.range.end)
        if how == "full":
            assert segment.row_count == slots
        elif count_of(window, how) == 0:
            assert segment.row_count == 0
        else:
            assert segment.row_count == (count_of(window, how) if segment.range == window else UNCOUNTED)
        assert segment.whole == (segment.range == window)


@given(Steps)
def test_spans_are_those_of_all_segments_at_once(steps: list[Step]) -> None:
    """However they came about: added to one by one, or folded anew."""
    segments, _ = replay(steps)
    for segment in segments.uncounted():
        segments.counted(segment, 1)
    fresh = Segments(GRID)
    for segment in segments.all():
        fresh.lay(segment)
    assert list(segments.spans()) == list(fresh.spans())
