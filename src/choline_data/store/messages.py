"""The IPC messages of a store file: its blocks, its beginning and its end.

Equal rows give equal bytes, whatever batches they come in. Arrow's writer fills the padding of a slice with bytes of
neighbouring rows, so the rows of a block are copied to buffers of their own before Arrow writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.columns.ipc import Message, message_of

MAGIC = b"ARROW1\0\0"
_PREFIX = 8  # bytes before a message's header: the continuation mark and the header's length
_PLACES = np.dtype([("offset", "<i8"), ("header", "<i4"), ("_", "<i4"), ("body", "<i8")])

Piece = tuple[pa.RecordBatch, int, int]  # rows of a batch: (batch, first row, end row)


class Messages:
    """Encodes rows of one schema, with the bytes that Arrow would write into a file."""

    def __init__(self, schema: pa.Schema, compression: str | None = None) -> None:
        self._schema = schema
        self._compression = compression
        self._empty = pa.record_batch([pa.nulls(0, f.type) for f in schema], schema=schema)
        self.preamble = MAGIC + schema.serialize().to_pybytes()

    def encode(self, pieces: Sequence[Piece]) -> Message:
        """Encodes rows from any number of batches as one message. There must be at least one row."""
        # With a second, empty batch, Arrow always copies. It does not copy a single slice.
        batch = pa.concat_batches([*(batch.slice(start, end - start) for batch, start, end in pieces), self._empty])
        return self._compressed(batch) if self._compression else message_of(batch)

    def _compressed(self, batch: pa.RecordBatch) -> Message:
        sink = pa.BufferOutputStream()
        writer = pa.ipc.new_stream(sink, self._schema, options=pa.ipc.IpcWriteOptions(compression=self._compression))
        writer.write_batch(batch)
        encoded = memoryview(sink.getvalue())[len(self.preamble) - len(MAGIC) :]
        size = _PREFIX + int.from_bytes(encoded[4:_PREFIX], "little")
        return Message(bytes(encoded[:size]), [encoded[size:]], len(encoded) - size)

    def ending(self, blocks: Sequence[tuple[int, int, int]]) -> bytes:
        """Returns the last bytes of a file: the end mark and Arrow's footer. `blocks` lists the messages of the file as
        (offset, header length, body length).
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self._schema) as writer:
            for _ in blocks:
                writer.write_batch(self._empty)
        written: bytes = sink.getvalue().to_pybytes()
        size = int.from_bytes(written[-10:-6], "little")
        footer = bytearray(written[-10 - size : -10])
        places = np.zeros(len(blocks), _PLACES)
        if blocks:
            for name, values in zip(("offset", "header", "body"), zip(*blocks, strict=True), strict=True):
                places[name] = values
            start = _blocks_in(memoryview(footer))
            footer[start : start + places.nbytes] = places.tobytes()
        return written[-18 - size : -10 - size] + bytes(footer) + written[-10:]

    @staticmethod
    def places(file: memoryview) -> npt.NDArray[Any]:
        """Returns the offset, header length and body length of each message, read from the footer of a complete file."""
        size = int.from_bytes(file[-10:-6], "little")
        footer = file[len(file) - 10 - size : len(file) - 10]
        start = _blocks_in(footer)
        count = int.from_bytes(footer[start - 4 : start], "little")
        return np.frombuffer(footer, _PLACES, count, start)


def _blocks_in(footer: memoryview) -> int:
    """Returns the offset, in a file's footer, of the entry for the first record batch."""

    def word(at: int) -> int:
        return int.from_bytes(footer[at : at + 4], "little")

    table = word(0)
    vtable = table - int.from_bytes(footer[table : table + 4], "little", signed=True)
    slot = vtable + 4 + 2 * 3  # version, schema, dictionaries, record batches
    field = table + int.from_bytes(footer[slot : slot + 2], "little")
    return field + word(field) + 4


def cut(pending: Sequence[Piece], rows: int) -> Iterator[list[Piece]]:
    """Divides the pieces into groups of exactly `rows` rows. The last group may be smaller."""
    run: list[Piece] = []
    missing = rows
    for batch, start, end in pending:
        while start < end:
            step = min(missing, end - start)
            run.append((batch, start, start + step))
            start += step
            missing -= step
            if not missing:
                yield run
                run, missing = [], rows
    if run:
        yield run
