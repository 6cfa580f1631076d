"""`GET /v1/stream?mix=…&n=…`: the stream as lines of JSON over plain HTTP, for curl. Auth, limits and turns are those of gRPC."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pyarrow as pa

from choline_data import errors
from choline_data.service.audit import CURRENT, RequestRecord
from choline_data.service.auth import Principal
from choline_data.service.calls import Calls
from choline_data.service.guard import error_for, of_request
from choline_data.service.lane_requests import WHOLE
from choline_data.service.limits import limit_error
from choline_data.service.open_stream import Reading
from choline_data.service.opened import Opened
from choline_data.service.peers import is_near
from choline_data.service.web import GUARDS, WebFace, body_of, code_of, common_names, peer_of
from choline_data.streams import wire

FACE = "http"


def one_of(query: dict[str, list[str]], name: str, default: str = "") -> str:
    """Returns a parameter that may occur only once."""
    values = query.pop(name, [default])
    if len(values) > 1:
        raise errors.InvalidOptionError(
            f"{name} is in the request more than once.", remedy="Give it once.", option=name
        )
    return values[0]


def whole(query: dict[str, list[str]], name: str) -> int:
    """Returns a parameter that must be a whole number, 0 or above."""
    text = one_of(query, name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise errors.InvalidOptionError(f"{name} is not valid.", remedy="Give a whole number, 0 or above.", option=name)
    return int(text)


def parameters(text: str) -> dict[str, list[str]]:
    """Returns the parameters of a request, at most 32."""
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=32)
    except ValueError as error:
        raise errors.InvalidOptionError(
            "The request has more than 32 parameters.", remedy="Parameters: mix, n, view, start, seed, where."
        ) from error


class HttpFace(WebFace):
    """The HTTP port of a server."""

    def __init__(self, calls: Calls, settings: Any) -> None:
        super().__init__(settings, calls.limits)
        self._calls = calls

    async def answer(self, target: str, headers: dict[str, list[str]], writer: asyncio.StreamWriter) -> None:
        """Answers a request: with a stream, or with an error."""
        try:
            await self._stream(target, headers, writer)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge: becomes a status, its text stays here
            public_error = error_for(self._calls, error, near=is_near(peer_of(writer), headers))
            self._calls.metrics.refusals.labels(public_error.reason).inc()
            self._record(public_error)
            await self.end_with(writer, code_of(public_error), body_of(public_error))

    async def _stream(self, target: str, headers: dict[str, list[str]], writer: asyncio.StreamWriter) -> None:
        calls = self._calls
        url = urlsplit(target)
        if url.path != "/v1/stream":
            return await self.end_with(writer, "404 Not Found")
        peer = peer_of(writer)
        authorizations = headers.get("authorization", [])
        names = common_names(writer.get_extra_info("peercert"))

        def admitted() -> Principal:
            return of_request(calls.gate.admit(authorizations, names, peer))

        CURRENT.set(RequestRecord("Http.stream", peer))
        principal = admitted()
        query = parameters(url.query)
        mix, view = one_of(query, "mix"), one_of(query, "view", "samples")
        count, start, seed = whole(query, "n"), whole(query, "start"), whole(query, "seed")
        where = one_of(query, "where")
        if query:
            raise errors.InvalidOptionError(
                f"There is no parameter {next(iter(query))[:40]!r}.",
                remedy="Parameters: mix, n, view, start, seed, where.",
            )
        if calls.metrics.streams.labels(FACE)._value.get() >= calls.limits.http_streams:
            raise limit_error(
                "http_streams", calls.limits.http_streams, "The server has reached its limit of HTTP streams."
            )
        calls.enter(FACE, principal)
        try:

            def opened() -> Opened:
                recipe = calls.resolved(principal, mix, view=view, seed=seed, where=where, repeat=False)
                return calls.engine.open(recipe)

            stream = await calls.engine.opening(opened)
            calls.grant(principal)
            position = calls.engine.start_of(stream.stream.recipe, stream.stream.length, "", start)
            reading = Reading(
                calls,
                stream,
                WHOLE,
                position,
                target=64 << 10,
                most=count,
                face=FACE,
                recheck=admitted,
            )
            await self._send(reading, stream, writer)
        except (ConnectionError, asyncio.CancelledError):
            self._record("cancelled")
            raise
        finally:
            calls.leave_stream(FACE, principal)

    def _record(self, outcome: str | errors.CholineDataError) -> None:
        """Context manager: records the outcome of the request in the audit log."""
        request_in_progress = CURRENT.get()
        if request_in_progress is None:
            return
        if isinstance(outcome, str):
            self._calls.audit.record_end(request_in_progress, outcome)
        else:
            self._calls.audit.record_refusal(request_in_progress, outcome)

    async def _send(self, reading: Reading, opened: Opened, writer: asyncio.StreamWriter) -> None:
        """Sends the samples as HTTP chunks. A stream that is cut has no final chunk, and its last line has the cursor. After a
        LimitError or a RequestTooLargeError there is no such line, because a request from that cursor would fail again.
        """

        async def write(chunk: bytes) -> None:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()

        writer.transport.set_write_buffer_limits(high=128 << 10)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n"
            + GUARDS.encode()
            + b"connection: close\r\n\r\n"
        )
        try:
            engine = self._calls.engine
            async for message in reading.batches_in_order():
                if message is not None:
                    text = await engine.aside(lines, opened, memoryview(message.frame)[slice(*message.body)])
                    await reading.send(write, text, rows=message.rows)
            if reading.end_reason.name != "COMPLETE":
                raise errors.UnavailableError(
                    "The server ended the stream before its end.", remedy="Continue from position start."
                )
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            self._record("ended")
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - the edge: the status is sent already, so the error is a line
            public_error = error_for(self._calls, error, near=False)
            self._record(public_error)
            if not isinstance(error, errors.LimitError | errors.RequestTooLargeError):
                last = {
                    "error": {"reason": public_error.reason, "message": public_error.message, "cursor": reading.cursor}
                }
                await write(orjson.dumps(last) + b"\n")


def plain(value: Any) -> Any:
    """Converts a value to the types of JSON: bytes become base64. Ids are hexadecimal already (`row_lines`)."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def lines(opened: Opened, encoded: memoryview) -> bytes:
    """Returns the rows of an encoded batch, one JSON object per line."""
    stream = opened.stream
    batch = wire.Decoder(stream.wire_schema).decode(encoded)
    wire.check_texts(batch.columns)
    whole_batch = wire.with_dictionaries(batch, stream.schema, wire.dictionaries(stream.datasets))
    return b"".join(row_lines(whole_batch))


def row_lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    """Yields one line per row, without null values. It loops over rows because JSON has no columns."""
    for row in batch.to_pylist():
        if "id" in row:
            row["id"] = row["id"].hex()
        yield (
            orjson.dumps({key: plain(value) for key, value in row.items() if value is not None}, default=str) + b"\n"
        )
