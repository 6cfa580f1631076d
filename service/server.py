"""One server process: its settings, its ports, and how it starts and stops."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choline_data.errors import InvalidOptionError
from choline_data.places.home import Home
from choline_data.process.memory import keep_freed
from choline_data.process.pages import PAGES
from choline_data.service.limits import Limits

if TYPE_CHECKING:
    from choline_data.service.web import WebFace


# How many bytes of freed memory each arena of malloc keeps for reuse. With a small cache it is less.
KEPT_BYTES = 64 << 20
# memory in bytes that the process may use in addition to `memory`: code, libraries, messages that are being sent
BESIDE_BYTES = 300 << 20
TOUCHED_BYTES = 160 << 20  # for each row that is read, the system loads up to a megabyte of the file around it


# A request that is too long, but not longer than this, gets our own error, which names the limit. gRPC refuses longer requests.
REQUEST_BYTES = 2 << 20


SWITCH_SECONDS = 0.0005  # how many seconds a thread may hold the GIL while the event loop waits for it


@dataclass(frozen=True)
class Settings:
    """How a server listens. A port of None is off; 0 means any free port."""

    host: str = "127.0.0.1"
    port: int = 0
    workers: int = 1
    token_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    client_ca: str = ""
    insecure: bool = False
    metrics_port: int | None = None
    http_port: int | None = None
    reflection: bool = False
    as_json: bool = False
    audit: str = ""
    tokenizers: tuple[str, ...] = ()
    http_hosts: tuple[str, ...] = ()

    @property
    def unix(self) -> bool:
        """Whether the server listens on a Unix socket. The permissions of the socket file control who may connect."""
        return self.host.startswith("unix:")

    @property
    def beside(self) -> str:
        """The host on which the metrics port and the HTTP port listen."""
        return "127.0.0.1" if self.unix else self.host


class UnsafeError(InvalidOptionError):
    """The error for settings that are unsafe (open to others without TLS and tokens), contradict each other, or can't
    be applied.
    """

    exit_code = 2


def unix_path(host: str) -> str:
    """Returns the path in `unix:PATH` or `unix:///PATH`."""
    path = host.removeprefix("unix:")
    return "/" + path.lstrip("/") if path.startswith("//") else path


def _usage(what: str, option: str) -> InvalidOptionError:
    error = UnsafeError(what, option=option)
    return error


def parse_bytes(text: str | int) -> int:
    """Parses a size in bytes, such as 512MB, 2GiB or 1000000. Units are powers of 1024."""
    if isinstance(text, int):
        return text
    units = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
    plain = text.strip().lower().removesuffix("ib").removesuffix("b")
    unit = plain[-1:] if plain[-1:].isalpha() else ""
    try:
        return int(float(plain.removesuffix(unit)) * units[unit])
    except (KeyError, ValueError, OverflowError) as error:
        raise InvalidOptionError(
            f"--memory {text!r} is not a size.", remedy="For example 512MB or 2GB.", option="memory"
        ) from error


def channel_options(limits: Limits, *, shared_port: bool) -> list[tuple[str, int]]:
    """Returns the gRPC channel options: whether processes share the port, limits on sizes and streams, and checks for
    dead peers.
    """
    return [
        ("grpc.so_reuseport", int(shared_port)),
        ("grpc.max_receive_message_length", max(limits.recipe_bytes + limits.request_bytes, REQUEST_BYTES)),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 8 << 10),
        ("grpc.absolute_max_metadata_size", 16 << 10),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        ("grpc.keepalive_time_ms", 10_000),
        # A dead peer is noticed after at most 25 s (10 + 15). With a timeout of 5 s, readers on a busy machine were cut off.
        ("grpc.keepalive_timeout_ms", 15_000),
        ("grpc.http2.ping_timeout_ms", 15_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.max_connection_idle_ms", 60_000),
        ("grpc.server_handshake_timeout_ms", 20_000),
    ]


class Server:
    """One server process. `start` binds its ports; `stop` ends it."""

    def __init__(self, home: Home, settings: Settings, limits: Limits, *, shared_port: bool = False) -> None:
        import grpc

        from choline_data.service.calls import Calls
        from choline_data.service.certificates import Certificates
        from choline_data.service.firehose import Firehose
        from choline_data.service.flight import Flight

        self.settings = settings
        self.limits = limits
        self.calls = Calls(home, limits, settings.token_file, settings.audit, settings.tokenizers)
        self.certificates = (
            Certificates(settings.tls_cert, settings.tls_key, settings.client_ca) if settings.tls_cert else None
        )
        self._shared_port = shared_port
        self.server = grpc.aio.server(options=channel_options(limits, shared_port=shared_port))
        self.server.add_generic_rpc_handlers((Firehose(self.calls).handler(), Flight(self.calls).handler()))
        self._add_health()
        self._bound = False
        self.port = 0
        self.http_port: int | None = None
        self.metrics_port: int | None = None
        self._faces: list[WebFace] = []

    def _add_health(self) -> None:
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc

        from choline_data.service import firehose, flight

        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        self._serving = health_pb2.HealthCheckResponse.SERVING
        self._not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        self._names = ("", firehose.NAME, flight.NAME)
        if self.settings.reflection:
            from grpc_reflection.v1alpha import reflection

            from choline_data.v1 import firehose_pb2

            assert firehose_pb2.DESCRIPTOR is not None
            reflection.enable_server_reflection(
                (firehose.NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self.server
            )

    async def start(self) -> None:
        """Binds the ports and serves. If one of the ports can't be bound, no port stays open."""
        binding = [(self.settings.port, self._bind)]
        if self.settings.http_port is not None:
            binding.append((self.settings.http_port, self._bind_http))
        if self.settings.metrics_port is not None:
            binding.append((self.settings.metrics_port, self._bind_metrics))
        try:
            # Fixed ports come first, because a free port must not be one of them.
            for _, bind in sorted(binding, key=lambda its: its[0] == 0):
                await bind()
            for name in self._names:
                await self._health.set(name, self._serving)
            await self.server.start()
        except BaseException:
            await self.stop()
            raise

    async def _bind(self) -> None:
        settings = self.settings
        address = (
            f"unix:{unix_path(settings.host)}" if settings.unix else f"{in_brackets(settings.host)}:{settings.port}"
        )
        mask = os.umask(0o177) if settings.unix else None  # only this user may connect to the socket
        try:
            if self.certificates is not None:
                self.port = self.server.add_secure_port(address, self.certificates.for_grpc())
            else:
                self.port = self.server.add_insecure_port(address)
        except RuntimeError as error:
            raise _usage(f"The server can't listen on {address}: it is in use or not allowed.", "port") from error
        finally:
            if mask is not None:
                os.umask(mask)
        self._bound = True

    async def _bind_http(self) -> None:
        from choline_data.service.http import HttpFace

        self.http_port = await self._bind_face(HttpFace(self.calls, self.settings), self.settings.http_port)

    async def _bind_metrics(self) -> None:
        from choline_data.service.metrics import MetricsFace

        async def registry() -> Any:
            return self.calls.metrics.registry

        face = MetricsFace(registry, self.calls.gate, self.settings, self.limits)
        self.metrics_port = await self._bind_face(face, self.settings.metrics_port)

    async def _bind_face(self, face: WebFace, port: int | None) -> int:
        self._faces.append(face)
        tls = self.certificates.for_http() if self.certificates is not None else None
        return await face.start(self.settings.beside, port or 0, tls, shared_port=self._shared_port)

    def reload(self) -> None:
        """Reads the token file and the TLS files again, and reopens the audit log.

        The server also reads the token file and the TLS files by itself when they change.
        """
        self.calls.gate.reload()
        self.calls.audit.reopen()
        if self.certificates is not None:
            self.certificates.reload()

    async def stop(self) -> None:
        """Drains: reports NOT_SERVING at once, lets each stream send its end frame, then closes the ports."""
        loop = asyncio.get_running_loop()
        for name in self._names:
            await self._health.set(name, self._not_serving)
        self.calls.drain()
        until = loop.time() + self.limits.drain + 1
        while self.calls.open_streams and loop.time() < until:
            await asyncio.sleep(0.02)
        for face in self._faces:
            await face.stop()
        await self.server.stop(0.5)
        self.calls.engine.close()
        self.calls.claims.close()
        self.calls.audit.close()
        if self.settings.unix and self._bound:
            Path(unix_path(self.settings.host)).unlink(missing_ok=True)

    def ready_line(self) -> str:
        """Returns the line that the server prints when it is ready: its addresses."""
        return ready_line(self.settings, self.port, self.http_port, self.metrics_port)


def ready_line(settings: Settings, port: int, http_port: int | None, metrics_port: int | None) -> str:
    """Returns the line that a server prints when it is ready: its addresses, as text or JSON."""
    shown = in_brackets(settings.beside)
    at = {"address": f"unix:{unix_path(settings.host)}" if settings.unix else f"{shown}:{port}"}
    if http_port is not None:
        at["http"] = f"{shown}:{http_port}"
    if metrics_port is not None:
        at["metrics"] = f"{shown}:{metrics_port}"
    if settings.as_json:
        return json.dumps(at)
    return ", ".join([f"Serving on {at.pop('address')}", *(f"{name} on {address}" for name, address in at.items())])


def in_brackets(host: str) -> str:
    """Returns the host as it is written in `HOST:PORT`. An IPv6 address gets brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


async def serve_until_signal(
    home: Home,
    settings: Settings,
    limits: Limits,
    *,
    shared_port: bool = False,
    ready: Callable[[Server], None] = lambda server: None,
) -> int:
    """Serves until SIGTERM or SIGINT, then drains. SIGHUP calls `Server.reload`."""
    from choline_data.service.status import SHORTAGE

    keep_freed(min(KEPT_BYTES, limits.memory // 8))
    sys.setswitchinterval(SWITCH_SECONDS)
    server = Server(home, settings, limits, shared_port=shared_port)
    PAGES.bound(limits.memory + BESIDE_BYTES - TOUCHED_BYTES, limits.memory // 16)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(SHORTAGE.of_loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    await server.start()
    gc.collect()
    gc.freeze()  # The imported modules stay in memory, so the garbage collector skips them from now on.
    ready(server)
    print(server.ready_line(), flush=True)
    await stop.wait()
    await server.stop()
    return 0
