"""Real servers in processes of their own, on free ports, ended by their process id."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest

from choline_data.streams import wire
from choline_data.v1 import firehose_pb2 as pb
from choline_data.v1 import firehose_pb2_grpc

from ..conftest import Shelf  # noqa: TID252 - tests are no package

START_SECONDS = 60


class Served:
    """A running server and a client of it."""

    def __init__(self, home: object, *flags: str, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "choline_data.service",
                "--home",
                str(home),
                "--json",
                "--port",
                str(port),
                *flags,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.kill()
            raise AssertionError(f"the server did not start: {self.errors()}")
        self.told: dict[str, str] = json.loads(line)
        self.address = self.told["address"]
        self.port = 0 if self.address.startswith("unix:") else int(self.address.rpartition(":")[2])

    def errors(self) -> str:
        """What the ended server wrote to standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def channel(self, *options: tuple[str, Any]) -> grpc.Channel:
        """A connection of its own, not shared with other channels of this process."""
        return grpc.insecure_channel(
            self.address,
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", 32 << 20),
                *options,
            ],
        )

    def stub(self, *options: tuple[str, Any]) -> firehose_pb2_grpc.FirehoseServiceStub:
        """A client on a connection of its own."""
        return firehose_pb2_grpc.FirehoseServiceStub(self.channel(*options))

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that end with the test."""
    running: list[Served] = []

    def start(home: object, *flags: str, port: int = 0) -> Served:
        running.append(Served(home, *flags, port=port))
        return running[-1]

    yield start
    for served in running:
        if served.process.poll() is None:
            served.process.terminate()
    for served in running:
        try:
            served.process.wait(15)
        except subprocess.TimeoutExpired:
            served.kill()
        for pipe in (served.process.stdout, served.process.stderr):
            if pipe is not None:
                pipe.close()


def resolve(stub: Any, mix: str, **options: Any) -> pb.ResolveMixResponse:
    """The recipe of a mix."""
    return stub.ResolveMix(pb.ResolveMixRequest(mix=mix, **options), timeout=20)


def read(stub: Any, recipe: bytes, *, metadata: Any = None, **options: Any) -> list[pb.ReadStreamResponse]:
    """Every frame of a stream."""
    request = pb.ReadStreamRequest(recipe_json=recipe, **options)
    return list(stub.ReadStream(request, timeout=60, metadata=metadata))


def kinds(frames: list[pb.ReadStreamResponse]) -> list[str]:
    """What the frames are, heartbeats left out."""
    return [k for f in frames if (k := f.WhichOneof("frame")) != "heartbeat"]


def rows_of(frames: list[pb.ReadStreamResponse]) -> list[dict[str, Any]]:
    """The samples of a stream's frames, checked as a client checks them."""
    schema = pa.ipc.read_schema(pa.py_buffer(frames[0].header.serialized_schema))
    on_the_wire = wire.schema_on_the_wire(schema)
    names = wire.dictionaries(frames[0].header.dataset_names)
    out: list[dict[str, Any]] = []
    for frame in frames:
        if frame.WhichOneof("frame") == "batch":
            batch = wire.decode(frame.batch.serialized_batch, on_the_wire, expected=frame.batch.checksum)
            assert batch.num_rows == frame.batch.row_count
            out += wire.with_dictionaries(batch, schema, names).to_pylist()
    return out


def digest(rows: list[dict[str, Any]]) -> str:
    """The rows' content as one sha256."""
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """The status, reason and metadata that a call is refused with."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    told = rpc_status.from_call(error)
    assert told is not None, error
    info = error_details_pb2.ErrorInfo()
    assert told.details[0].Unpack(info)
    assert info.domain == "choline-data"
    return error.code(), info.reason, dict(info.metadata)


def filled(shelf: Shelf) -> str:
    """Puts two datasets into a home: web of 3,000 rows, code of 700; where it is."""
    shelf.add("web", {"text": [f"web {n} " + "w" * 400 for n in range(3000)]}, block_rows=64)
    shelf.add("code", {"text": [f"code {n}" for n in range(700)]}, block_rows=64)
    return str(shelf.home.location)


@pytest.fixture
def home(shelf: Shelf) -> str:
    """Where a home with two datasets is."""
    return filled(shelf)


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server of such a home, for the tests that only ask."""
    served = Served(filled(Shelf(tmp_path_factory.mktemp("standing") / "home")), "--reflection")
    yield served
    served.terminate()
    for pipe in (served.process.stdout, served.process.stderr):
        if pipe is not None:
            pipe.close()
