"""What the ports for HTTP/1.1 have in common: the stream as lines of JSON, and the metrics.

A small server of our own: GET only, one request a connection, no bodies. Its connections are bounded in number, and the
headers of a request in bytes and in time.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from choline_data import errors
from choline_data.service import status
from choline_data.service.limits import Limits

HEADER_BYTES = 16 << 10
HEADER_SECONDS = 10.0

_CODES = {
    "NOT_FOUND": "404 Not Found",
    "UNAUTHENTICATED": "401 Unauthorized",
    "PERMISSION_DENIED": "403 Forbidden",
    "RESOURCE_EXHAUSTED": "429 Too Many Requests",
    "UNAVAILABLE": "503 Service Unavailable",
    "INTERNAL": "500 Internal Server Error",
    "DATA_LOSS": "500 Internal Server Error",
}


class RefusedError(Exception):
    """A request that is answered with a status line only."""


class WebFace:
    """One port. A subclass answers its requests."""

    flag = "--http-port"

    def __init__(self, settings: Any, limits: Limits) -> None:
        self._settings = settings
        self._most = limits.http_connections
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._hosts: set[str] = set()

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None, *, shared_port: bool = False) -> int:
        """Binds; the port that it got. Several processes may share a port that is held for them."""
        try:
            self._server = await asyncio.start_server(
                self._accept,
                host.strip("[]"),
                port,
                ssl=tls,
                limit=HEADER_BYTES,
                backlog=128,
                reuse_port=shared_port or None,
                ssl_handshake_timeout=HEADER_SECONDS if tls else None,
            )
        except OSError as error:
            raise in_use(host, port, self.flag) from error
        self._hosts = {host.strip("[]").lower(), "localhost", "127.0.0.1", "::1"}
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Closes the port and what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def answer(self, target: str, headers: dict[str, list[str]], writer: asyncio.StreamWriter) -> None:
        """Answers a request. An exception, other than that the peer is gone, is a fault of the server."""
        raise NotImplementedError

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= self._most:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            await self._request(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except TimeoutError:  # the peer does not read what it is sent
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEADER_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            target, headers = self._parsed(head)
        except (TimeoutError, asyncio.IncompleteReadError):
            return
        except asyncio.LimitOverrunError:
            return await self.end_with(writer, "431 Request Header Fields Too Large")
        except RefusedError as error:
            return await self.end_with(writer, str(error))
        await self.answer(target, headers, writer)

    def _parsed(self, head: bytes) -> tuple[str, dict[str, list[str]]]:
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise RefusedError("400 Bad Request")
        if words[0] != "GET":
            raise RefusedError("405 Method Not Allowed")
        headers: dict[str, list[str]] = {}
        for line in lines[1:]:
            if line:
                name, colon, value = line.partition(":")
                if not colon or name != name.strip() or not name:
                    raise RefusedError("400 Bad Request")
                headers.setdefault(name.lower(), []).append(value.strip())
        if "transfer-encoding" in headers or headers.get("content-length", ["0"]) != ["0"]:
            raise RefusedError("400 Bad Request")
        self._check_host(headers)
        if not words[1].startswith("/"):
            raise RefusedError("400 Bad Request")
        return words[1], headers

    def _check_host(self, headers: dict[str, list[str]]) -> None:
        """Refuses what a page in a browser could send by a name of its own that points here."""
        hosts = headers.get("host", [])
        name = urlsplit(f"//{hosts[0]}").hostname if len(hosts) == 1 else None
        exposed = self._settings.tls_cert or self._settings.insecure  # then it is reached by names we do not know
        if name is None or (not exposed and name.lower() not in self._hosts):
            raise RefusedError("421 Misdirected Request")
        if "origin" in headers:
            raise RefusedError("403 Forbidden")

    @staticmethod
    async def end_with(
        writer: asyncio.StreamWriter, line: str, body: bytes = b"", kind: str = "application/json"
    ) -> None:
        """Answers with this status line and body, and nothing follows."""
        kind = kind if body else "text/plain"
        writer.write(
            f"HTTP/1.1 {line}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
            "x-content-type-options: nosniff\r\n\r\n".encode()
            + body
        )
        async with asyncio.timeout(HEADER_SECONDS):
            await writer.drain()


def code_of(error: errors.CholineDataError) -> str:
    """The status line of an error."""
    return _CODES.get(status.code_of(error).name, "400 Bad Request")


def body_of(error: errors.CholineDataError) -> bytes:
    """The error as one line of JSON."""
    return orjson.dumps({"error": {"reason": error.reason, "message": error.message, "remedy": error.remedy}}) + b"\n"


def in_use(host: str, port: int, flag: str) -> errors.InvalidOptionError:
    """The refusal of a port that this process can't have."""
    return errors.InvalidOptionError(
        f"The server can't listen on {host}:{port} ({flag}): the port is in use or not allowed.",
        remedy=f"Give {flag} another port, or 0 for a free one.",
        option=flag.strip("-").replace("-", "_"),
    )


def peer_of(writer: asyncio.StreamWriter) -> str:
    """The address of the peer, with an empty port: those of one address count together."""
    return str((writer.get_extra_info("peername") or ("",))[0]) + ":"


def common_names(certificate: Mapping[str, Any] | None) -> list[str]:
    """The common names of a client certificate that the handshake has verified."""
    subject = (certificate or {}).get("subject", ())
    return [value for part in subject for key, value in part if key == "commonName"]
