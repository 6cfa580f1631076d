"""A bare ceiling for readers of a server: receives the messages of a stream and throws their bytes away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ours
from common import SOURCES, Read, main


def prepare(kind: str, corpus: Path, folder: Path) -> None:
    """Makes the same home as `ours`."""
    ours.prepare(kind, corpus, folder)


def read(wanted: Read) -> Iterator[bool]:
    """One item for each `batch` rows received."""
    import grpc

    from choline_data import FirehoseDataset
    from choline_data.v1 import firehose_pb2 as pb
    from choline_data.v1.firehose_pb2_grpc import FirehoseServiceStub

    assert wanted.server is not None
    columns = ours.FIELDS[wanted.kind]
    recipe = FirehoseDataset(SOURCES, columns=columns, server=wanted.server).recipe
    channel = grpc.insecure_channel(wanted.server, options=[("grpc.max_receive_message_length", 8 << 20)])
    request = pb.ReadStreamRequest(
        recipe_json=recipe.to_json(),
        columns=columns,
        world_size=1,
        batch_size=1,
        target_message_bytes=wanted.message_bytes,
    )
    rows, batch = 0, wanted.batch or 1
    for frame in FirehoseServiceStub(channel).ReadStream(request):
        if frame.WhichOneof("frame") == "batch":
            rows += frame.batch.row_count
            yield from [True] * (rows // batch)
            rows %= batch


if __name__ == "__main__":
    main(prepare, read, "torch choline_data.client.dataset grpc")
