"""The small HTTP/1.1 server behind two ports: the stream as lines of JSON, and the metrics.

It accepts only GET, one request per connection, without a body. It limits the number of connections, and the size of the
headers of a request and the time to send them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import orjson

from choline_data import errors
from choline_data.service import status
from choline_data.service.limits import Limits

HEADER_BYTES = 16 << 10
HEADER_SECONDS = 10.0

# For browsers: a page of another site must not be able to show or run an answer.
GUARDS = "x-content-type-options: nosniff\r\ncross-origin-resource-policy: same-origin\r\n"

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
    """A request that is refused with a status line. If there is a message, it is sent with its remedy as JSON."""

    def __init__(self, line: str, message: str = "", remedy: str = "") -> None:
        super().__init__(line)
        self.line = line
        error = errors.InvalidOptionError(message, remedy=remedy)
        self.body = body_of(error) if message else b""


class WebFace(ABC):
    """One port. A subclass answers its requests."""

    flag = "--http-port"

    def __init__(self, settings: Any, limits: Limits) -> None:
        self._settings = settings
        self._most = limits.http_connections
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._hosts: set[str] = set()

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None, *, shared_port: bool = False) -> int:
        """Binds and returns the port. With `shared_port`, several processes may listen on the same port."""
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
        """Closes the port and its open connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @abstractmethod
    async def answer(self, target: str, headers: dict[str, list[str]], writer: asyncio.StreamWriter) -> None:
        """Answers a request.

        ConnectionError means that the peer is gone, and TimeoutError that it does not read. Any other exception is a fault of
        the server.
        """

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
        except TimeoutError:  # the peer does not read the answer in time
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
            return await self.end_with(writer, error.line, error.body)
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
        self._check_site(headers)
        try:
            urlsplit(words[1])
        except ValueError as error:
            raise RefusedError("400 Bad Request") from error
        if not words[1].startswith("/"):
            raise RefusedError("400 Bad Request")
        return words[1], headers

    def _check_site(self, headers: dict[str, list[str]]) -> None:
        """Refuses requests that a web page of another site sends from a browser.

        This includes a site that lets its own domain name point to this server.
        """
        hosts = headers.get("host", [])
        try:
            name = urlsplit(f"//{hosts[0]}").hostname if len(hosts) == 1 else None
        except ValueError:
            name = None
        if not name:
            raise RefusedError(
                "400 Bad Request",
                "The request does not have exactly one host.",
                "Send one `Host` header, such as localhost.",
            )
        if not self._known(name.lower()):
            raise RefusedError(
                "421 Misdirected Request",
                f"The server does not know the name {name[:80]!r} as its own.",
                f"Ask for it by its address, or start it with --http-host {name[:80]}.",
            )
        sites = headers.get("sec-fetch-site", [])
        if "origin" in headers or any(site.lower() not in ("none", "same-origin") for site in sites):
            raise RefusedError(
                "403 Forbidden",
                "Pages of other sites can't read from here.",
                "Send the request from a program, not from a web page.",
            )

    def _known(self, name: str) -> bool:
        """Returns whether the server accepts this host name. A site can let its own name point here, but not an
        address.
        """
        settings = self._settings
        if name in self._hosts or name in settings.http_hosts:
            return True
        if not settings.tls_cert and not settings.insecure:
            return False
        # With TLS or tokens, the name needs no check: a page of another site has neither a certificate for it nor a token.
        if settings.tls_cert or settings.token_file:
            return True
        return _is_address(name) or name in (socket.gethostname().lower(), socket.gethostname().lower().split(".")[0])

    @staticmethod
    async def end_with(
        writer: asyncio.StreamWriter, line: str, body: bytes = b"", kind: str = "application/json"
    ) -> None:
        """Sends the whole answer: this status line and this body."""
        kind = kind if body else "text/plain"
        writer.write(
            f"HTTP/1.1 {line}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
            f"{GUARDS}\r\n".encode()
            + body
        )
        async with asyncio.timeout(HEADER_SECONDS):
            await writer.drain()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def code_of(error: errors.CholineDataError) -> str:
    """Returns the HTTP status line of an error."""
    return _CODES.get(status.code_of(error).name, "400 Bad Request")


def body_of(error: errors.CholineDataError) -> bytes:
    """Returns the error as one line of JSON."""
    return orjson.dumps({"error": {"reason": error.reason, "message": error.message, "remedy": error.remedy}}) + b"\n"


def in_use(host: str, port: int, flag: str) -> errors.InvalidOptionError:
    """Returns the error for a port that this process can't bind."""
    return errors.InvalidOptionError(
        f"The server can't listen on {host}:{port} ({flag}): the port is in use or not allowed.",
        remedy=f"Give {flag} another port, or 0 for a free one.",
        option=flag.strip("-").replace("-", "_"),
    )


def peer_of(writer: asyncio.StreamWriter) -> str:
    """Returns the address of the peer with an empty port, so that all connections from one address are counted together."""
    return str((writer.get_extra_info("peername") or ("",))[0]) + ":"


def common_names(certificate: Mapping[str, Any] | None) -> list[str]:
    """Returns the common names of a client certificate that the handshake has verified."""
    subject = (certificate or {}).get("subject", ())
    return [value for part in subject for key, value in part if key == "commonName"]
