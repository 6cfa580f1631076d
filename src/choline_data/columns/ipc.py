"""Encodes gathered columns as Arrow IPC messages without Arrow's writer: patches a header template and adds the buffers.

Arrow's own `serialize` needs arrays and copies their buffers into a message. The message is then copied again into the
response. Here, the response is joined once, directly from the values. Tests check that the bytes equal the output of
`serialize`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from choline_data.columns.arrow_values import Ints, is_large
from choline_data.columns.gathered import JOINED_FROM, Column, Values

_ALIGN = 8
_PADDING = [bytes(n) for n in range(_ALIGN)]


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
        """xxh3-64 of the message."""
        digest = xxhash.xxh3_64(self.header)
        for part in self.body:
            digest.update(part)
        return digest.intdigest()

    def to_bytes(self) -> bytes:
        """The message in one piece."""
        return b"".join(self.parts)


def message_of(batch: pa.RecordBatch) -> Message:
    """Encodes any batch with Arrow's own writer."""
    encoded = memoryview(batch.serialize())
    size = 8 + int.from_bytes(encoded[4:8], "little")
    return Message(bytes(encoded[:size]), [encoded[size:]], len(encoded) - size)


class Header:
    """A template of the encapsulated header of a schema's record batches. `filled` sets the numbers in it."""

    def __init__(self, schema: pa.Schema) -> None:
        # The template is the header of a batch with one row of nulls. It has every length and offset that `filled` sets.
        batch = pa.record_batch([pa.nulls(1, field.type) for field in schema], schema=schema)
        self._template = message_of(batch).header
        self._body_length, self._rows, self._nodes, self._buffers = _places(memoryview(self._template)[8:])
        self._node_count, self._buffer_count = (
            int.from_bytes(self._template[8 + at - 4 : 8 + at], "little") for at in (self._nodes, self._buffers)
        )

    def filled(self, rows: int, nodes: Sequence[int], spans: Sequence[int], body_size: int) -> bytes:
        """The header for a body with these nodes (length and null count of each) and buffers (offset and size of each)."""
        header = bytearray(self._template)
        struct.pack_into("<q", header, 8 + self._body_length, body_size)
        struct.pack_into("<q", header, 8 + self._rows, rows)
        struct.pack_into(f"<{len(nodes)}q", header, 8 + self._nodes, *nodes)
        struct.pack_into(f"<{len(spans)}q", header, 8 + self._buffers, *spans)
        return bytes(header)

    @property
    def size(self) -> int:
        """The size in bytes of every header of this layout."""
        return len(self._template)

    def read(self, headers: npt.NDArray[np.uint8]) -> tuple[Ints, Ints] | None:
        """Reads back the nodes and spans that `filled` put into each of these headers. None if one has another layout."""
        places = (
            (self._body_length, 8),
            (self._rows, 8),
            (self._nodes, 16 * self._node_count),
            (self._buffers, 16 * self._buffer_count),
        )
        given = np.ones(self.size, np.bool_)
        for at, size in places:
            given[8 + at : 8 + at + size] = False
        template = np.frombuffer(self._template, np.uint8)
        if (headers[:, given] != template[given]).any():
            return None
        nodes, spans = (
            np.ascontiguousarray(headers[:, 8 + at : 8 + at + size]).view("<i8").reshape(len(headers), -1, 2)
            for at, size in places[2:]
        )
        return nodes, spans


class Encoder:
    """Encodes gathered columns of one schema. Values with a mean length of at least `joined_from` are joined one by one."""

    def __init__(self, schema: pa.Schema, joined_from: int = JOINED_FROM) -> None:
        self._joined_from = joined_from
        self._header = Header(schema)

    def encode(self, columns: Sequence[Column], rows: int) -> Message:
        """The columns as one message. There must be at least one row."""
        nodes: list[int] = []
        spans: list[int] = []
        body: list[Any] = []
        at = 0
        for column in _flat(columns):
            nulls = column.nulls
            nodes += (column.count, nulls)
            for parts, size in _buffers_of(column, nulls, self._joined_from):
                spans += (at, size)
                body += parts
                over = size % _ALIGN
                if over:
                    body.append(_PADDING[_ALIGN - over])
                    size += _ALIGN - over
                at += size
        return Message(self._header.filled(rows, nodes, spans, at), body, at)


def _places(table: memoryview) -> tuple[int, int, int, int]:
    """The positions of body length, row count, first node and first buffer in a record batch's flatbuffer."""

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


def _flat(columns: Iterable[Column]) -> Iterator[Column]:
    """Every column of a batch, parents before children."""
    for column in columns:
        yield column
        if column.children:
            yield from _flat(column.children)


def _buffers_of(column: Column, nulls: int, joined_from: int) -> Iterator[tuple[list[Any], int]]:
    """The buffers of a column in Arrow's order. Each is a list of parts and their total size in bytes."""
    valid = column.bitmap if nulls else None
    yield ([valid], valid.size) if valid is not None else ([], 0)
    kind, values = column.kind, column.values
    if isinstance(values, Values):
        lengths = values.lengths()
        total = int(lengths.sum(dtype=np.int64))
        if total < joined_from * column.count:
            offsets, data = values.in_one_piece(kind)
            yield [offsets], (column.count + 1) * (8 if is_large(kind) else 4)
            yield [memoryview(data)[:total]] if total else [], total
            return
        ends = np.zeros(column.count + 1, np.int64)
        np.cumsum(lengths, out=ends[1:])
        if not is_large(kind):
            ends = ends.astype(np.int32)
        yield [ends.data], ends.nbytes
        yield values.one_by_one(), total
        return
    if column.offsets is not None:
        yield [column.offsets.data], column.offsets.nbytes
    if values is not None:
        if pa.types.is_boolean(kind):
            values = np.packbits(values, bitorder="little")
        size = values.nbytes if isinstance(values, np.ndarray) else len(values)
        yield [values.data if isinstance(values, np.ndarray) else values] if size else [], size
