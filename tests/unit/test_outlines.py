"""What is noted of a read for the next one of the same window: its rows in order, unless that is too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from historyd.stores.block_table import Block
from historyd.stores.outlines import MOST_BYTES_OF_ONE, Draft
from historyd.stores.steps import Loaded
from tests.packing import Pack
from tests.rows import bars

if TYPE_CHECKING:
    from historyd.stores.outlines import Outline
    from historyd.stores.steps import Part

BLOCK = Block(1, 0, 9, 10, 0)


def noted(*parts: Part) -> Outline | None:
    draft = Draft()
    for part in parts:
        draft.add(part)
    return draft.outline


def test_an_outline_is_what_was_noted_in_order() -> None:
    rows = bars(range(3))
    assert noted(rows, BLOCK) == [rows, BLOCK]


def test_a_read_of_blocks_that_the_next_one_may_know_by_name_is_none() -> None:
    for rows in (bars(range(3)), Pack(bars(range(3)))):
        assert noted(BLOCK, Loaded(rows), BLOCK) is None


def test_a_large_read_is_not_held_while_it_goes_on() -> None:
    rows = bars(range(20_000))
    fitting = MOST_BYTES_OF_ONE // rows.get_total_buffer_size()
    assert noted(*[rows] * fitting) == [rows] * fitting
    assert noted(*[rows] * (fitting + 1), BLOCK) is None


def test_rows_count_with_all_that_they_are_cut_from() -> None:
    assert noted(bars(range(50_000)).slice(0, 1)) is None
