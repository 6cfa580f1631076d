"""Test doubles between a client and a server: a proxy that damages one HTTP/2 frame, and a relay that ends streams early."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import grpc

from choline_data.v1 import firehose_pb2 as pb

_HEAD, _DATA = 9, 0
_SERVICE = "/choline_data.v1.FirehoseService/"


@dataclass(frozen=True)
class Fault:
    """What happens to one DATA frame from the server, the first being number 0.

    `rst` and `fin` cut the connection in the middle of it, `down` and `up` leave it open and forward nothing more to
    the client or to the server, `flip` turns over a bit of its byte number `byte`.
    """

    kind: str
    frame: int = 0
    byte: int = 0


class Proxy:
    """Forwards a local port to a server, frame by frame; an armed fault happens once."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._fault: Fault | None = None
        self._seen = 0
        self.happened = threading.Event()
        self._closed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def arm(self, fault: Fault) -> None:
        """Arms the fault. Frames are counted from now."""
        self._seen, self._fault = 0, fault
        self.happened.clear()

    def close(self) -> None:
        """Closes every connection and waits for the threads."""
        self._closed.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
                server.settimeout(None)
            except OSError:
                continue
            self._sockets += [client, server]
            deaf = threading.Event()
            for work in (self._up, self._down):
                thread = threading.Thread(target=work, args=(client, server, deaf))
                self._threads.append(thread)
                thread.start()

    def _up(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError):
            while part := client.recv(1 << 16):
                if not deaf.is_set():
                    server.sendall(part)
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError), server.makefile("rb") as frames:
            while len(head := frames.read(_HEAD)) == _HEAD:
                payload = bytearray(frames.read(int.from_bytes(head[:3], "big")))
                fault = self._due(head, payload)
                if fault is None or fault.kind in ("flip", "up"):
                    if fault is not None and fault.kind == "flip":
                        payload[min(fault.byte, len(payload) - 1)] ^= 0x40
                    elif fault is not None:
                        deaf.set()
                    client.sendall(head + payload)
                elif fault.kind == "down":
                    return  # and leave both connections open
                else:
                    client.sendall(head + payload[: len(payload) // 2])
                    if fault.kind == "rst":
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        client.close()
                    break
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)
            server.shutdown(socket.SHUT_RDWR)

    def _due(self, head: bytes, payload: bytearray) -> Fault | None:
        fault = self._fault
        if fault is None or head[3] != _DATA or not payload:
            return None
        self._seen += 1
        if self._seen <= fault.frame:
            return None
        self._fault = None
        self.happened.set()
        return fault


class Relay:
    """A gRPC server in front of another that ends the first `times` streams after `batches` batches, without an end frame.

    With `end`, that frame is sent in place of the real one.
    """

    def __init__(self, address: str, batches: int, *, times: int = 3, end: pb.StreamEnd | None = None) -> None:
        self.streams = 0
        self._batches, self._times, self._end = batches, times, end
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._pool = ThreadPoolExecutor(8)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        handlers = {
            "ResolveMix": grpc.unary_unary_rpc_method_handler(self._resolve),
            "ReadStream": grpc.unary_stream_rpc_method_handler(self._read),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE.strip("/"), handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        """Ends the server and its connection."""
        self._server.stop(0).wait(10)
        self._channel.close()
        self._pool.shutdown()

    def _resolve(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        answer: bytes = self._channel.unary_unary(f"{_SERVICE}ResolveMix")(request, timeout=20)
        return answer

    def _read(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.streams += 1
        left = self._batches if self.streams <= self._times else None
        call: Any = self._channel.unary_stream(f"{_SERVICE}ReadStream")(request, timeout=60)
        context.add_callback(call.cancel)
        with closing(self._forwarded(call, left)) as frames:
            yield from frames
        call.cancel()

    def _forwarded(self, call: Any, left: int | None) -> Iterator[bytes]:
        with suppress(grpc.RpcError):
            for raw in call:
                if pb.ReadStreamResponse.FromString(raw).WhichOneof("frame") == "batch" and left is not None:
                    if not left:
                        if self._end is not None:
                            yield pb.ReadStreamResponse(end=self._end).SerializeToString()
                        return
                    left -= 1
                yield raw
