"""Where rows that are read go: files, standard output, or a short look on the terminal.

Promises: rows are written as they come, in bounded memory; a file appears under its name only when all rows are in
it, else nothing is left of it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable

_ROW_GROUP: Final = 131_072
"""Rows of a Parquet row group: 6 MB of bars in memory."""
PREVIEW_ROWS: Final = 5


class Sink(Protocol):
    """Takes the batches of one series."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes the next rows."""

    def finish(self, schema: pa.Schema) -> None:
        """There are no more rows; there may have been none at all."""

    def discard(self) -> None:
        """The read failed: leaves nothing behind. May be called at any time, after `finish` it does nothing."""


class Preview:
    """Keeps the first and the last rows."""

    def __init__(self) -> None:
        self.head: list[dict[str, Any]] = []
        self.tail: list[dict[str, Any]] = []
        self.row_count = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes the next rows."""
        wanted = PREVIEW_ROWS - len(self.head)
        self.head += batch.slice(0, wanted).to_pylist() if wanted > 0 else []
        last = batch.slice(max(wanted, batch.num_rows - PREVIEW_ROWS, 0))
        self.tail = [*self.tail, *last.to_pylist()][-PREVIEW_ROWS:]
        self.row_count += batch.num_rows

    def finish(self, schema: pa.Schema) -> None:
        """There are no more rows."""

    def discard(self) -> None:
        """The read failed."""


class StdoutSink:
    """CSV to standard output, the heading once."""

    def __init__(self) -> None:
        self._writer: pyarrow.csv.CSVWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes the next rows."""
        self._open(batch.schema).write_batch(batch)

    def finish(self, schema: pa.Schema) -> None:
        """There are no more rows."""
        self._open(schema)
        self.discard()
        sys.stdout.flush()

    def discard(self) -> None:
        """The read failed; what was written cannot be taken back, the exit code tells."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, schema: pa.Schema) -> pyarrow.csv.CSVWriter:
        if self._writer is None:
            self._writer = pyarrow.csv.CSVWriter(pa.PythonFile(sys.stdout.buffer, mode="w"), schema)
        return self._writer


class FileSink:
    """A Parquet, CSV or Arrow file, by the suffix of its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # The same directory, as only there a rename is atomic. Created now, so that a wrong path is told early.
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        self._part: Path | None = Path(name)
        self._writer: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes the next rows."""
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        if self._waiting_rows >= _ROW_GROUP:
            self._flush(batch.schema)

    def finish(self, schema: pa.Schema) -> None:
        """There are no more rows: the file appears."""
        self._flush(schema)
        self._writer.close()
        self._writer = None
        assert self._part is not None
        self._part.chmod(0o666 & ~_umask())
        self._part.replace(self._path)
        self._part = None

    def discard(self) -> None:
        """The read failed: nothing is left."""
        if self._writer is not None:
            with suppress(OSError, pa.ArrowException):
                self._writer.close()
            self._writer = None
        if self._part is not None:
            self._part.unlink(missing_ok=True)
            self._part = None

    def _flush(self, schema: pa.Schema) -> None:
        if self._writer is None:
            self._writer = _WRITERS[self._path.suffix](str(self._part), schema)
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
        self._waiting, self._waiting_rows = [], 0


def _parquet(path: str, schema: pa.Schema) -> Any:
    return pq.ParquetWriter(path, schema, compression="zstd")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_WRITERS: Final[dict[str, Callable[[str, pa.Schema], Any]]] = {
    ".parquet": _parquet,
    ".csv": pyarrow.csv.CSVWriter,
    ".arrow": pa.ipc.new_file,
}
