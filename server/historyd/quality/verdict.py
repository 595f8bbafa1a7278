"""What an answer of an exchange is worth: its good rows, those that break a rule, whether it can be believed at all.

`bars` and `trades` come to a verdict, by rules of their own. Pure: no clock, no I/O.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from historyd.model.rows import Quarantined

MOST_BAD: Final = 0.1
"""An answer of which a greater share breaks a rule is not believed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer is worth.

    Attributes:
        rows: the good rows of the window in the kind's schema, ordered and unique by key.
        quarantined: the rows of the window that break a rule.
        ignored_window: there were rows, and all lay outside of the window.
    """

    rows: pa.RecordBatch
    quarantined: tuple[Quarantined, ...] = ()
    ignored_window: bool = False

    @property
    def believable(self) -> bool:
        """Whether at most a tenth of the rows break a rule."""
        good, bad = int(self.rows.num_rows), len(self.quarantined)
        return bad <= MOST_BAD * (bad + good)


def set_aside(rows: pa.RecordBatch, at: int, reason: str) -> Quarantined:
    """The row at an index of the raw answer, whose first column is `ts`, as it is quarantined."""
    row: dict[str, Any] = rows.slice(at, 1).to_pylist()[0]
    stamp = rows.column(0).cast(pa.int64())[at].as_py()
    row["ts"] = stamp
    return Quarantined(stamp, reason, json.dumps(row))
