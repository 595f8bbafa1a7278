"""Flight's descriptors and tickets <-> what is to be read.

A descriptor names a read in one of two ways: a path `[series]`, `[series, start]` or `[series, start, end]`, or a
command, a JSON object with the members of `Command`. A ticket is a command in which all is settled, so that it reads
the same range whenever it is used. A query of Flight SQL is a command too: its text is that JSON object.
Unlike ReadRange a read must be complete unless the command says that it need not: a stock Flight client shows its user
rows or an error, and would pass over a summary that says what is missing.
Promises: InvalidField names what is wrong. Never does: ask the engine, or read a clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from historyd.errors import InvalidField
from historyd.model.time_range import iso
from historyd.service import requests
from historyd.service.flight.messages import CMD, PATH, SQL_TYPES, CommandStatementQuery
from markethistory.convert import timestamp
from markethistory.v1 import history_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from historyd.model.time_range import TimeRange
    from historyd.service.requests import Reading

_MOST_PATH: Final = 3
_MOST_SHOWN: Final = 200
"""Bytes of a command that an error repeats."""
_CODECS: Final = {"lz4": pb.COMPRESSION_LZ4, "zstd": pb.COMPRESSION_ZSTD}


class Command(BaseModel):
    """A read as Flight clients ask for it, each member as the field of that name in ReadRangeRequest.

    Attributes:
        series: the series id.
        start: first instant of the range, ISO 8601 with an offset or a date (midnight UTC). Absent, if `last` is too:
            what is stored is read, from its beginning.
        end: first instant after the range. Absent: now, or with `start` and `last` absent the end of what is stored.
        last: the last so many rows before `end`; then `start` does not count.
        columns: columns to send; default all.
        ensure: fetch what is missing first.
        require_complete: fail if the range is not complete. Unlike in ReadRangeRequest the default is true.
        compression: of the batches, `lz4` or `zstd`; default none.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    series: str
    start: str | None = None
    end: str | None = None
    last: Annotated[int, Field(ge=0, le=requests.MAX_LAST)] = 0
    columns: tuple[str, ...] = ()
    ensure: bool = False
    require_complete: bool = True
    compression: Literal["lz4", "zstd"] | None = None

    @property
    def from_the_beginning(self) -> bool:
        """Whether it begins where what is stored begins."""
        return self.start is None and not self.last

    def settled(self, window: TimeRange) -> Command:
        """The same with its range said, so that it means the same rows at any time."""
        start = None if self.last else iso(window.start)
        return self.model_copy(update={"start": start, "end": iso(window.end)})

    def ticket(self) -> bytes:
        """The command as JSON."""
        return self.model_dump_json(exclude_defaults=True).encode()

    def reading(self, now: int, patience_s: float | None) -> Reading:
        """What it asks for, an absent end being now, for a caller who waits for so long. Raises InvalidField."""
        request = pb.ReadRangeRequest(
            series=self.series,
            last=self.last,
            columns=self.columns,
            ensure=self.ensure,
            require_complete=self.require_complete,
            compression=_CODECS[self.compression] if self.compression else pb.COMPRESSION_UNSPECIFIED,
        )
        request.range.SetInParent()
        for field, moment in (("start", self.start), ("end", self.end)):
            if moment is not None:
                getattr(request.range, field).CopyFrom(_stamp(field, moment))
        return requests.reading(request, now, patience_s)


def command_of(descriptor: Any) -> Command:
    """The command of a FlightDescriptor."""
    if descriptor.type == PATH:
        return _of_path(descriptor.path)
    if descriptor.type != CMD:
        raise InvalidField("type", descriptor.type, "must be PATH or CMD")
    packed = _sql_command(descriptor.cmd)
    return parse("cmd", descriptor.cmd if packed is None else _query_in(packed))


def is_foreign(descriptor: Any) -> bool:
    """Whether it holds a command of Flight SQL other than a query."""
    packed = _sql_command(descriptor.cmd)
    return packed is not None and not packed.Is(CommandStatementQuery.DESCRIPTOR)


def parse(field: str, text: bytes) -> Command:
    """The command that a JSON object tells. Raises InvalidField for the member that is wrong, or for `field`."""
    try:
        return Command.model_validate_json(text)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
    member = str(first["loc"][0]) if first["loc"] else ""
    if not member:
        raise InvalidField(field, _shown(text), 'must be a JSON object such as {"series": ..., "start": ...}')
    if first["type"] == "missing":
        raise InvalidField(member, "nothing", "must be given")
    if first["type"] == "extra_forbidden":
        raise InvalidField(field, member, f"must have no members but {', '.join(Command.model_fields)}")
    raise InvalidField(member, first["input"], first["msg"].replace("Input should be", "must be"))


def _of_path(path: Sequence[str]) -> Command:
    if not 1 <= len(path) <= _MOST_PATH:
        raise InvalidField("path", f"{len(path)} elements", "must be [series], [series, start] or [series, start, end]")
    series, start, end = (*path, None, None)[:_MOST_PATH]
    assert series is not None
    return Command(series=series, start=start, end=end)


def _sql_command(data: bytes) -> AnyMessage | None:
    """The command of Flight SQL in the bytes; None if there is none."""
    if SQL_TYPES.encode() not in data[: len(SQL_TYPES) + 4]:
        return None
    packed = AnyMessage()
    try:
        packed.ParseFromString(data)
    except DecodeError:
        return None
    return packed if packed.type_url.startswith(SQL_TYPES) else None


def _query_in(packed: AnyMessage) -> bytes:
    query = CommandStatementQuery()
    try:
        packed.Unpack(query)
    except DecodeError:
        raise InvalidField("cmd", _shown(packed.value), "must be a query that can be read") from None
    return bytes(query.query.encode())


def _stamp(field: str, moment: str) -> Timestamp:
    try:
        return timestamp(moment, field)
    except (ValueError, OverflowError):
        must = "must be a date or an ISO 8601 time with an offset, such as 2024-01-01T00:00:00Z"
        raise InvalidField(field, moment, must) from None


def _shown(text: bytes) -> str:
    return text[:_MOST_SHOWN].decode(errors="replace")
