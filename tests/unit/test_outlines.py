"""What is kept of reads of the same window: bounded, those not used for longest go, a large read is not held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from historyd.stores.block_table import Block
from historyd.stores.outlines import MOST_BYTES_OF_ONE, Draft, Outlines
from historyd.stores.steps import Loaded
from tests.packing import Pack
from tests.rows import bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from historyd.stores.steps import Part

BLOCK = Block(1, 0, 9, 10, 0)


def draft(*parts: Part) -> Draft:
    noted = Draft()
    for part in parts:
        noted.add(part)
    return noted


def test_an_outline_is_what_was_noted_in_order() -> None:
    rows = bars(range(3))
    kept = Outlines()
    kept.keep("window", draft(rows, BLOCK))
    assert kept.get("window") == [rows, BLOCK]
    assert kept.get("other") is None


def test_a_read_of_blocks_that_the_next_one_may_know_by_name_is_not_kept() -> None:
    kept = Outlines()
    for rows in (bars(range(3)), Pack(bars(range(3)))):
        kept.keep("window", draft(BLOCK, Loaded(rows)))
        assert kept.get("window") is None


def test_a_large_read_is_not_held_while_it_goes_on() -> None:
    rows = bars(range(20_000))
    fitting = MOST_BYTES_OF_ONE // rows.get_total_buffer_size()
    assert draft(*[rows] * fitting).parts == [rows] * fitting
    assert draft(*[rows] * (fitting + 1), BLOCK).parts is None


def test_rows_count_with_all_that_they_are_cut_from() -> None:
    piece = bars(range(50_000)).slice(0, 1)
    assert draft(piece).parts is None


def test_those_not_used_for_longest_make_room() -> None:
    kept = Outlines(3 * 256)
    for name in (1, 2, 3):
        kept.keep(name, draft(BLOCK))
    assert kept.get(1) is not None
    kept.keep(4, draft(BLOCK))
    assert [kept.get(name) is not None for name in (1, 2, 3, 4)] == [True, False, True, True]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=60), st.integers(0, 3_000))
def test_what_is_kept_is_bounded_and_the_last_that_was_noted(reads: list[tuple[int, int]], most_bytes: int) -> None:
    kept = Outlines(most_bytes)
    last: dict[int, Sequence[object]] = {}
    for name, blocks in reads:
        kept.keep(name, draft(*[BLOCK] * blocks))
        last[name] = [BLOCK] * blocks
        found = {name: parts for name in last if (parts := kept.get(name)) is not None}
        assert all(parts == last[name] for name, parts in found.items())
        assert sum(256 * len(parts) for parts in found.values()) <= most_bytes
