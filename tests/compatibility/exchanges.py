"""Calls of a client to a server as raw bytes: a relay records them, and a server replays them."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc

from choline_data.v1 import firehose_pb2 as pb

SERVICE = "/choline_data.v1.FirehoseService/"
STREAMED = ("ReadStream",)
DETAILS = "grpc-status-details-bin"


@dataclass
class Exchange:
    """One call: the request, the answers, and the refusal if the server refused."""

    method: str
    request: bytes
    answers: list[bytes] = field(default_factory=list)
    code: str = "OK"
    details: bytes = b""  # the serialized google.rpc.Status of a refusal


def as_json(exchange: Exchange) -> dict[str, Any]:
    """The exchange as JSON, bytes in base64."""
    return {key: _text(value) for key, value in asdict(exchange).items()}


def from_json(stored: dict[str, Any]) -> Exchange:
    """Reads what `as_json` wrote."""
    request, *answers, details = map(base64.b64decode, [stored["request"], *stored["answers"], stored["details"]])
    return Exchange(stored["method"], request, answers, stored["code"], details)


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(each) for each in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


class RawServer(ABC):
    """A gRPC server whose methods exchange raw bytes."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(8)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        names = ("ListDatasets", "GetDataset", "ResolveMix", "ReadStream", "GetSamples")
        handlers = {name: self._handler(name) for name in names}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.strip("/"), handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _handler(self, name: str) -> grpc.RpcMethodHandler:
        if name in STREAMED:
            return grpc.unary_stream_rpc_method_handler(lambda raw, context: self.answers(name, raw, context))
        return grpc.unary_unary_rpc_method_handler(lambda raw, context: next(self.answers(name, raw, context)))

    @abstractmethod
    def answers(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The answers to a request, in order."""

    def close(self) -> None:
        """Ends the server."""
        self._server.stop(0).wait(10)
        self._pool.shutdown()


def call(channel: grpc.Channel, exchange: Exchange) -> Iterator[bytes]:
    """Makes the exchange's call again, and yields the answers. Writes a refusal into the exchange."""
    path = SERVICE + exchange.method
    try:
        if exchange.method in STREAMED:
            stream = channel.unary_stream(path)(exchange.request, timeout=60)
            yield from stream
        else:
            yield channel.unary_unary(path)(exchange.request, timeout=60)
    except grpc.RpcError as error:
        exchange.code = error.code().name
        exchange.details = next((raw for key, raw in error.trailing_metadata() or () if key == DETAILS), b"")


def _refuse(exchange: Exchange, context: grpc.ServicerContext) -> None:
    if exchange.code != "OK":
        context.set_trailing_metadata([(DETAILS, exchange.details)])
        context.abort(grpc.StatusCode[exchange.code], "refused")


class Recorder(RawServer):
    """Passes every call on to a server, and keeps the bytes of both directions."""

    def __init__(self, address: str) -> None:
        self.exchanges: list[Exchange] = []
        self._channel = grpc.insecure_channel(address)
        super().__init__()

    def answers(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The answers of the server behind."""
        exchange = Exchange(method, request)
        self.exchanges.append(exchange)
        for answer in call(self._channel, exchange):
            exchange.answers.append(answer)
            yield answer
        _refuse(exchange, context)

    def close(self) -> None:
        """Ends the server and its connection."""
        super().close()
        self._channel.close()


class Replayer(RawServer):
    """Answers requests with the recorded bytes of the exchange that has an equal request."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self._recorded = {(e.method, comparable(e.method, e.request)): e for e in exchanges}
        super().__init__()

    def answers(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The recorded answers."""
        exchange = self._recorded.get((method, comparable(method, request)))
        if exchange is None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"no recorded {method} has this request")
        else:
            yield from exchange.answers
            _refuse(exchange, context)


def comparable(method: str, request: bytes) -> bytes:
    """A request with its maps in order, and without the random bytes that name its reader."""
    parsed = getattr(pb, f"{method}Request").FromString(request)
    if method == "ReadStream" and parsed.HasField("claim"):
        parsed.claim.claimant = b""
    return parsed.SerializeToString(deterministic=True)
