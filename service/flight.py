"""The same streams over Arrow Flight, so that an unmodified Flight client in any language can read them.

A ticket is small JSON: {"recipe": {...} or "digest": "…", "start": 0, "stop": 1000, "columns": ["text"]}. A descriptor
is a command (a mix as text, or a recipe as JSON) or the path of one dataset. Each batch carries a cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import orjson
import pyarrow as pa

from choline_data.errors import InvalidOptionError
from choline_data.order.cursor import Cursor
from choline_data.order.recipe import parse_json
from choline_data.service import frames
from choline_data.service.auth import Principal
from choline_data.service.calls import Calls
from choline_data.service.engine import FLIGHT
from choline_data.service.guard import CutError, IncomingRequest, principal_of, send_answer, streaming, unary
from choline_data.service.lane_requests import WHOLE
from choline_data.service.open_stream import Reading
from choline_data.service.opened import Opened
from choline_data.streams import wire

NAME = "arrow.flight.protocol.FlightService"
PATH, COMMAND = 1, 2


class Flight:
    """The handlers of the Flight service."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._engine = calls.engine

    def handler(self) -> grpc.GenericRpcHandler:
        """Returns the handler to register with a gRPC server."""
        calls = self._calls
        methods = {
            "ListFlights": streaming(calls, self._list),
            "GetFlightInfo": unary(calls, self._info),
            "GetSchema": unary(calls, self._schema),
            "DoGet": streaming(calls, self._get),
        }
        return grpc.method_handlers_generic_handler(NAME, methods)

    def _open(self, principal: Principal, descriptor: bytes) -> Opened:
        """Opens the stream that a descriptor asks for."""
        kind, command, path = 0, b"", []
        for field, value in frames.parse_fields(descriptor):
            if field == 1 and isinstance(value, int):
                kind = value
            elif field == 2 and isinstance(value, bytes):
                command = value
            elif field == 3 and isinstance(value, bytes):
                path.append(value.decode("utf-8", "replace"))
        if kind == PATH and len(path) == 1:
            entry = self._calls.readable(principal, path[0])
            recipe = self._calls.resolved(principal, {entry.name: 1}, shuffle=False, repeat=False)
        elif kind == COMMAND and command.lstrip().startswith(b"{") and b'"sources"' in command:
            return self._calls.opened(principal, command, "", ())
        elif kind == COMMAND and command:
            recipe = self._calls.resolved(principal, command.decode("utf-8", "replace"), repeat=False)
        else:
            raise InvalidOptionError(
                "The descriptor is neither a command nor the path of one dataset.",
                remedy="Use FlightDescriptor.for_command(mix) or for_path(dataset).",
            )
        return self._engine.open(recipe)

    @staticmethod
    def _flight_info(opened: Opened, descriptor: bytes) -> bytes:
        """Returns the `FlightInfo` of a stream. Its only endpoint is this server."""
        length = opened.stream.length
        ticket = orjson.dumps({"recipe": orjson.loads(opened.stream.recipe.to_json()), "start": 0})
        endpoint = frames.submessage(1, frames.chunk(1, ticket))
        return (
            frames.chunk(1, opened.schema_bytes)
            + frames.submessage(2, descriptor)
            + frames.submessage(3, endpoint)
            + frames.number(4, -1 if length is None else length)
            + frames.number(5, -1 if length is None else int(length * opened.stream.mean_row_bytes()))
            + frames.number(6, 1)
            + frames.chunk(7, opened.digest)
        )

    async def _info(self, raw: bytes, principal: Principal) -> bytes:
        return await self._engine.opening(self._answer, principal, raw)

    def _answer(self, principal: Principal, descriptor: bytes) -> bytes:
        return self._flight_info(self._open(principal, descriptor), descriptor)

    async def _schema(self, raw: bytes, principal: Principal) -> bytes:
        opened = await self._engine.opening(self._open, principal, raw)
        return frames.chunk(1, opened.schema_bytes)

    async def _list(self, incoming: IncomingRequest, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        principal = principal_of(self._calls, context)
        async with incoming.received():
            pass  # The criteria of a Flight client have no meaning here.
        with self._calls.call(context.peer()):
            for entry in await self._engine.looking(self._calls.list_datasets, principal):
                if not principal.may("read", entry.name):
                    continue
                descriptor = frames.number(1, PATH) + frames.chunk(3, entry.name)
                answer = await self._engine.opening(self._answer, principal, descriptor)
                await send_answer(self._calls, context, answer)

    def _ticket(self, principal: Principal, raw: bytes) -> tuple[Opened, int, int | None]:
        ticket = next((value for field, value in frames.parse_fields(raw) if field == 1), b"")
        try:
            body = parse_json(ticket if isinstance(ticket, bytes) else b"")
            recipe = body.get("recipe")
            text = b"" if recipe is None else orjson.dumps(recipe, option=orjson.OPT_SORT_KEYS)
            columns, cursor = body.get("columns") or [], body.get("cursor") or ""
            start, stop = body.get("start") or 0, body.get("stop")
            digest = body.get("digest") or ""
        except (ValueError, AttributeError, TypeError) as error:
            raise InvalidOptionError("The ticket can't be read.", remedy="Take one from GetFlightInfo.") from error
        texts = isinstance(columns, list) and all(isinstance(c, str) for c in (*columns, digest, cursor))
        if not texts or type(start) is not int or not (stop is None or (type(stop) is int and stop >= start)):
            raise InvalidOptionError("The ticket has a field of the wrong type.", remedy="Take one from GetFlightInfo.")
        opened = self._calls.opened(principal, text, digest, columns)
        start = self._engine.start_of(opened.stream.recipe, opened.stream.length, cursor, start)
        return opened, start, stop

    async def _get(self, incoming: IncomingRequest, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        calls = self._calls
        principal = principal_of(calls, context)
        calls.enter(FLIGHT, principal)
        try:
            connection = calls.turns.connection(context.peer())  # kept until the stream ends
            await connection.opening()
            async with incoming.received() as ticket:
                opened, start, stop = await self._engine.opening(self._ticket, principal, ticket)
            del ticket
            reading = Reading(
                calls,
                opened,
                WHOLE,
                start,
                target=calls.limits.message_bytes,
                face=FLIGHT,
                stop=stop,
                recheck=lambda: principal_of(calls, context),
            )
            await self._serve(reading, opened, start, context)
        finally:
            calls.leave_stream(FLIGHT, principal)

    async def _serve(
        self, reading: Reading, opened: Opened, start: int, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        cursor = Cursor(opened.digest, start).encode()
        try:
            for message in preamble(opened.stream.schema, opened.stream.datasets):
                await reading.send(context.write, frames.flight_message(message) + frames.chunk(3, cursor))
            async for batch in reading.batches_in_order():
                if batch is not None:  # Flight has no heartbeat messages: clients use keepalive and their own deadline
                    await reading.send(context.write, batch.frame, rows=batch.rows)
            if reading.end_reason.name != "COMPLETE":
                from choline_data.errors import UnavailableError

                raise UnavailableError(
                    "The server ended the stream before its end.", remedy="Resume from the last cursor."
                )
        except Exception as error:
            raise CutError(error, reading.cursor) from error


def preamble(schema: pa.Schema, datasets: Sequence[str]) -> list[pa.Message]:
    """Returns the first messages of a Flight stream: the schema, then the dictionaries."""
    names = wire.dictionaries(datasets)
    codes = [pa.array([], f.type) for f in wire.schema_on_the_wire(schema)]
    empty = pa.record_batch(codes, schema=wire.schema_on_the_wire(schema))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(wire.with_dictionaries(empty, schema, names))
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(sink.getvalue()))
    out = []
    for message in reader:
        if message.type == "record batch":
            break
        out.append(message)
    return out
