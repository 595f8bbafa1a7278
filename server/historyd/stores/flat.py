"""Single rows out of a stored block of bars, without reading all of it.

A block whose columns have no nulls lies flat: the metadata of its IPC message, then the columns one after the other,
8 bytes a value. So any rows are six short reads, and an instant is found by bisection over the first column. A year's
block is 786 kB; the last 120 rows of it are 6 kB.

Promises: says so (`open_flat` gives None) if a block does not lie flat. Never does: verify checksums.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from historyd.model.rows import BARS

if TYPE_CHECKING:
    import sqlite3

_WIDTH: Final = 8
"""Bytes of every value of a bar."""


class FlatBlock:
    """The open times of a block's rows, in microseconds, and any slice of its rows as a batch."""

    def __init__(self, blob: sqlite3.Blob, body: int, row_count: int) -> None:
        self._blob = blob
        self._body = body
        self._row_count = row_count

    def time(self, row: int) -> int:
        """When a row's bar opens, in microseconds."""
        return int.from_bytes(self._read(0, row, 1), "little", signed=True)

    def before(self, instant: int) -> int:
        """How many rows are earlier than the instant."""
        first, last = self.time(0), self.time(self._row_count - 1)
        if instant <= first:
            return 0
        if instant > last:
            return self._row_count
        # Without gaps the row is where its time says; else what is left is bisected.
        guess = -(-(instant - first) * (self._row_count - 1) // (last - first))
        low, high = (guess, self._row_count - 1) if self.time(guess) < instant else (0, guess)
        if high == guess and self.time(guess - 1) < instant:
            return guess
        return bisect_left(range(self._row_count), instant, low, high, key=self.time)

    def batch(self, first: int, count: int) -> pa.RecordBatch:
        """So many rows from `first` on, in the schema `BARS`."""
        arrays = [
            pa.Array.from_buffers(field.type, count, [None, pa.py_buffer(self._read(column, first, count))])
            for column, field in enumerate(BARS)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=BARS)

    def _read(self, column: int, row: int, count: int) -> bytes:
        self._blob.seek(self._body + (column * self._row_count + row) * _WIDTH)
        return self._blob.read(count * _WIDTH)


def open_flat(blob: sqlite3.Blob, row_count: int) -> FlatBlock | None:
    """The block in `blob`; None if it does not lie flat (it has nulls, or is compressed)."""
    # An encapsulated message: a continuation marker, the metadata's length, the metadata, the columns.
    body = 8 + int.from_bytes(blob.read(8)[4:], "little")
    return FlatBlock(blob, body, row_count) if len(blob) - body == len(BARS) * _WIDTH * row_count else None
