"""Checks the settings of a server and starts it. `choline-data serve` calls `run`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address

from choline_data.errors import CholineDataError, InvalidOptionError
from choline_data.places.home import Home
from choline_data.service.limits import Limits
from choline_data.service.server import Settings, UnsafeError, _usage, parse_bytes, serve_until_signal, unix_path

SOCKET_BYTES = 100  # The system limits the path of a socket: 107 bytes on Linux, 103 on macOS.


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check(settings: Settings) -> None:
    """Raises InvalidOptionError for settings that are unsafe or contradict each other. Runs before any port is bound."""
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise _usage("--tls-cert and --tls-key must be set together.", "tls_cert")
    if settings.client_ca and not settings.tls_cert:
        raise _usage("--client-ca needs --tls-cert and --tls-key.", "client_ca")
    if settings.unix:
        _check_unix(settings)
    _check_ports(settings)
    if settings.insecure or settings.unix or is_loopback(settings.host):
        return
    if not (settings.tls_cert and settings.token_file):
        raise UnsafeError(
            f"The server would be open to others: {settings.host} can be reached from other machines.",
            remedy="Set --tls-cert, --tls-key and --token-file, or --insecure.",
            option="host",
        )


def _check_ports(settings: Settings) -> None:
    """Refuses port numbers that are out of range, and one number for two ports."""
    stated = {"--port": 0 if settings.unix else settings.port}
    stated |= {"--http-port": settings.http_port or 0, "--metrics-port": settings.metrics_port or 0}
    for flag, port in stated.items():
        if not 0 <= port < 1 << 16:
            raise _usage(f"{flag} {port} is not a port. Ports are 1 to 65535; 0 takes a free one.", flag[2:])
        others = [other for other, other_port in stated.items() if port and other_port == port and other != flag]
        if others:
            raise _usage(f"{flag} and {others[0]} are both {port}: they need different ports.", flag[2:])


def _check_unix(settings: Settings) -> None:
    path = unix_path(settings.host)
    if not path or "\0" in path:
        raise _usage("--host unix: has no path, such as unix:/run/choline-data.sock.", "host")
    if len(path.encode()) > SOCKET_BYTES:
        raise _usage(f"--host unix: the path has more than {SOCKET_BYTES} bytes. Choose a shorter one.", "host")
    if settings.workers > 1:
        raise _usage("--workers share a port, but a Unix socket has no port.", "workers")
    if settings.tls_cert:
        raise _usage("A Unix socket has no TLS: the permissions of its file guard it.", "tls_cert")
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise _usage("--host unix: a file with that name exists, and it is not a socket.", "host")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return  # No server listens: a server that was killed left this socket file behind. Binding replaces it.
        except OSError as error:
            raise _usage("--host unix: the socket can't be used.", "host") from error
    raise _usage("--host unix: another server listens on that socket.", "host")


def run(
    home: Home | str | os.PathLike[str] | None,
    host: str = "127.0.0.1",
    port: int = 0,
    workers: int = 1,
    token_file: str = "",
    tls_cert: str = "",
    tls_key: str = "",
    client_ca: str = "",
    insecure: bool = False,
    max_streams: int = 1000,
    memory: str | int = 512 << 20,
    metrics_port: int | None = None,
    http_port: int | None = None,
    reflection: bool = False,
    as_json: bool = False,
    audit: str = "",
    tokenizers: Sequence[str] = (),
    http_hosts: Sequence[str] = (),
    limits: Mapping[str, str | float | int] | None = None,
) -> int:
    """Serves a home until a signal and returns the exit code. Prints one line when it is ready."""
    settings = Settings(
        host,
        port,
        workers,
        token_file,
        tls_cert,
        tls_key,
        client_ca,
        insecure,
        metrics_port,
        http_port,
        reflection,
        as_json,
        audit,
        tuple(tokenizers),
        tuple(name.lower() for name in http_hosts),
    )
    try:
        check(settings)
        bounds = replace(Limits.of({"max_streams": max_streams, **(limits or {})}), memory=parse_bytes(memory))
        place = home if isinstance(home, Home) else Home(home)
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        if workers > 1:
            from choline_data.service.workers import run_workers

            return run_workers(place, settings, bounds)
        return asyncio.run(serve_until_signal(place, settings, bounds))
    except CholineDataError as error:
        body = {"error": {"reason": error.reason, "message": error.message, "remedy": error.remedy}}
        print(json.dumps(body) if as_json else str(error), file=sys.stderr, flush=True)
        return 2 if isinstance(error, InvalidOptionError) else error.exit_code
