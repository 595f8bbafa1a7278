"""The messages of Arrow Flight that the door reads and sends, and the service's description for reflection.

Flight is not ours to write a contract for, and Python has no package that brings its generated code, so the few
messages are described here, field by field as https://arrow.apache.org/docs/format/Flight.html has them. Of fields
that the door neither reads nor sends there is nothing: protobuf passes over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PACKAGE: Final = "arrow.flight.protocol"
SERVICE: Final = f"{PACKAGE}.FlightService"
"""The full name of the service."""
SQL_TYPES: Final = f"type.googleapis.com/{PACKAGE}.sql."
"""What the type of a Flight SQL command begins with, packed into a google.protobuf.Any."""

_SCALARS: Final = {
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "string": FieldDescriptorProto.TYPE_STRING,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "bool": FieldDescriptorProto.TYPE_BOOL,
}
# Name, number, type; `*` behind a type: repeated.
_MESSAGES: Final[Mapping[str, Sequence[tuple[str, int, str]]]] = {
    "Criteria": [("expression", 1, "bytes")],
    "FlightDescriptor": [("type", 1, "FlightDescriptor.DescriptorType"), ("cmd", 2, "bytes"), ("path", 3, "string*")],
    "Ticket": [("ticket", 1, "bytes")],
    "FlightEndpoint": [("ticket", 1, "Ticket")],
    "FlightInfo": [
        ("schema", 1, "bytes"),
        ("flight_descriptor", 2, "FlightDescriptor"),
        ("endpoint", 3, "FlightEndpoint*"),
        ("total_records", 4, "int64"),
        ("total_bytes", 5, "int64"),
        ("ordered", 6, "bool"),
    ],
    "SchemaResult": [("schema", 1, "bytes")],
    "FlightData": [
        ("flight_descriptor", 1, "FlightDescriptor"),
        ("data_header", 2, "bytes"),
        ("app_metadata", 3, "bytes"),
        ("data_body", 1000, "bytes"),
    ],
}
_DESCRIPTOR_TYPES: Final = ("UNKNOWN", "PATH", "CMD")
# Name, request, answer; `*`: a stream.
_METHODS: Final = (
    ("ListFlights", "Criteria", "FlightInfo*"),
    ("GetFlightInfo", "FlightDescriptor", "FlightInfo"),
    ("GetSchema", "FlightDescriptor", "SchemaResult"),
    ("DoGet", "Ticket", "FlightData*"),
)


def _flight_file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="arrow/flight/protocol/reads.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            _add_field(message, field, number, kind)
        if name == "FlightDescriptor":
            values = message.enum_type.add(name="DescriptorType").value
            for number, value in enumerate(_DESCRIPTOR_TYPES):
                values.add(name=value, number=number)
    service = file.service.add(name="FlightService")
    for method, asked, answer in _METHODS:
        answers = f".{PACKAGE}.{answer.removesuffix('*')}"
        service.method.add(
            name=method,
            input_type=f".{PACKAGE}.{asked}",
            output_type=answers,
            server_streaming=answer.endswith("*"),
        )
    return file


def _sql_file() -> FileDescriptorProto:
    """The one command of Flight SQL that the door knows: a query, whose text is a command of ours."""
    file = FileDescriptorProto(name="arrow/flight/protocol/sql/query.proto", package=f"{PACKAGE}.sql", syntax="proto3")
    _add_field(file.message_type.add(name="CommandStatementQuery"), "query", 1, "string")
    return file


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    plain = kind.removesuffix("*")
    label = FieldDescriptorProto.LABEL_REPEATED if kind.endswith("*") else FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if plain in _SCALARS:
        field.type = _SCALARS[plain]
        return
    is_enum = plain.endswith("DescriptorType")
    field.type = FieldDescriptorProto.TYPE_ENUM if is_enum else FieldDescriptorProto.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{plain}"


# The default pool, as reflection looks there.
_POOL: Final = descriptor_pool.Default()
for _file in (_flight_file(), _sql_file()):
    _POOL.AddSerializedFile(_file.SerializeToString())


def _class_of(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


Criteria: Final = _class_of("Criteria")
FlightDescriptor: Final = _class_of("FlightDescriptor")
FlightEndpoint: Final = _class_of("FlightEndpoint")
FlightInfo: Final = _class_of("FlightInfo")
FlightData: Final = _class_of("FlightData")
SchemaResult: Final = _class_of("SchemaResult")
Ticket: Final = _class_of("Ticket")
CommandStatementQuery: Final = _class_of("sql.CommandStatementQuery")
PATH: Final = _DESCRIPTOR_TYPES.index("PATH")
CMD: Final = _DESCRIPTOR_TYPES.index("CMD")
