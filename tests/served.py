"""A served home: a server in a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc

    from choline_data.v1 import firehose_pb2_grpc

START_SECONDS = 60


class Served:
    """A running server. As a context manager, it ends at the end of the block."""

    def __init__(self, home: object, *flags: str, port: int = 0) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it
        command = [sys.executable, "-m", "choline_data.service", "--home", str(home), "--json", "--port", str(port)]
        self.process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.kill()
            raise AssertionError(f"the server did not start: {self.errors()}")
        self.addresses: dict[str, str] = json.loads(line)  # by face: address (gRPC), http, metrics
        self.address = self.addresses["address"]
        self.port = 0 if self.address.startswith("unix:") else int(self.address.rpartition(":")[2])

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def errors(self) -> str:
        """The text that the server wrote to standard error."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()  # leaves the offset, which the server writes at

    def scraped(self) -> str:
        """The answer of the metrics port."""
        with urllib.request.urlopen(f"http://{self.addresses['metrics']}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def channel(self, *options: tuple[str, Any]) -> grpc.Channel:
        """A connection of its own, not shared with other channels of this process."""
        import grpc

        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 32 << 20)]
        return grpc.insecure_channel(self.address, options=[*own, *options])

    def stub(self, *options: tuple[str, Any]) -> firehose_pb2_grpc.FirehoseServiceStub:
        """A client on a connection of its own."""
        from choline_data.v1 import firehose_pb2_grpc

        return firehose_pb2_grpc.FirehoseServiceStub(self.channel(*options))

    def signal(self, number: int) -> None:
        """Sends the process a signal."""
        self.process.send_signal(number)

    def terminate(self) -> int:
        """Sends SIGTERM. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """Sends SIGKILL if the process still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        """Ends the process, with SIGKILL if it does not end by itself, and closes its files."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()


Serve = Callable[..., Served]
