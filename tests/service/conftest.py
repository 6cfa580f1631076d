"""Real servers in processes of their own, on free ports, ended by their process id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pyarrow as pa
import pytest
from tests.conftest import Shelf
from tests.served import Served

from choline_data.streams import wire
from choline_data.v1 import firehose_pb2 as pb


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
    decoder = wire.Decoder(wire.schema_on_the_wire(schema))
    names = wire.dictionaries(frames[0].header.dataset_names)
    out: list[dict[str, Any]] = []
    for frame in frames:
        if frame.WhichOneof("frame") == "batch":
            batch = decoder.decode(frame.batch.serialized_batch, expected=frame.batch.checksum)
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
    home = filled(Shelf(tmp_path_factory.mktemp("standing") / "home"))
    with Served(home, "--reflection") as served:
        yield served
        assert served.terminate() == 0
