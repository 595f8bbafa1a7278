"""Builds the golden cases: `python -m tests.clients.golden` writes cases.json and golden/ beside this file.

Owns what the cases say. Rows are plain Python values, framed with pyarrow and the generated classes alone, so that
neither server nor client has a hand in them. Promises: the same bytes each time, for one pyarrow.
"""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1.series_pb2 import TimeRange
from tests.clients.digest import rows_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from tests.clients.digest import Value

HERE: Final = Path(__file__).resolve().parent
MINUTE: Final = 60_000_000
START: Final = 1_704_067_200_000_000  # 2024-01-01T00:00:00Z
EOS: Final = bytes.fromhex("ffffffff00000000")
BARS: Final = pa.schema(
    [
        pa.field("ts", pa.timestamp("us", "UTC"), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("open", "high", "low", "close", "volume")),
    ]
)
TRADES: Final = pa.schema(
    [
        pa.field("ts", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("seq", pa.int32(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("price", pa.float64()),
        pa.field("amount", pa.float64()),
        pa.field("side", pa.string()),
    ]
)

Row = tuple["Value", ...]


@dataclass(frozen=True)
class Failure:
    """How a call ends other than well."""

    code: str
    message: str
    reason: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after_ms: int | None = None


@dataclass(frozen=True)
class Round:
    """One answer: messages, or bytes that are none, then an end.

    `resume_after` is the key (microseconds, seq) that it answers to.
    """

    messages: Sequence[Message | bytes] = ()
    resume_after: tuple[int, int] | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Case:
    """What a client calls, what it should give, and the answers it gets; `window` is in microseconds."""

    name: str
    rounds: Sequence[Round]
    rows: int = 0
    digest: str | None = None
    error: str | None = None
    call: str = "read"
    kind: str = "ohlcv"
    window: tuple[int | None, int | None] = (START, START + 10 * MINUTE)
    last: int | None = None
    columns: Sequence[str] | None = None
    compression: str = "none"

    @property
    def series(self) -> str:
        """Its name is in the symbol."""
        return f"{self.kind}:conformance:{self.name.upper()}/USD" + (":1m" if self.kind == "ohlcv" else "")


def span(start: int, end: int) -> TimeRange:
    """A range of the contract from microseconds."""
    window = TimeRange()
    window.start.FromMicroseconds(start)
    window.end.FromMicroseconds(end)
    return window


def key(row: Row, schema: pa.Schema) -> pb.RowKey:
    """The key of a row."""
    found = pb.RowKey(seq=row[1] if schema is TRADES else 0)  # type: ignore[arg-type] # a seq is an int
    found.ts.FromMicroseconds(row[0])  # type: ignore[arg-type] # a time is an int
    return found


def ipc(schema: pa.Schema, batches: Sequence[Sequence[Row]], compression: str = "none") -> list[bytes]:
    """The encapsulated messages of a stream: the schema, then one for each batch."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=None if compression == "none" else compression)
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for rows in batches:
            columns = [pa.array(column, schema.field(i).type) for i, column in enumerate(zip(*rows, strict=True))]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
    return [reader.read_next_message().serialize().to_pybytes() for _ in range(len(batches) + 1)]


@dataclass(frozen=True)
class Framing:
    """How rows become messages: each message holds some batches, each batch some rows."""

    window: tuple[int, int]
    schema: pa.Schema = BARS
    compression: str = "none"
    columns: Sequence[str] | None = None
    summary: bool = True
    head: bool = False  # the range comes in a first message of its own
    tail: bool = False  # the summary comes in a last message of its own

    @property
    def sent(self) -> pa.Schema:
        """The schema of the columns that are sent."""
        wanted = self.columns
        return self.schema if wanted is None else pa.schema([f for f in self.schema if f.name in ("ts", *wanted)])

    def frames(self, messages: Sequence[Sequence[Sequence[Row]]]) -> list[pb.ReadRangeResponse]:
        """The messages of one call; each of those given is a list of batches of whole rows."""
        cut = [[[self._cut(row) for row in batch] for batch in message] for message in messages]
        encoded = ipc(self.sent, [batch for message in cut for batch in message], self.compression)
        schema, rest = encoded[0], iter(encoded[1:])
        found = [pb.ReadRangeResponse() for _ in range(1 if self.head else 0)]
        for batches in messages:
            rows = [row for batch in batches for row in batch]
            data = b"".join(next(rest) for _ in batches)
            found.append(pb.ReadRangeResponse(row_count=len(rows), last_key=key(rows[-1], self.schema), arrow_ipc=data))
        if self.tail or not messages:
            found.append(pb.ReadRangeResponse())
        self._ends(found, schema, sum(len(batch) for message in messages for batch in message))
        return found

    def _ends(self, found: list[pb.ReadRangeResponse], schema: bytes, row_count: int) -> None:
        found[0].range.CopyFrom(span(*self.window))
        first = found[1 if self.head else 0]
        first.arrow_ipc = schema + first.arrow_ipc
        if self.summary:
            found[-1].arrow_ipc += EOS
            found[-1].summary.CopyFrom(pb.ReadSummary(row_count=row_count, complete=True))
            found[-1].summary.closed_through.FromMicroseconds(self.window[1])

    def _cut(self, row: Row) -> Row:
        return tuple(value for name, value in zip(self.schema.names, row, strict=True) if name in self.sent.names)

    def digest(self, rows: Sequence[Row]) -> str:
        """The digest of whole rows, cut to the columns that are sent."""
        return rows_digest([str(f.type) for f in self.sent], map(self._cut, rows))


def documents(cases: Sequence[Case]) -> tuple[str, dict[str, bytes]]:
    """The text of cases.json, and what each file of golden/ holds when it is unzipped."""
    listed, files = [], {}
    for case in cases:
        rounds = []
        for number, answer in enumerate(case.rounds):
            name = f"{case.name}-{number}.frames.gz"
            files[name] = b"".join(map(_prefixed, answer.messages))
            rounds.append(_round(answer, name))
        listed.append(_document(case, rounds))
    text = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in listed)
    return f"[\n{text}\n]\n", files


def _prefixed(message: Message | bytes) -> bytes:
    data = message if isinstance(message, bytes) else message.SerializeToString(deterministic=True)
    return struct.pack("<I", len(data)) + data


def _round(answer: Round, name: str) -> dict[str, Any]:
    after = answer.resume_after
    failure = None if answer.failure is None else vars(answer.failure)
    return {"resume_after": after and {"ts_us": after[0], "seq": after[1]}, "frames": name, "failure": failure}


def _document(case: Case, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    start, end = (None if us is None else span(us, us).start.ToJsonString() for us in case.window)
    return {
        "name": case.name,
        "series": case.series,
        "call": case.call,
        "start": start,
        "end": end,
        "last": case.last,
        "columns": None if case.columns is None else list(case.columns),
        "compression": case.compression,
        "expect": {"rows": case.rows, "digest": case.digest, "error": case.error},
        "rounds": rounds,
    }


def write() -> None:
    """Writes all files, and removes those that no case has any more."""
    from tests.clients.golden_cases import CASES  # it is built of what is here

    text, files = documents(CASES)
    (HERE / "cases.json").write_text(text, encoding="utf-8")
    folder = HERE / "golden"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    write()
