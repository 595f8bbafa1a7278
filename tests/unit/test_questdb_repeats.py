"""What of a new answer is not written again: never what differs, and a bar is written few times however it grows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historyd.model.series import Kind
from historyd.stores import blocks
from historyd.stores.questdb_repeats import MOST_PARTS, comparable, said_again
from historyd.stores.segments import Segment, Segments
from historyd.stores.spans import UNCOUNTED
from tests.rows import bars, minutes

if TYPE_CHECKING:
    import pyarrow as pa

PAGE = 1000


def segment(start: int, end: int, rows: int | None = None, set_aside: int = 0) -> Segment:
    return Segment(minutes(start, end), 1, end - start if rows is None else rows, start, set_aside)


def mixed(slots: range, changed: set[int]) -> pa.RecordBatch:
    """Bars at the slots, some of them not as they were."""
    return blocks.join([bars([slot], 2.0 if slot in changed else 1.0) for slot in slots], Kind.OHLCV)


def test_only_whole_counted_answers_with_rows_inside_the_window_are_compared() -> None:
    good = segment(10, 20)
    others = [segment(0, 10), segment(20, 30, 0), segment(30, 40, UNCOUNTED), segment(40, 50, set_aside=1)]
    assert comparable([others[0], good, *others[1:], segment(50, 70)], minutes(5, 60)) == [good]


def test_what_is_the_same_is_kept_and_what_differs_is_not() -> None:
    parts = [segment(0, 500), segment(500, 800), segment(800, 900)]
    stored = bars(range(900))
    assert said_again(parts, stored, bars(range(901))) == parts
    assert said_again(parts, stored, mixed(range(901), {799})) == parts[:1] + parts[2:]
    assert said_again(parts, stored, bars([*range(899), 900])) == parts[:2], "a bar is gone"
    assert said_again(parts, stored, bars([])) == []


@pytest.mark.parametrize(("gap", "kept"), [(99, 1), (100, 0)])
def test_a_part_no_longer_than_what_follows_it_is_written_again_with_it(gap: int, kept: int) -> None:
    assert len(said_again([segment(0, 100)], bars(range(100)), bars(range(100 + gap)))) == kept


def test_an_answer_in_too_many_parts_is_written_as_one() -> None:
    for count in (MOST_PARTS, MOST_PARTS + 1):
        parts = [segment(start, start + 10) for start in range(0, count * 10, 10)]
        rows = bars(range(count * 10))
        assert len(said_again(parts, rows, rows)) == (count if count == MOST_PARTS else 0)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_a_page_that_grows_is_written_few_times_and_lies_in_few_parts(steps: list[int]) -> None:
    """The store's own rule, step by step: parts that are kept keep their answer, the others get a new one."""
    known, end, written = Segments(None), 0, 0
    for number, step in enumerate(steps, 1):
        stored, end = bars(range(end)), end + step
        rows, window = bars(range(end)), minutes(0, PAGE * 3)
        kept = said_again(comparable(known.touching(window), window), stored, rows)
        start = kept[-1].range.end if kept else minutes(0, 1).start
        fresh = blocks.cut(rows, start, minutes(0, end).end).num_rows
        known.lay(Segment(minutes(end - fresh, end), number, fresh, number))
        written += fresh
        assert sum(part.row_count for part in known.all()) == end
    most = math.log2(end) + 1
    assert written <= end * most
    assert len(known.all()) <= min(MOST_PARTS + 1, 2 * most)
