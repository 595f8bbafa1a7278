"""Several series in one file, or on standard output: each row with the series that it is of.

Promises: series stand in the order asked for, each as a whole or not at all, however many are read at once; memory is
bounded by a batch; nothing is left of the parts. Rows are kept in a folder of their own until their series is whole.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from markethistory.cli.running import WrongUsage
from markethistory.cli.sinks import FileSink, StdoutSink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from markethistory.cli.sinks import Sink

_SERIES = pa.field("series", pa.string(), nullable=False)


class Joined:
    """One target of several series; `path` None is standard output. A context manager.

    Raises WrongUsage if the series have not all the same columns.
    """

    def __init__(self, series: Sequence[str], path: Path | None) -> None:
        if len({name.partition(":")[0] for name in series}) > 1:
            raise WrongUsage("bars and trades have different columns: put {series} into -o for a file each")
        self._series = series
        self._path = path

    def __enter__(self) -> Self:
        near = self._path.parent if self._path is not None else None
        self._folder = tempfile.TemporaryDirectory(prefix=".markethistory.", dir=near)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def part(self, series: str) -> Sink:
        """Takes the rows of one series."""
        return FileSink(self._part(series))

    def write(self) -> None:
        """Writes all series whose parts were finished; nothing if there are none."""
        parts = [(name, part) for name in self._series if (part := self._part(name)).exists()]
        if not parts:
            return
        sink: Sink = StdoutSink() if self._path is None else FileSink(self._path)
        try:
            for name, part in parts:
                with pa.memory_map(str(part)) as source, pa.ipc.open_file(source) as reader:
                    schema = reader.schema.insert(0, _SERIES).remove_metadata()
                    for number in range(reader.num_record_batches):
                        sink.write(_named(reader.get_batch(number), name, schema))
            sink.finish(schema)
        finally:
            sink.discard()

    def _part(self, series: str) -> Path:
        return Path(self._folder.name) / f"{self._series.index(series)}.arrow"


def _named(batch: pa.RecordBatch, series: str, schema: pa.Schema) -> pa.RecordBatch:
    names = pa.repeat(pa.scalar(series, pa.string()), batch.num_rows)
    return pa.RecordBatch.from_arrays([names, *batch.columns], schema=schema)
