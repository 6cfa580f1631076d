"""Record batches as Arrow IPC messages without Arrow's writer: their buffers, and a header patched from a template.

Arrow's own `serialize` copies every buffer into a message, which is then copied into the response that carries it. Here
the response is joined from the buffers themselves, once. A test holds the bytes to those that `serialize` gives.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import xxhash

_ALIGN = 8
_PADDING = [bytes(n) for n in range(_ALIGN)]


@dataclass(frozen=True)
class Message:
    """An encapsulated message in parts: its header with the prefix, and what its body is joined from."""

    header: bytes
    body: tuple[Any, ...]
    body_size: int

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        return len(self.header) + self.body_size

    @property
    def parts(self) -> tuple[Any, ...]:
        """What the message is joined from."""
        return (self.header, *self.body)

    def checksum(self) -> int:
        """xxh3-64 of the message."""
        digest = xxhash.xxh3_64()
        for part in self.parts:
            digest.update(part)
        return digest.intdigest()

    def to_bytes(self) -> bytes:
        """The message in one piece."""
        return b"".join(self.parts)


class Encoder:
    """Encodes batches of one schema. Where a batch is not plain (a slice), Arrow's own writer does it."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        # A row of nulls in each column: every length and offset of its header is there to be patched.
        batch = pa.record_batch([pa.nulls(1, field.type) for field in schema], schema=schema)
        encoded = batch.serialize().to_pybytes()
        size = int.from_bytes(encoded[4:8], "little")
        self._header = encoded[: 8 + size]
        self._places = _places(memoryview(self._header)[8:])
        nodes, buffers = _flattened(batch)
        _, _, (_, node_count), (_, buffer_count) = self._places
        self._plain = (len(nodes), len(buffers)) == (node_count, buffer_count)

    def encode(self, batch: pa.RecordBatch) -> Message:
        """The batch as one message."""
        if not self._plain or not batch.num_rows or not _whole(batch):
            encoded = memoryview(batch.serialize())
            size = 8 + int.from_bytes(encoded[4:8], "little")
            return Message(bytes(encoded[:size]), (encoded[size:],), len(encoded) - size)
        nodes, buffers = _flattened(batch)
        body: list[Any] = []
        spans: list[int] = []
        at = 0
        for buffer in buffers:
            size = len(buffer)
            spans += (at, size)
            if size:
                body.append(buffer)
                over = size % _ALIGN
                if over:
                    body.append(_PADDING[_ALIGN - over])
                    size += _ALIGN - over
                at += size
        header = bytearray(self._header)
        body_length, rows, (first_node, _), (first_buffer, _) = self._places
        struct.pack_into("<q", header, 8 + body_length, at)
        struct.pack_into("<q", header, 8 + rows, batch.num_rows)
        struct.pack_into(f"<{len(nodes) * 2}q", header, 8 + first_node, *(n for node in nodes for n in node))
        struct.pack_into(f"<{len(spans)}q", header, 8 + first_buffer, *spans)
        return Message(bytes(header), tuple(body), at)


def _places(table: memoryview) -> tuple[int, int, tuple[int, int], tuple[int, int]]:
    """Where a record batch's flatbuffer has body length, row count, nodes and buffers (place of the first, count)."""

    def word(at: int) -> int:
        return int(struct.unpack_from("<I", table, at)[0])

    def field(start: int, number: int) -> int:
        vtable = start - int(struct.unpack_from("<i", table, start)[0])
        return start + int(struct.unpack_from("<H", table, vtable + 4 + 2 * number)[0])

    def vector(at: int) -> tuple[int, int]:
        start = at + word(at)
        return start + 4, word(start)

    message = word(0)
    at = field(message, 2)
    batch = at + word(at)
    return field(message, 3), field(batch, 0), vector(field(batch, 1)), vector(field(batch, 2))


def _arrays(columns: Iterable[pa.Array]) -> Iterator[pa.Array]:
    """Every array of a batch, parents before children."""
    for array in columns:
        yield array
        kind = array.type
        if pa.types.is_struct(kind):
            yield from _arrays(array.field(number) for number in range(kind.num_fields))
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            yield from _arrays([array.values])


def _whole(batch: pa.RecordBatch) -> bool:
    return not any(array.offset for array in _arrays(batch.columns))


def _flattened(batch: pa.RecordBatch) -> tuple[list[tuple[int, int]], list[memoryview]]:
    """The nodes (length, nulls) and the buffers of a batch, each cut to what its rows need."""
    nodes: list[tuple[int, int]] = []
    buffers: list[memoryview] = []
    for array in _arrays(batch.columns):
        kind, rows, nulls = array.type, len(array), array.null_count
        nodes.append((rows, nulls))
        own = array.buffers()
        buffers.append(_cut(own[0], (rows + 7) // 8) if nulls else _cut(None, 0))
        if pa.types.is_struct(kind) or pa.types.is_fixed_size_list(kind):
            continue
        if pa.types.is_boolean(kind):
            buffers.append(_cut(own[1], (rows + 7) // 8))
        elif pa.types.is_list(kind):
            buffers.append(_cut(own[1], (rows + 1) * 4))
        elif pa.types.is_string(kind) or pa.types.is_binary(kind):
            buffers += _values(own[1], own[2], rows, 4)
        elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
            buffers += _values(own[1], own[2], rows, 8)
        elif pa.types.is_large_list(kind):
            buffers.append(_cut(own[1], (rows + 1) * 8))
        else:
            buffers.append(_cut(own[1], rows * kind.bit_width // 8))
    return nodes, buffers


def _values(offsets: pa.Buffer, data: pa.Buffer | None, rows: int, width: int) -> tuple[memoryview, memoryview]:
    ends = _cut(offsets, (rows + 1) * width)
    return ends, _cut(data, int.from_bytes(ends[-width:], "little"))


def _cut(buffer: pa.Buffer | None, size: int) -> memoryview:
    return memoryview(b"") if buffer is None else memoryview(buffer)[:size]
