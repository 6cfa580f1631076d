"""`GET /v1/stream?mix=…&n=…`: the stream as lines of JSON over plain HTTP, for curl. The same auth, limits and turns.

A small HTTP/1.1 of our own: GET only, one request a connection, no bodies, headers bounded in bytes and in time.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pyarrow as pa

from choline_data import errors, wire
from choline_data.service import status
from choline_data.service.audit import CURRENT, Asked
from choline_data.service.auth import Principal
from choline_data.service.calls import Calls
from choline_data.service.engine import Deal, Opened
from choline_data.service.guard import of_request
from choline_data.service.limits import reached
from choline_data.service.reading import Reading

HEADER_BYTES = 16 << 10
HEADER_SECONDS = 10.0
FACE = "http"
_CODES = {
    "NOT_FOUND": "404 Not Found",
    "UNAUTHENTICATED": "401 Unauthorized",
    "PERMISSION_DENIED": "403 Forbidden",
    "RESOURCE_EXHAUSTED": "429 Too Many Requests",
    "UNAVAILABLE": "503 Service Unavailable",
    "INTERNAL": "500 Internal Server Error",
    "DATA_LOSS": "500 Internal Server Error",
}


class _RefusedError(Exception):
    """A request that is answered with a status line only."""


def one_of(query: dict[str, list[str]], name: str, default: str = "") -> str:
    """A parameter that may stand once."""
    values = query.pop(name, [default])
    if len(values) > 1:
        raise errors.InvalidOptionError(f"{name} stands more than once.", option=name)
    return values[0]


def whole(query: dict[str, list[str]], name: str) -> int:
    """A parameter that is a number, 0 or above."""
    text = one_of(query, name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise errors.InvalidOptionError(f"{name} is a whole number, 0 or above.", option=name)
    return int(text)


class HttpFace:
    """The HTTP port of a server."""

    def __init__(self, calls: Calls, settings: Any) -> None:
        self._calls = calls
        self._settings = settings
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._hosts: set[str] = set()

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Binds; the port that it got."""
        try:
            self._server = await asyncio.start_server(
                self._accept, host.strip("[]"), port, ssl=tls, limit=HEADER_BYTES, backlog=128
            )
        except OSError as error:
            raise errors.InvalidOptionError(
                f"The server can't listen on HTTP port {port}: it is in use or not allowed.",
                option="http_port",
            ) from error
        self._hosts = {host.strip("[]").lower(), "localhost", "127.0.0.1", "::1"}
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Closes the port and what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEADER_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            target, headers = self._request(head)
        except (TimeoutError, asyncio.IncompleteReadError):
            return
        except asyncio.LimitOverrunError:
            return await self._refuse(writer, "431 Request Header Fields Too Large")
        except _RefusedError as error:
            return await self._refuse(writer, str(error))
        try:
            await self._stream(target, headers, writer)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge: becomes a status, its text stays here
            told = status.public(error)
            body = orjson.dumps({"error": {"reason": told.reason, "message": told.message, "remedy": told.remedy}})
            self._calls.metrics.refused.labels(told.reason).inc()
            self._recorded(told)
            await self._refuse(writer, _CODES.get(status.code_of(told).name, "400 Bad Request"), body + b"\n")

    def _request(self, head: bytes) -> tuple[str, dict[str, list[str]]]:
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise _RefusedError("400 Bad Request")
        if words[0] != "GET":
            raise _RefusedError("405 Method Not Allowed")
        headers: dict[str, list[str]] = {}
        for line in lines[1:]:
            if line:
                name, colon, value = line.partition(":")
                if not colon or name != name.strip() or not name:
                    raise _RefusedError("400 Bad Request")
                headers.setdefault(name.lower(), []).append(value.strip())
        if "transfer-encoding" in headers or headers.get("content-length", ["0"]) != ["0"]:
            raise _RefusedError("400 Bad Request")
        self._check_host(headers)
        if not words[1].startswith("/"):
            raise _RefusedError("400 Bad Request")
        return words[1], headers

    def _check_host(self, headers: dict[str, list[str]]) -> None:
        """Refuses what a page in a browser could send by a name of its own that points here."""
        hosts = headers.get("host", [])
        name = urlsplit(f"//{hosts[0]}").hostname if len(hosts) == 1 else None
        exposed = self._settings.tls_cert or self._settings.insecure  # then it is reached by names we do not know
        if name is None or (not exposed and name.lower() not in self._hosts):
            raise _RefusedError("421 Misdirected Request")
        if "origin" in headers:
            raise _RefusedError("403 Forbidden")

    @staticmethod
    async def _refuse(writer: asyncio.StreamWriter, line: str, body: bytes = b"") -> None:
        kind = "application/json" if body else "text/plain"
        writer.write(
            f"HTTP/1.1 {line}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
            "x-content-type-options: nosniff\r\n\r\n".encode()
            + body
        )
        async with asyncio.timeout(HEADER_SECONDS):
            await writer.drain()

    async def _stream(self, target: str, headers: dict[str, list[str]], writer: asyncio.StreamWriter) -> None:
        calls = self._calls
        url = urlsplit(target)
        if url.path != "/v1/stream":
            return await self._refuse(writer, "404 Not Found")
        peer = str((writer.get_extra_info("peername") or ("",))[0]) + ":"
        authorizations = headers.get("authorization", [])
        names = common_names(writer.get_extra_info("peercert"))

        def admitted() -> Principal:
            return of_request(calls.gate.admit(authorizations, names, peer))

        CURRENT.set(Asked("Http.stream", peer))
        principal = admitted()
        query = parse_qs(url.query, keep_blank_values=True, max_num_fields=32)
        mix, view = one_of(query, "mix"), one_of(query, "view", "samples")
        count, start, seed = whole(query, "n"), whole(query, "start"), whole(query, "seed")
        where = one_of(query, "where")
        if query:
            raise errors.InvalidOptionError(
                f"There is no parameter {next(iter(query))[:40]!r}.",
                remedy="mix, n, view, start, seed, where.",
            )
        if calls.metrics.streams.labels(FACE)._value.get() >= calls.limits.http_streams:
            raise reached("http_streams", calls.limits.http_streams, "The server has no HTTP stream left.")
        calls.entered(FACE, principal)
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
                Deal(),
                position,
                target=64 << 10,
                most=count,
                face=FACE,
                recheck=admitted,
            )
            await self._send(reading, stream, writer)
        except (ConnectionError, asyncio.CancelledError):
            self._recorded("cancelled")
            raise
        finally:
            calls.left(FACE, principal)

    def _recorded(self, outcome: str | errors.CholineDataError) -> None:
        """Tells the audit log what the request came to."""
        asked = CURRENT.get()
        if asked is None:
            return
        if isinstance(outcome, str):
            self._calls.audit.ended(asked, outcome)
        else:
            self._calls.audit.refused(asked, outcome)

    async def _send(self, reading: Reading, opened: Opened, writer: asyncio.StreamWriter) -> None:
        """The samples as chunks; a stream that is cut has no last chunk, and a line with its cursor before."""

        async def write(chunk: bytes) -> None:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()

        writer.transport.set_write_buffer_limits(high=128 << 10)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n"
            b"x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        try:
            async for message in reading.batches_in_order():
                if message is not None:
                    text = await asyncio.to_thread(lines, opened, memoryview(message.frame)[slice(*message.body)])
                    await reading.send(write, text, rows=message.rows)
            if reading.ended.name != "COMPLETE":
                raise errors.UnavailableError("The server ended the stream before its end.", remedy="Go on from start.")
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            self._recorded("ended")
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - the edge: the status is sent already, so the error is a line
            told = status.public(error)
            self._recorded(told)
            if not isinstance(error, errors.LimitError):
                last = {"error": {"reason": told.reason, "message": told.message, "cursor": reading.cursor}}
                await write(orjson.dumps(last) + b"\n")


def common_names(certificate: Mapping[str, Any] | None) -> list[str]:
    """The common names of a client certificate that the handshake has verified."""
    subject = (certificate or {}).get("subject", ())
    return [value for part in subject for key, value in part if key == "commonName"]


def plain(value: Any) -> Any:
    """A value as JSON has it: bytes as base64 but ids, which are hexadecimal."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def lines(opened: Opened, encoded: memoryview) -> bytes:
    """The rows of an encoded batch, one JSON object a line."""
    stream = opened.stream
    batch = wire.decode(pa.py_buffer(encoded), stream.wire_schema)
    whole_batch = wire.with_dictionaries(batch, stream.schema, wire.dictionaries(stream.datasets))
    return b"".join(row_lines(whole_batch))


def row_lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    """One line a row, nulls left out; a loop over rows because JSON has no columns."""
    for row in batch.to_pylist():
        if "id" in row:
            row["id"] = row["id"].hex()
        yield (
            orjson.dumps({key: plain(value) for key, value in row.items() if value is not None}, default=str) + b"\n"
        )
