"""A packer whose packs are the rows themselves, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from historyd.stores.base import Rows


@dataclass(frozen=True)
class Pack:
    rows: pa.RecordBatch

    @property
    def num_rows(self) -> int:
        return int(self.rows.num_rows)

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes)


class KeepingPacker:
    name = "rows"

    def pack(self, batch: pa.RecordBatch) -> Pack:
        return Pack(batch)


def rows_of(found: Rows) -> pa.RecordBatch:
    """The rows, packed or not."""
    if isinstance(found, Pack):
        return found.rows
    assert isinstance(found, pa.RecordBatch)
    return found
