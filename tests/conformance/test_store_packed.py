"""Reads whose rows may come packed, run on every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from historyd.model.rows import RowKey
from tests.packing import KeepingPacker, rows_of
from tests.rows import BTC, MINUTE, answer, bars, minutes

if TYPE_CHECKING:
    from historyd.model.time_range import TimeRange
    from historyd.stores.base import Store


async def _packed(store: Store, window: TimeRange, after: RowKey | None = None) -> list[tuple[int, float]]:
    """The slots and closes of a read that may come packed."""
    batches = [rows_of(event) async for event in store.read_packed(BTC, window, after, KeepingPacker())]
    return [row for batch in batches for row in zip(batch["open"].to_pylist(), batch["close"].to_pylist(), strict=True)]


async def test_however_often_rows_are_read_packed_they_are_those_of_the_moment(store: Store) -> None:
    """Blocks come as rows first, then packed, then as they were packed; a newer answer is seen at once."""
    rows, wanted = bars(range(50_000)), [(float(slot), 1.0) for slot in range(50_000)]
    await store.commit(BTC, answer(minutes(0, 50_000), rows), rows)
    for _ in range(4):
        assert await _packed(store, minutes(0, 50_000)) == wanted
        assert await _packed(store, minutes(7, 49_990)) == wanted[7:49_990]
        for after in (0, 16_383, 16_384, 20_000):
            assert await _packed(store, minutes(0, 50_000), RowKey(after * MINUTE)) == wanted[after + 1 :]
    newer = bars([20_000], 2.0)
    await store.commit(BTC, answer(minutes(20_000, 20_001), newer, 10**15 + 1), newer)
    wanted[20_000] = (20_000.0, 2.0)
    for _ in range(3):
        assert await _packed(store, minutes(0, 50_000)) == wanted
    await store.forget(BTC, minutes(30_000, 40_000))
    assert await _packed(store, minutes(0, 50_000)) == wanted[:30_000] + wanted[40_000:]
