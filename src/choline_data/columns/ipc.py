"""Arrow IPC messages of record batches, in parts; and the numbers in the headers of many messages, read at once."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from choline_data.columns.arrow_values import Ints


@dataclass(frozen=True)
class Message:
    """An encapsulated message in parts: its header with the prefix, and the buffers of its body."""

    header: bytes
    body: Sequence[Any]
    body_size: int

    @property
    def size(self) -> int:
        """The size of the whole message in bytes."""
        return len(self.header) + self.body_size

    @property
    def parts(self) -> list[Any]:
        """The parts that together form the message."""
        return [self.header, *self.body]

    def checksum(self) -> int:
        """Returns the xxh3-64 of the message."""
        digest = xxhash.xxh3_64(self.header)
        for part in self.body:
            digest.update(part)
        return digest.intdigest()

    def to_bytes(self) -> bytes:
        """Returns the message in one piece."""
        return b"".join(self.parts)


def message_of(batch: pa.RecordBatch) -> Message:
    """Encodes a batch with Arrow's own writer."""
    encoded = memoryview(batch.serialize())
    size = 8 + int.from_bytes(encoded[4:8], "little")
    return Message(bytes(encoded[:size]), [encoded[size:]], len(encoded) - size)


class Header:
    """The layout of the encapsulated header of a schema's record batches, and where the numbers are in it."""

    def __init__(self, schema: pa.Schema) -> None:
        # The template is the header of a batch with one row of nulls. It has every length and offset that a header can have.
        batch = pa.record_batch([pa.nulls(1, field.type) for field in schema], schema=schema)
        self._template = message_of(batch).header
        self._body_length, self._rows, self._nodes, self._buffers = _places(memoryview(self._template)[8:])
        self._node_count, self._buffer_count = (
            int.from_bytes(self._template[8 + at - 4 : 8 + at], "little") for at in (self._nodes, self._buffers)
        )

    @property
    def size(self) -> int:
        """The size in bytes of every header of this layout."""
        return len(self._template)

    def read(self, headers: npt.NDArray[np.uint8]) -> tuple[Ints, Ints] | None:
        """Reads from each of these headers the nodes and the spans (offset and size of each buffer).

        Returns None if a header has another layout.
        """
        places = (
            (self._body_length, 8),
            (self._rows, 8),
            (self._nodes, 16 * self._node_count),
            (self._buffers, 16 * self._buffer_count),
        )
        fixed = np.ones(self.size, np.bool_)
        for at, size in places:
            fixed[8 + at : 8 + at + size] = False
        template = np.frombuffer(self._template, np.uint8)
        if (headers[:, fixed] != template[fixed]).any():
            return None
        nodes, spans = (
            np.ascontiguousarray(headers[:, 8 + at : 8 + at + size]).view("<i8").reshape(len(headers), -1, 2)
            for at, size in places[2:]
        )
        return nodes, spans


def _places(table: memoryview) -> tuple[int, int, int, int]:
    """Finds the positions of body length, row count, first node and first buffer in a record batch's flatbuffer."""

    def word(at: int) -> int:
        return int(struct.unpack_from("<I", table, at)[0])

    def field(start: int, number: int) -> int:
        vtable = start - int(struct.unpack_from("<i", table, start)[0])
        return start + int(struct.unpack_from("<H", table, vtable + 4 + 2 * number)[0])

    def first_of(at: int) -> int:
        return at + word(at) + 4

    message = word(0)
    at = field(message, 2)
    batch = at + word(at)
    return field(message, 3), field(batch, 0), first_of(field(batch, 1)), first_of(field(batch, 2))
