"""What is kept is bounded in bytes, the last of its name, and makes room in the order in which it was used."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from historyd.stores.lru import Lru


def test_those_not_used_for_longest_make_room() -> None:
    kept = Lru[str](30)
    for name in (1, 2, 3):
        kept.put(name, str(name), 10)
    assert kept.get(1) == "1"
    kept.put(4, "4", 10)
    assert [kept.get(name) for name in (1, 2, 3, 4)] == ["1", None, "3", "4"]


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from(["put", "get", "pop"]), st.integers(0, 5), st.integers(0, 40))),
    st.integers(0, 99),
)
def test_it_is_a_list_that_is_cut_at_its_old_end(calls: list[tuple[str, int, int]], most_bytes: int) -> None:
    kept, naive = Lru[int](most_bytes), list[tuple[int, int]]()
    for number, (call, name, size) in enumerate(calls):
        value = next((value for other, value in naive if other == name), None)
        if call == "put":
            sized = number * 100 + size  # a value says its size
            kept.put(name, sized, size)
            naive = [*(pair for pair in naive if pair[0] != name), (name, sized)]
            while sum(value % 100 for _, value in naive) > most_bytes:
                naive.pop(0)
            continue
        assert (kept.get(name) if call == "get" else kept.pop(name)) == value
        naive = [pair for pair in naive if pair[0] != name]
        if call == "get" and value is not None:
            naive.append((name, value))
