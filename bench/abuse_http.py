"""The hostile requests of `abuse.py` that are no gRPC calls: plain HTTP, and raw HTTP/2 bytes on the gRPC port.

Importing this module adds them to CASES, after the cases of `abuse_cases.py`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from abuse_cases import CASES, Caller, Case, Step, case

# Cases: plain HTTP


def http(caller: Caller, head: bytes, seconds: float = 5.0) -> int:
    """Sends `head` to the HTTP port and reads the answer. Returns the number of bytes received."""
    host, _, port = caller.http.rpartition(":")
    size = 0
    with socket.create_connection((host, int(port)), timeout=seconds) as peer:
        peer.sendall(head)
        while not caller.stop.is_set() and (part := peer.recv(1 << 16)):
            size += len(part)
            caller.stop.wait(0.01)
    return size


@case(16)
def streams_over_http(caller: Caller) -> Step:
    return lambda: http(caller, b"GET /v1/stream?mix=web&n=2000 HTTP/1.1\r\nHost: localhost\r\n\r\n")


@case(16)
def a_where_over_http(caller: Caller) -> Step:
    def step() -> None:
        where = f"text%20like%20'%25{'_' * 400}b%25'%20or%20origin.row%20=%20{caller.next()}"
        http(caller, f"GET /v1/stream?mix=web&where={where} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    return step


@case()
def headers_that_never_end(caller: Caller) -> Step:
    def step() -> None:
        host, _, port = caller.http.rpartition(":")
        peers = [socket.create_connection((host, int(port)), timeout=5) for _ in range(200)]
        for number in range(100):
            if caller.stop.wait(0.1):
                break
            for peer in peers:
                with contextlib.suppress(OSError):
                    peer.sendall(b"a: b\r\n" if number else b"GET / HTTP/1.1\r\n")
        for peer in peers:
            peer.close()

    return step


# Cases: raw bytes on the gRPC port


def raw_files() -> Iterator[tuple[str, bytes]]:
    """Yields the name and the content of each recording of hostile HTTP/2 in the test data; nothing if they do not exist."""
    setting = os.environ.get("CHOLINE_TEST_DATA")
    parents = Path(__file__).resolve().parents[1:4]
    folders = [Path(setting)] if setting else [parent / "shared" / "data" for parent in parents]
    for folder in folders:
        for path in sorted((folder / "hostile" / "http2").glob("*.bin")):
            yield path.stem, path.read_bytes()


def raw(content: bytes) -> Case:
    """Returns a case that sends these bytes. Each request opens a new connection."""

    def start(caller: Caller) -> Step:
        host, _, port = caller.address.rpartition(":")

        def step() -> None:
            with socket.create_connection((host, int(port)), timeout=2) as peer:
                try:
                    peer.sendall(content)
                    while not caller.stop.is_set() and peer.recv(1 << 16):
                        pass
                except OSError:
                    pass
            caller.stop.wait(0.05)

        return step

    return start


RAW = [
    "10k_open_streams",
    "continuation_flood",
    "grpc_gzip_bomb_64MiB",
    "grpc_len_4GiB",
    "ping_flood_5000",
    "rapid_reset_2000",
    "settings_flood_5000",
    "window_overflow",
    "zero_window_reader",
]
for _name, _content in raw_files():
    if _name in RAW:
        CASES["http2 " + _name.replace("_", " ")] = (raw(_content), 4)
