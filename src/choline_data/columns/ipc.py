"""Arrow IPC messages of record batches. Writes a message as a list of buffers, and reads the numbers in many message
headers at once.
"""

from __future__ import annotations

import struct
import threading
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
    """An Arrow IPC message that is not joined into one piece: its header with the length prefix, and the buffers of its
    body.
    """

    header: bytes
    body: Sequence[Any]
    body_size: int

    @property
    def size(self) -> int:
        """Returns the size of the whole message in bytes."""
        return len(self.header) + self.body_size

    @property
    def parts(self) -> list[Any]:
        """Returns the buffers that form the message when they are joined in order."""
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


class _Parts:
    """A file object that collects the written parts in a list: small parts as bytes, and the buffers of arrays without
    a copy.
    """

    closed = False

    def __init__(self) -> None:
        self._parts: list[Any] = []

    def write(self, part: Any) -> None:
        """Adds a part to the list."""
        self._parts.append(part)

    def flush(self) -> None:
        """Does nothing. File objects must have this method."""

    def close(self) -> None:
        """Does nothing. File objects must have this method."""

    def take(self) -> list[Any]:
        """Returns the parts that were written since the last call."""
        parts, self._parts = self._parts, []
        return parts


class MessageWriter:
    """Encodes batches of one schema with Arrow's own writer, and does not copy their buffers. Threads can share it.

    `message_of` copies all buffers into one piece first. A server copies them once more into its response.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._written = _Parts()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._written, "w"), schema)
        self._lock = threading.Lock()
        empty = [pa.nulls(0, field.type) for field in schema]
        self._writer.write_batch(
            pa.record_batch(empty, schema=schema)
        )  # the writer writes the schema before its first batch
        self._written.take()

    def message(self, batch: pa.RecordBatch) -> Message:
        """Encodes a batch. The message is valid as long as the batch's buffers do not change."""
        with self._lock:
            self._written.take()  # a batch that could not be written may have left parts
            self._writer.write_batch(batch)
            parts = self._written.take()
        size = 8 + int.from_bytes(parts[1], "little")
        header, held = 0, 0  # number of parts in the header, and their size in bytes
        while held < size:
            held += len(parts[header])
            header += 1
        body = parts[header:]
        return Message(b"".join(parts[:header]), body, sum(map(len, body)))


class Header:
    """The layout of the IPC message headers of one schema. All record batches of the schema have headers of the same
    layout.
    """

    def __init__(self, schema: pa.Schema) -> None:
        # The template is the header of a batch with one row of nulls. It has every length and offset that a header can have.
        batch = pa.record_batch([pa.nulls(1, field.type) for field in schema], schema=schema)
        self._template = message_of(batch).header
        self._body_length, self._rows, self._nodes, self._buffers = _places(memoryview(self._template)[8:])
        self._node_count, self._buffer_count = (
            int.from_bytes(self._template[8 + at - 4 : 8 + at], "little") for at in (self._nodes, self._buffers)
        )

        self._fixed = np.frombuffer(self._template, np.uint8)
        self._mask = np.full(len(self._template), 255, np.uint8)
        for at, size in (
            (self._body_length, 8),
            (self._rows, 8),
            (self._nodes, 16 * self._node_count),
            (self._buffers, 16 * self._buffer_count),
        ):
            self._mask[8 + at : 8 + at + size] = 0

    @property
    def size(self) -> int:
        """Returns the size in bytes of every header of this layout."""
        return len(self._template)

    def read(self, headers: npt.NDArray[np.uint8]) -> tuple[Ints, Ints] | None:
        """Reads the nodes and the buffer spans (offset and size of each buffer) from each of these headers.

        Returns None if a header has another layout.
        """
        # All bytes of a header except the numbers must be equal to those of the template.
        if ((headers ^ self._fixed) & self._mask).any():
            return None
        places = ((self._nodes, 16 * self._node_count), (self._buffers, 16 * self._buffer_count))
        nodes, spans = (
            np.ascontiguousarray(headers[:, 8 + at : 8 + at + size]).view("<i8").reshape(len(headers), -1, 2)
            for at, size in places
        )
        return nodes, spans


def _places(table: memoryview) -> tuple[int, int, int, int]:
    """Finds the byte positions of body length, row count, first node and first buffer in a record batch's flatbuffer."""

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
