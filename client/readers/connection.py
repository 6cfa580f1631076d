"""Connections to servers: addresses, one channel at a time, errors, and waits between retries."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from choline_data.client.readers import forks
from choline_data.errors import (
    CholineDataError,
    InvalidOptionError,
    TransientError,
    UnavailableError,
    error_from_parts,
)

T = TypeVar("T")
STALL_SECONDS = 15.0
CALL_SECONDS = 30.0
BUDGET_SECONDS = 300.0
CONNECT_SECONDS = 5.0
# the longest wait between two attempts, in seconds: after a server is back, samples arrive within 5 s
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 3.0
_LEAST_SECONDS = 1.0  # the shortest timeout of a call in seconds, even if less of the retry budget is left
_ANY_ADDRESS = '{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}'
_RETRIED = (
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "INTERNAL",
    "UNKNOWN",
    "CANCELLED",
)


@dataclass(frozen=True)
class Endpoint:
    """Server addresses, credentials and time limits. Picklable."""

    addresses: tuple[str, ...]
    token: str | None = None
    tls: bool | str | Mapping[str, str] | None = None
    budget: float = BUDGET_SECONDS
    stall: float = STALL_SECONDS

    @classmethod
    def of(cls, server: str | Sequence[str], **options: Any) -> Endpoint:
        """Builds an endpoint from `"host:port"`, several of these (a list, or separated by commas), or `dns:///name`."""
        names = server.split(",") if isinstance(server, str) else list(server)
        addresses = tuple(a.strip().removeprefix("grpc://") for a in names if a.strip())
        if not addresses:
            raise InvalidOptionError("server has no address.", remedy='Give "host:port".', option="server")
        endpoint = cls(addresses, **options)
        for name, seconds in (("retry_seconds", endpoint.budget), ("stall_seconds", endpoint.stall)):
            if not isinstance(seconds, (int, float)) or not 0 < seconds < float("inf"):
                raise InvalidOptionError(f"{name} is {seconds!r}.", remedy="Give seconds above 0.", option=name)
        if endpoint.token and not endpoint.tls and not all(_loopback(a) for a in addresses):
            raise InvalidOptionError(
                "A token is only sent over TLS, or to this machine.",
                remedy="Set tls=True, or tls to the file of the server's authority.",
                option="tls",
            )
        return endpoint


def _loopback(address: str) -> bool:
    host = address.removeprefix("dns:///").rsplit(":", 1)[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.") or address.startswith("unix:")


def _credentials(tls: bool | str | Mapping[str, str]) -> Any:
    import grpc

    files = {} if tls is True else {"ca": tls} if isinstance(tls, str) else dict(tls)  # type: ignore[arg-type]
    read = {key: Path(path).read_bytes() for key, path in files.items()}
    return grpc.ssl_channel_credentials(read.get("ca"), read.get("key"), read.get("cert"))


class Connection:
    """A channel to one address at a time. Opened at its first use, closed before forks."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._turn = random.Random(os.urandom(8)).randrange(len(endpoint.addresses))
        self._channel: Any = None
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """The address of the server to which this connection refers now."""
        return self.endpoint.addresses[self._turn % len(self.endpoint.addresses)]

    def stub(self) -> Any:
        """Returns a gRPC stub for the current address."""
        if forks.unsafe():
            raise InvalidOptionError(
                "This process was forked while its parent used gRPC, and gRPC does not work after such a fork.",
                remedy='Start DataLoader workers with multiprocessing_context="forkserver".',
                option="multiprocessing_context",
            )
        import grpc
        import grpc.experimental

        from choline_data.v1 import firehose_pb2_grpc

        with self._lock:
            if self._channel is None:
                options = [
                    (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
                    ("grpc.max_receive_message_length", 32 << 20),
                    ("grpc.keepalive_time_ms", 30_000),
                    ("grpc.keepalive_timeout_ms", 10_000),
                    ("grpc.http2.ping_timeout_ms", 10_000),
                    ("grpc.use_local_subchannel_pool", 1),
                    ("grpc.enable_retries", 0),
                    # The kernel of a server that hangs still accepts connections. This limits the wait for an answer.
                    ("grpc.min_reconnect_backoff_ms", int(min(CONNECT_SECONDS, self.endpoint.stall) * 1000)),
                    ("grpc.service_config", _ANY_ADDRESS),  # spreads clients over all addresses of a DNS name
                ]
                if self.endpoint.tls:
                    self._channel = grpc.secure_channel(self.address, _credentials(self.endpoint.tls), options)
                else:
                    self._channel = grpc.insecure_channel(self.address, options)
            return firehose_pb2_grpc.FirehoseServiceStub(self._channel)

    def metadata(self) -> list[tuple[str, str]]:
        """Returns the metadata of every call: the token, if there is one."""
        return [("authorization", f"Bearer {self.endpoint.token}")] if self.endpoint.token else []

    def close(self) -> None:
        """Closes the channel; the next use opens another."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def advance(self) -> None:
        """Switches to the next address."""
        self.close()
        self._turn += 1


def error_of(error: Any) -> CholineDataError:
    """Converts a failed call back to the error that the server raised."""
    from google.rpc import error_details_pb2, status_pb2

    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Is(info.DESCRIPTOR):
                    detail.Unpack(info)
                    fields = dict(info.metadata)
                    message = fields.pop("message", status.message)
                    return error_from_parts(info.reason, message, fields.pop("remedy", ""), fields)
    code = error.code().name if error.code() is not None else "UNKNOWN"
    if code in _RETRIED:
        return UnavailableError(
            f"The server can't be reached ({code.lower()}): {error.details()}",
            remedy="Check the address, and that the server runs.",
        )
    return CholineDataError(f"The server refused ({code.lower()}): {error.details()}", remedy="Check its version.")


class Patience:
    """Waits between retries. Each wait is a random time, and its upper limit grows. Gives up after `budget` seconds
    without data.
    """

    def __init__(self, connection: Connection, stopped: Callable[[], bool], budget: float) -> None:
        self._connection = connection
        self._stopped = stopped
        self._budget = budget
        # a separate generator, so that the random state of the trainer does not change
        self._random = random.Random(os.urandom(8))
        self._tries = 0
        self._since = time.monotonic()
        self.retries = 0

    def share(self) -> float:
        """Returns the timeout of the next call in seconds: the remaining time, divided by the number of addresses that
        were not tried yet.
        """
        left = self._budget - (time.monotonic() - self._since)
        return max(left / max(len(self._connection.endpoint.addresses) - self._tries, 1), _LEAST_SECONDS)

    def progress(self) -> None:
        """Records that data arrived, so that the full time for retries is available again."""
        self._tries = 0
        self._since = time.monotonic()

    def wait(self, error: CholineDataError) -> None:
        """Switches to the next address and waits for the next try. Raises UnavailableError if the budget is spent."""
        spent = time.monotonic() - self._since
        if spent >= self._budget:
            raise UnavailableError(
                f"{self._connection.address}: no sample for {spent:.0f} s: {error.message}",
                remedy="Check the server, then resume from the last state.",
            ) from error
        self.retries += 1
        pause = self._random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**self._tries))
        self._tries += 1
        self._connection.advance()
        until = time.monotonic() + min(pause, self._budget - spent)
        while (left := until - time.monotonic()) > 0 and not self._stopped():
            time.sleep(min(left, 0.05))


def call_server(connection: Connection, call: Callable[[Any, float], T], budget: float) -> T:
    """Makes a unary call. `call` receives a stub and a timeout in seconds. Retries while the server can't be reached."""
    import grpc

    patience = Patience(connection, lambda: False, budget)
    while True:
        try:
            answer = call(connection.stub(), min(patience.share(), CALL_SECONDS))
        except grpc.RpcError as raised:
            error = error_of(raised)
            if not isinstance(error, TransientError):
                raise error from None
        except ValueError as raised:
            # grpcio raises ValueError if the channel was closed meanwhile, for example before a fork
            error = UnavailableError(str(raised))
        else:
            if answer is not None:
                return answer
            # grpcio returns None if it can't parse the answer
            error = UnavailableError("The server's answer can't be read.", remedy="Use the same release on both sides.")
        patience.wait(error)
