"""The methods of Arrow Flight's FlightService that read: what there is, what a read will give, the rows.

The same engine answers as behind HistoryService, by the same rules; see docs/flight.md. What writes or runs actions
is refused with UNIMPLEMENTED.
Never does: know which client asks, or keep anything between two calls.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc

from historyd.arrow.ipc import encoder_for
from historyd.coverage import State
from historyd.errors import InvalidField
from historyd.model.rows import SCHEMAS
from historyd.service import requests
from historyd.service.flight import commands
from historyd.service.flight.commands import Command
from historyd.service.flight.data import flight_data
from historyd.service.flight.messages import (
    PATH,
    SERVICE,
    Criteria,
    FlightDescriptor,
    FlightEndpoint,
    FlightInfo,
    SchemaResult,
    Ticket,
)
from historyd.service.interceptors import stream, unary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from historyd.engine.history import HistoryEngine
    from historyd.model.series import Kind
    from historyd.service.calls import Call, Calls
    from historyd.service.requests import Reading
    from historyd.stores.base import StoredSeries

    Context = grpc.aio.ServicerContext[Any, Any]

_UNKNOWN: Final = -1
"""What FlightInfo says of a number that is not known."""
_LISTED_AT_ONCE: Final = 1_000
_REFUSED: Final = ("Handshake", "PollFlightInfo", "DoPut", "DoExchange", "DoAction", "ListActions")
_READS_ONLY: Final = "historyd serves ListFlights, GetFlightInfo, GetSchema and DoGet, no writes, actions or SQL"


class FlightDoor:
    """Answers Flight's reading methods for one engine."""

    def __init__(self, engine: HistoryEngine) -> None:
        self._engine = engine

    async def list_flights(self, criteria: Any, write: Callable[[Any], Awaitable[None]], call: Call) -> None:
        """The series stored whose id matches the expression, a pattern as ListSeries has it."""
        try:
            pattern = requests.pattern(criteria.expression.decode())
        except UnicodeDecodeError:
            raise InvalidField("expression", criteria.expression, "must be UTF-8") from None
        call.subject, after = pattern, ""
        while found := await self._engine.list_series(pattern, after, _LISTED_AT_ONCE):
            for stored in found:
                await write(self._listed(stored))
            call.rows += len(found)
            after = str(found[-1].series)

    async def get_flight_info(self, descriptor: Any, call: Call) -> Any:
        """What a read will give, and the ticket for it."""
        command, reading = await self._settled(descriptor, call)
        return FlightInfo(
            schema=_schema(reading.request.series.kind, reading.columns),
            flight_descriptor=descriptor,
            endpoint=[FlightEndpoint(ticket=Ticket(ticket=command.ticket()))],
            total_records=await self._row_count(reading),
            total_bytes=_UNKNOWN,
            ordered=True,
        )

    async def get_schema(self, descriptor: Any, call: Call) -> Any:
        """The schema of a read."""
        _, reading = await self._settled(descriptor, call)
        return SchemaResult(schema=_schema(reading.request.series.kind, reading.columns))

    async def do_get(self, ticket: Any, write: Callable[[bytes], Awaitable[None]], call: Call) -> None:
        """The rows of a ticket, in messages that are serialised already."""
        command = commands.parse("ticket", ticket.ticket)
        call.subject = command.series
        reading = await self._reading(command, call)
        async with aclosing(self._engine.read(reading.request)) as events:
            async for message, row_count in flight_data(events, reading):
                await write(message)
                call.rows += row_count

    async def _settled(self, descriptor: Any, call: Call) -> tuple[Command, Reading]:
        command = commands.command_of(descriptor)
        call.subject = command.series
        reading = await self._reading(command, call)
        return command.settled(reading.request.window), reading

    async def _reading(self, command: Command, call: Call) -> Reading:
        """What a command asks for. Raises InvalidField if it begins where nothing is."""
        if command.from_the_beginning:
            series = str(requests.series_id(command.series))
            found = await self._engine.list_series(series, "", 1)
            if not found or found[0].covered is None:
                raise InvalidField("start", "nothing", f"must be given: nothing is stored of {series}")
            covered = found[0].covered
            whole = command.settled(covered)
            command = whole if command.end is None else whole.model_copy(update={"end": command.end})
        return command.reading(self._engine.now(), call.patience_s)

    async def _row_count(self, reading: Reading) -> int:
        """How many rows are there to be read, if that is known already."""
        asked = reading.request
        spans = await self._engine.coverage(asked.series, asked.window)
        if asked.ensure or asked.last:
            return _UNKNOWN
        return sum(span.row_count for span in spans if span.state is State.COVERED)

    def _listed(self, stored: StoredSeries) -> Any:
        """A stored series; without an endpoint if nothing of it is covered."""
        name = str(stored.series)
        command = Command(series=name)
        covered = stored.covered
        tickets = [] if covered is None else [Ticket(ticket=command.settled(covered).ticket())]
        return FlightInfo(
            schema=_schema(stored.series.kind, tuple(SCHEMAS[stored.series.kind].names)),
            flight_descriptor=FlightDescriptor(type=PATH, path=[name]),
            endpoint=[FlightEndpoint(ticket=ticket) for ticket in tickets],
            total_records=stored.row_count,
            total_bytes=stored.byte_count,
            ordered=True,
        )


def handlers(engine: HistoryEngine, calls: Calls) -> grpc.GenericRpcHandler:
    """The handlers of all of Flight's methods, for a `grpc.aio` server. What DoGet sends is serialised already."""
    door = FlightDoor(engine)
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ListFlights": grpc.unary_stream_rpc_method_handler(
            stream("ListFlights", door.list_flights, calls),
            request_deserializer=Criteria.FromString,
            response_serializer=FlightInfo.SerializeToString,
        ),
        "GetFlightInfo": grpc.unary_unary_rpc_method_handler(
            _no_other_sql(unary("GetFlightInfo", door.get_flight_info, calls)),
            request_deserializer=FlightDescriptor.FromString,
            response_serializer=FlightInfo.SerializeToString,
        ),
        "GetSchema": grpc.unary_unary_rpc_method_handler(
            _no_other_sql(unary("GetSchema", door.get_schema, calls)),
            request_deserializer=FlightDescriptor.FromString,
            response_serializer=SchemaResult.SerializeToString,
        ),
        "DoGet": grpc.unary_stream_rpc_method_handler(
            stream("DoGet", door.do_get, calls), request_deserializer=Ticket.FromString, response_serializer=None
        ),
    }
    # On the wire a stream is also one message, so one kind of handler serves methods of every kind.
    methods |= dict.fromkeys(_REFUSED, grpc.stream_stream_rpc_method_handler(_refuse))
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _no_other_sql(handle: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
    """A handler that refuses what asks for more of Flight SQL than a query: clients ask first what there is."""

    async def checked(descriptor: Any, context: Context) -> Any:
        if commands.is_foreign(descriptor):
            await _refuse(descriptor, context)
        return await handle(descriptor, context)

    return checked


def _schema(kind: Kind, columns: tuple[str, ...]) -> bytes:
    """A schema as an encapsulated IPC message."""
    return encoder_for(kind, columns).schema_message


async def _refuse(_: Any, context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, _READS_ONLY)
    raise AssertionError("abort has raised")
