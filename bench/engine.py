"""Measures how much faster the hand-made parts of the engine are than a library. These are the figures of
docs/engine.md.

python bench/engine.py [--json] [--rounds 20]

The data are documents of 2.4 KB and of 35 KB from two sources, shuffled. The variants run in turns, and the figure is
the smallest CPU time of all rounds. Everything is in memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from stream import make_home

from choline_data.client.making import samples
from choline_data.columns.gather import Piece, assemble, node_of
from choline_data.columns.ipc import MessageWriter, message_of
from choline_data.columns.parts import ArrowParts
from choline_data.columns.row_ranges import ranges_of
from choline_data.mix import resolve_mix
from choline_data.process.memory import keep_freed
from choline_data.service.frames import batch_frame
from choline_data.store.windows import Store
from choline_data.streams.sample_stream import SampleStream
from choline_data.v1 import firehose_pb2 as pb
from choline_data.views import open_stream

ROWS = 512
Way = Callable[[], object]


def least_times(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Returns the smallest CPU time of each variant, in milliseconds. The variants run in turns."""
    out = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            way()  # a run before the measurement, so that the memory is in the state in which this variant leaves it
            began = time.thread_time()
            way()
            out[name] = min(out[name], (time.thread_time() - began) * 1e3)
    return out


def windows(stream: SampleStream, store: Store) -> dict[str, Way]:
    """Returns variants that prepare a window of 64 blocks: from the numbers in their headers, and with an Arrow batch
    for each block.
    """
    revision = store.revision(stream.recipe.sources[0].revision)
    blocks = np.random.default_rng(0).permutation(revision.rows // revision.block_rows)[:64].tolist()
    pairs = [(block * revision.block_rows, (block + 1) * revision.block_rows) for block in blocks]
    names = revision.schema.names

    def prepared(parts: dict[str, Any]) -> None:
        for name in names:
            node_of(revision.schema.field(name).type, parts[name])

    def by_arrow() -> None:
        batches = [batch for start, stop in pairs for batch in revision.views(start, stop, names, [])]
        maps = revision.maps()
        prepared({n: ArrowParts(revision.schema.field(n).type, [b[n] for b in batches], maps) for n in names})

    return {
        "a window, headers": lambda: prepared(revision.columns_of(ranges_of(pairs), names, [])),
        "a window, batches of Arrow": by_arrow,
    }


def gathering(stream: SampleStream, store: Store) -> dict[str, Way]:
    """Returns variants that read a window of 16 blocks in another order, as lists of 512 rows."""
    revision = store.revision(stream.recipe.sources[0].revision)
    blocks = np.random.default_rng(0).permutation(revision.rows // revision.block_rows)[:16].tolist()
    pairs = [(block * revision.block_rows, (block + 1) * revision.block_rows) for block in blocks]
    order = np.random.default_rng(1).permutation(len(pairs) * revision.block_rows)
    picks = [order[at : at + ROWS] for at in range(0, len(order), ROWS)]
    names = ["id", "text"]
    kinds = {name: revision.schema.field(name).type for name in names}

    def views() -> None:
        parts = revision.columns_of(ranges_of(pairs), names, [])
        nodes = {name: node_of(kinds[name], parts[name]) for name in names}
        for rows in picks:
            for name in names:
                column = assemble(kinds[name], [Piece(nodes[name], rows, np.arange(len(rows)))], len(rows))
                samples.to_list(name, column.to_views(), ())

    def table() -> pa.Table:
        return pa.Table.from_batches([b for start, stop in pairs for b in revision.views(start, stop, names, [])])

    def taken(window: pa.Table) -> None:
        for rows in picks:
            part = window.take(pa.array(rows))
            for name in names:
                part[name].to_pylist()

    return {
        "a window read, views": views,
        "a window read, `take` on chunked arrays": lambda: taken(table()),
        "a window read, `take`, window joined first": lambda: taken(table().combine_chunks()),
    }


def texts(stream: SampleStream) -> dict[str, Way]:
    """Returns variants that make strings of 4,096 views: with a copy first, and without. Each call reads other rows, so that
    no text is in the CPU cache. A string is dropped soon, as in a loop over samples.
    """
    batches = [stream.views_at(np.arange(at, at + 4096))[0]["text"] for at in range(0, 16 * 4096, 4096)]
    turn = itertools.cycle([[batch.slice(at, ROWS) for at in range(0, 4096, ROWS)] for batch in batches])

    def copied() -> None:
        for part in next(turn):
            samples.plain(part).to_pylist()

    def not_copied() -> None:
        for part in next(turn):
            part.to_pylist()

    return {"4,096 strings, copied first": copied, "4,096 strings, not copied": not_copied}


def messages(stream: SampleStream) -> dict[str, Way]:
    """Returns variants that encode a message of 512 rows for the wire."""
    columns = stream.gather(stream.locate(np.arange(ROWS)))
    writer = MessageWriter(stream.wire_schema)

    def batch() -> pa.RecordBatch:
        return pa.record_batch([column.to_arrow() for column in columns], schema=stream.wire_schema)

    def framed(message: Any) -> bytes:
        numbers = {"rows": ROWS, "start": 0, "first_position": 0, "checksum": message.checksum(), "sequence": 0}
        return batch_frame(message.parts, size=message.size, cursor="", **numbers).frame

    def generated() -> bytes:
        message = writer.message(batch())
        sent = pb.StreamBatch(serialized_batch=message.to_bytes(), row_count=ROWS, checksum=message.checksum())
        return pb.ReadStreamResponse(batch=sent).SerializeToString()

    return {
        "a message, buffers not copied": lambda: framed(writer.message(batch())),
        "a message, Arrow's `serialize`": lambda: framed(message_of(batch())),
        "a message, generated protobuf": generated,
    }


def figures(row: int, rounds: int) -> dict[str, float]:
    """Returns all figures for documents of `row` bytes."""
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(str(Path(folder) / "home"), 150e6, row)
        store = Store(home)
        stream = open_stream(store, resolve_mix("web:0.7,code:0.3", home), None)
        assert isinstance(stream, SampleStream)
        groups = (windows(stream, store), gathering(stream, store), texts(stream), messages(stream))
        return {name: ms for ways in groups for name, ms in least_times(ways, rounds).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="number of rounds; the least time counts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    keep_freed(64 << 20)  # as a server does
    out = {f"{row} bytes: {name}, ms": ms for row in (2400, 35_000) for name, ms in figures(row, chosen.rounds).items()}
    if chosen.json:
        print(json.dumps({name: round(ms, 4) for name, ms in out.items()}))
        return
    for name, ms in out.items():
        print(f"{name:64} {ms:8.3f}")


if __name__ == "__main__":
    main()
