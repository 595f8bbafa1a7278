"""What is kept of blocks that are read again: bounded, for those who come back, never another block's."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from historyd.stores.packs import Packs


@dataclass(frozen=True)
class Pack:
    block: int
    nbytes: int
    num_rows: int = 1


def read(packs: Packs, block: int, size: int = 10) -> str:
    """How a block of so many bytes was read: `kept`, `packed` now, or as its `rows`."""
    found = packs.get(block)
    assert found is None or found == Pack(block, size)
    if found is not None:
        return "kept"
    return "rows" if packs.make(block, size, lambda: Pack(block, size)) is None else "packed"


def test_a_block_is_packed_when_it_is_read_for_the_second_time() -> None:
    packs = Packs(100)
    assert [read(packs, 1) for _ in range(4)] == ["rows", "packed", "kept", "kept"]
    assert read(packs, 2) == "rows"


def test_what_may_not_be_packed_is_read_as_it_is_each_time() -> None:
    packs = Packs(100)
    for _ in range(4):
        assert packs.make(1, 10, lambda: None) is None
        assert packs.get(1) is None


def test_one_long_read_after_another_packs_nothing_and_drives_nothing_out() -> None:
    packs = Packs(100)
    for _ in range(2):
        read(packs, 0)
    for _ in range(3):
        assert {read(packs, block) for block in range(1, 30)} == {"rows"}
    assert read(packs, 0) == "kept"


def test_those_not_read_for_longest_make_room() -> None:
    packs = Packs(30)
    for block in (1, 2, 3):
        assert [read(packs, block) for _ in range(2)] == ["rows", "packed"]
    assert read(packs, 1) == "kept"
    assert [read(packs, 4) for _ in range(2)] == ["rows", "packed"]
    assert [packs.get(block) is not None for block in (1, 2, 3, 4)] == [True, False, True, True]


@settings(max_examples=200)
@given(st.lists(st.integers(0, 12), max_size=200), st.integers(0, 120))
def test_what_is_kept_is_bounded_and_each_blocks_own(order: list[int], most_bytes: int) -> None:
    packs = Packs(most_bytes)
    for block in order:
        read(packs, block, size=block)
        kept = [found for other in range(13) if (found := packs.get(other)) is not None]
        assert sum(pack.nbytes for pack in kept) <= most_bytes
