"""Coverage against an oracle that looks at every instant."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from historyd.coverage import (
    RECHECK_DELAY,
    Covered,
    Fact,
    Span,
    State,
    Unreachable,
    disjoin,
    merge,
    subtract,
    tile,
    union,
)
from historyd.model.time_range import TimeRange

SIZE = 40
RANGES = st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)).map(
    lambda pair: TimeRange(min(pair[0], pair[1] - 1), max(pair[0] + 1, pair[1]))
)


def instants(ranges: list[TimeRange]) -> set[int]:
    return {instant for span in ranges for instant in range(span.start, span.end)}


@st.composite
def disjoint(draw: st.DrawFn) -> list[TimeRange]:
    """Ascending disjoint ranges, some of them touching."""
    cuts = sorted(draw(st.sets(st.integers(0, SIZE), max_size=12)))
    return [TimeRange(a, b) for a, b in pairwise(cuts) if draw(st.booleans())]


@st.composite
def facts(draw: st.DrawFn) -> list[Fact]:
    # Asked long after their end unless a small delay is drawn, so that some empty ones are provisional.
    return [
        Fact(span, span.end + draw(st.sampled_from([0, RECHECK_DELAY, RECHECK_DELAY + 5])), draw(st.integers(0, 2)))
        for span in draw(disjoint())
    ]


@given(RANGES, st.lists(RANGES, max_size=6))
def test_subtract_leaves_what_nobody_took(window: TimeRange, taken: list[TimeRange]) -> None:
    rest = subtract(window, sorted(taken))
    assert instants(rest) == instants([window]) - instants(taken)
    assert all(left.end < right.start for left, right in pairwise(rest))


@given(st.lists(RANGES, max_size=8))
def test_union_is_maximal_and_loses_nothing(ranges: list[TimeRange]) -> None:
    joined = union(ranges)
    assert instants(joined) == instants(ranges)
    assert all(left.end < right.start for left, right in pairwise(joined))


@given(facts())
def test_merged_facts_cover_the_same_and_count_the_same(known: list[Fact]) -> None:
    spans = merge(known)
    assert instants([span.range for span in spans]) == instants([fact.range for fact in known])
    assert sum(span.row_count for span in spans) == sum(fact.row_count for fact in known)
    for span in spans:
        inside = [fact for fact in known if span.range.contains(fact.range)]
        assert span.row_count == sum(fact.row_count for fact in inside)
        assert span.checked_at == min(fact.asked_at for fact in inside)


@given(facts())
def test_merged_spans_are_maximal_but_for_empty_and_provisional_ones(known: list[Fact]) -> None:
    for left, right in pairwise(merge(known)):
        if left.range.end == right.range.start:
            differ = (left.row_count == 0) != (right.row_count == 0)
            assert differ or left.recheck_after is not None or right.recheck_after is not None


@given(facts())
def test_provisional_facts_stand_alone(known: list[Fact]) -> None:
    provisional = [fact for fact in known if fact.recheck_after is not None]
    alone = [span for span in merge(known) if span.recheck_after is not None]
    assert [span.range for span in alone] == [fact.range for fact in provisional]


def test_an_empty_answer_within_a_day_of_its_end_is_provisional() -> None:
    window = TimeRange(0, 100)
    assert Fact(window, 100 + RECHECK_DELAY - 1, 0).recheck_after == 100 + RECHECK_DELAY
    assert Fact(window, 100 + RECHECK_DELAY, 0).recheck_after is None
    assert Fact(window, 100, 1).recheck_after is None


@st.composite
def situations(draw: st.DrawFn) -> tuple[TimeRange, list[Covered], int, list[Unreachable]]:
    window = draw(RANGES)
    clipped = [span for span in draw(disjoint()) if window.contains(span)]
    covered = merge([Fact(span, 5, draw(st.integers(0, 2))) for span in clipped])
    beyond = disjoin([Unreachable(span, "too old") for span in draw(disjoint())])
    return window, covered, draw(st.integers(-5, SIZE + 5)), beyond


def oracle(instant: int, covered: list[Covered], closed_through: int, beyond: list[Unreachable]) -> State:
    if any(instant in span.range for span in covered):
        return State.COVERED
    if instant >= closed_through:
        return State.PENDING
    if any(instant in hit.range for hit in beyond):
        return State.UNREACHABLE
    return State.MISSING


@given(situations())
def test_tiles_say_of_every_instant_what_the_oracle_says(
    situation: tuple[TimeRange, list[Covered], int, list[Unreachable]],
) -> None:
    window, covered, closed_through, beyond = situation
    spans = tile(window, covered, closed_through, beyond)
    assert spans[0].range.start == window.start
    assert spans[-1].range.end == window.end
    assert all(left.range.end == right.range.start for left, right in pairwise(spans))
    for span in spans:
        for instant in range(span.range.start, span.range.end):
            assert span.state is oracle(instant, covered, closed_through, beyond)
    assert sum(span.row_count for span in spans) == sum(span.row_count for span in covered)


@given(situations())
def test_neighbouring_tiles_differ(situation: tuple[TimeRange, list[Covered], int, list[Unreachable]]) -> None:
    for left, right in pairwise(tile(*situation)):
        both_covered = left.state is right.state is State.COVERED
        assert (
            left.state is not right.state
            or (both_covered and (left.row_count == 0) != (right.row_count == 0))
            or (left.state is State.UNREACHABLE)
        )


def test_a_provisional_empty_span_looks_like_any_other_from_outside() -> None:
    window = TimeRange(0, 30)
    known = merge([Fact(TimeRange(0, 10), 10, 0), Fact(TimeRange(10, 30), 40, 0)])
    assert len(known) == 2
    assert tile(window, known, 30) == [Span(window, State.COVERED, 0, 10)]
