"""Reads the embedded store's file a step at a time, each step one short snapshot of about one frame's rows.

No snapshot outlives its step, so a reader that stalls for minutes keeps nothing from being written or checkpointed.
Between two steps rows may be replaced by a newer answer: each step is true of its own moment, and no row comes twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

from historyd.errors import CorruptPage
from historyd.model.time_range import between
from historyd.stores import blocks
from historyd.stores.block_table import Block

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    import pyarrow as pa

    from historyd.model.rows import RowKey
    from historyd.model.time_range import TimeRange
    from historyd.stores.base import Packed, Packer, Rows
    from historyd.stores.block_table import BlockTable, KnownSeries
    from historyd.stores.packs import Packs


T = TypeVar("T")

_MOST_PACKS: Final = 32
"""Blocks of one step whose packs are kept: a step names them and holds none, so a reader that stalls does neither."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A whole block's rows, packed just now or not yet. The next read may know them by the block's name."""

    rows: Rows


Part: TypeAlias = "pa.RecordBatch | Loaded | Block"
"""Of a read that may come packed: rows of pieces of blocks, of a whole block, or a block whose pack is kept."""


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """Batches of one step, or parts, and the window that is left; None at the end."""

    batches: list[T]
    rest: TimeRange | None


@dataclass(frozen=True, slots=True)
class Packing:
    """How blocks are packed that are read again and again, and the packs of those that were.

    A step names the blocks whose packs were kept at its moment; `kept` gives them, if nothing drove them out since.
    """

    packer: Packer
    packs: Packs

    def kept(self, block: Block) -> Packed | None:
        """The pack of a block, if there is one."""
        return self.packs.get(self._name(block))

    def rows_of(self, part: Part) -> Rows | None:
        """What is handed out of a part; None if it is a block whose pack is not kept any more."""
        if isinstance(part, Block):
            return self.kept(part)
        return part.rows if isinstance(part, Loaded) else part

    def keeps(self, parts: Iterable[Part]) -> bool:
        """Whether the packs of all blocks among the parts are kept."""
        return all(self.kept(part) is not None for part in parts if isinstance(part, Block))

    def of(self, block: Block, batch: pa.RecordBatch) -> Rows:
        """The pack of a block, if it is read often, else its rows."""
        packed = self.packs.make(self._name(block), batch.nbytes, lambda: self.packer.pack(batch))
        return batch if packed is None else packed

    def _name(self, block: Block) -> Hashable:
        return block, self.packer.name


def read_step(table: BlockTable, series: KnownSeries, window: TimeRange, most_rows: int) -> Step[pa.RecordBatch]:
    """The first rows of the window: one block, or several small ones of at most `most_rows`. Raises CorruptPage."""
    with table.snapshot():
        return _gather(table, series, window, most_rows)


def packed_step(
    table: BlockTable, series: KnownSeries, window: TimeRange, most_rows: int, packing: Packing, most_loads: int
) -> Step[Part]:
    """The first rows of the window: blocks that stand alone, packed if they are read often, then as `read_step`.

    Loads at most `most_loads` blocks that stand alone; those whose packs are kept are named. Raises CorruptPage.
    """
    found: list[Part] = []
    rest: TimeRange | None = window
    try:
        with table.snapshot():
            for block in table.touching(series, window):
                if not _stands_alone(block, window, most_rows):
                    step = _gather(table, series, rest or window, most_rows)
                    return Step([*found, *step.batches], step.rest)
                is_kept = packing.kept(block) is not None
                if len(found) == _MOST_PACKS or (not is_kept and most_loads == 0):
                    return Step(found, rest)
                most_loads -= not is_kept
                found.append(block if is_kept else Loaded(packing.of(block, table.load(series, block))))
                rest = between(block.last_ts + 1, window.end)
    except CorruptPage:
        if not found:
            raise
        return Step(found, rest)
    return Step(found, None)


def last_step(table: BlockTable, series: KnownSeries, count: int, end: int, most_rows: int) -> Step[pa.RecordBatch]:
    """The first step of the last `count` rows before `end`. Raises CorruptPage."""
    with table.snapshot():
        start, skipped = _start_of_last(table, series, count, end)
        window = between(start, end)
        return Step([], None) if window is None else _gather(table, series, window, most_rows, skipped)


def _stands_alone(block: Block, window: TimeRange, most_rows: int) -> bool:
    """Whether all of the block is wanted, and it has too many rows to be joined with another one like it."""
    return window.start <= block.first_ts and block.last_ts < window.end and 2 * block.row_count > most_rows


def _start_of_last(table: BlockTable, series: KnownSeries, count: int, end: int) -> tuple[int, int]:
    """When the last `count` rows before `end` begin, and the rows of that instant to skip."""
    start, wanted = end, count
    for block in table.before(series, end):
        rows = block.row_count if block.last_ts < end else table.count_before(series, block, end)
        if rows >= wanted:
            return table.tail(series, block, wanted, end)
        start, wanted = block.first_ts, wanted - rows
    return start, 0


def _gather(
    table: BlockTable, series: KnownSeries, window: TimeRange, most_rows: int, skipped: int = 0
) -> Step[pa.RecordBatch]:
    """Loads blocks until the next one would make too many rows; a damaged one only ends a step that has rows."""
    batches: list[pa.RecordBatch] = []
    rows = 0
    rest = None
    for block in table.touching(series, window):
        if batches and rows + block.row_count > most_rows:
            rest = between(block.first_ts, window.end)
            break
        try:
            inside = window.start <= block.first_ts and block.last_ts < window.end
            load = table.load if inside else partial(table.load_between, start=window.start, end=window.end)
            batch = load(series, block)
        except CorruptPage:
            if not batches:
                raise
            rest = between(block.first_ts, window.end)
            break
        if batch.num_rows:
            batches.append(batch)
            rows += batch.num_rows
    whole = blocks.join(batches, series.id.kind).slice(skipped)
    return Step([whole.slice(at, most_rows) for at in range(0, whole.num_rows, most_rows)], rest)


def resumed(batches: list[pa.RecordBatch], after: RowKey) -> list[pa.RecordBatch]:
    """The rows after `after`; batches that have none are left out."""
    kept = [blocks.drop_through(batch, after) for batch in batches]
    return [batch for batch in kept if batch.num_rows]
