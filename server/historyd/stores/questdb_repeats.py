"""What a new answer only says again: bars that are stored already are not written a second time.

Theory of operation. A page is asked for whole whenever anything of it is missing, so who follows a series bar by bar
gets each page again and again, one bar longer each time, and QuestDB deletes nothing. So of an answer only those parts
are written that differ from what counts; for the others the journal says that the older rows were seen again. Parts
are written again, as one with what follows them, once they are no longer than that. So parts at least double from
right to left: a page of 1,000 bars has about ten, and each of its bars is written at most about eleven times.

Pure. Never does: decide what counts, which is the journal's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from historyd.stores import blocks
from historyd.stores.spans import UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from historyd.model.time_range import TimeRange
    from historyd.stores.segments import Segment

MOST_PARTS: Final = 16
"""An answer that would lie in more parts is written as one."""


def comparable(segments: Sequence[Segment], window: TimeRange) -> list[Segment]:
    """Those of the segments that may count on: with rows, all of them inside the window, counted, none set aside."""
    return [
        segment
        for segment in segments
        if segment.row_count not in {0, UNCOUNTED} and not segment.set_aside and window.contains(segment.range)
    ]


def said_again(segments: Sequence[Segment], stored: pa.RecordBatch, rows: pa.RecordBatch) -> list[Segment]:
    """Those of the segments whose rows an answer has too, and which it is worth to keep; ascending.

    Args:
        segments: comparable ones, ascending.
        stored: all their rows.
        rows: all rows of the answer.
    """
    kept: list[Segment] = []
    to_write, end = 0, None
    for segment in reversed(segments):
        start, until = segment.range.start, segment.range.end
        after = rows.num_rows if end is None else blocks.before(rows, end)
        to_write += after - blocks.before(rows, until)
        mine = blocks.cut(rows, start, until)
        if segment.row_count > to_write and mine.equals(blocks.cut(stored, start, until)):
            kept.insert(0, segment)
            to_write = 0
        else:
            to_write += mine.num_rows
        end = start
    return kept if len(kept) <= MOST_PARTS else []
