"""Encodes rows of record batches as the IPC messages of a store file, without a copy of the values.

Arrow's writer fills the padding of a slice with bytes of neighbouring rows, so a block would first have to be copied to
its own buffers. This module computes new offsets and null bits and writes everything else from the source's memory. Tests
check that the bytes equal those that Arrow writes for such a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.columns.ipc import Header, Message, message_of

MAGIC = b"ARROW1\0\0"
_MANY_PIECES = 16  # a block from more pieces is copied first, because many small writes cost more
_PREFIX = 8  # bytes before a message's header: the continuation mark and the header's length
_PLACES = np.dtype([("offset", "<i8"), ("header", "<i4"), ("_", "<i4"), ("body", "<i8")])

Piece = tuple["BlockRows", int, int]  # rows of a batch: (batch, first row, end row)


@dataclass(frozen=True)
class _Column:
    """The memory of a column.

    `valid` has one value per row; None if there are no nulls. A column has either offsets or a fixed value width in bytes.
    """

    valid: npt.NDArray[np.bool_] | None
    offsets: npt.NDArray[Any] | None
    width: int
    data: memoryview
    children: tuple[_Column, ...] = ()


@dataclass(frozen=True)
class BlockRows:
    """A batch and the memory of its columns, which is looked up once for any number of slices."""

    batch: pa.RecordBatch
    columns: tuple[_Column, ...]


def rows_of(batch: pa.RecordBatch) -> BlockRows:
    """Looks up the columns of a batch. `columns` is empty if one has a type that this module can't encode."""
    columns = batch.columns
    return BlockRows(batch, tuple(_column(c) for c in columns) if all(_simple(c.type) for c in columns) else ())


class Messages:
    """Encodes rows of one schema, with the bytes that Arrow would write into a file."""

    def __init__(self, schema: pa.Schema, compression: str | None = None) -> None:
        self._schema = schema
        self._compression = compression
        self._header = Header(schema)
        self._empty = pa.record_batch([pa.nulls(0, f.type) for f in schema], schema=schema)
        self.preamble = MAGIC + schema.serialize().to_pybytes()

    def encode(self, pieces: Sequence[Piece]) -> Message:
        """Encodes rows from any number of batches as one message. There must be at least one row."""
        if len(pieces) > _MANY_PIECES:
            pieces = [self._together(pieces)]
        if self._compression or not all(rows.columns for rows, _, _ in pieces):
            return self._by_arrow(pieces)
        body = _Body()
        for index in range(len(self._schema)):
            _encode([(rows.columns[index], start, end) for rows, start, end in pieces], body)
        count = sum(end - start for _, start, end in pieces)
        return Message(self._header.filled(count, body.nodes, body.spans, body.size), body.parts, body.size)

    def ending(self, blocks: Sequence[tuple[int, int, int]]) -> bytes:
        """The end of a file with messages at these (offset, header length, body length): the end mark and Arrow's footer."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self._schema) as writer:
            for _ in blocks:
                writer.write_batch(self._empty)
        made: bytes = sink.getvalue().to_pybytes()
        size = int.from_bytes(made[-10:-6], "little")
        footer = bytearray(made[-10 - size : -10])
        places = np.zeros(len(blocks), _PLACES)
        if blocks:
            for name, values in zip(("offset", "header", "body"), zip(*blocks, strict=True), strict=True):
                places[name] = values
            start = _blocks_in(memoryview(footer))
            footer[start : start + places.nbytes] = places.tobytes()
        return made[-18 - size : -10 - size] + bytes(footer) + made[-10:]

    @staticmethod
    def places(file: memoryview) -> npt.NDArray[Any]:
        """The offset, header length and body length of each message, read from the footer of a complete file."""
        size = int.from_bytes(file[-10:-6], "little")
        footer = file[len(file) - 10 - size : len(file) - 10]
        start = _blocks_in(footer)
        count = int.from_bytes(footer[start - 4 : start], "little")
        return np.frombuffer(footer, _PLACES, count, start)

    def _together(self, pieces: Sequence[Piece]) -> Piece:
        # The additional empty batch forces a copy even for a single slice.
        batch = pa.concat_batches([*(rows.batch.slice(start, end - start) for rows, start, end in pieces), self._empty])
        return rows_of(batch), 0, batch.num_rows

    def _by_arrow(self, pieces: Sequence[Piece]) -> Message:
        rows, _, _ = self._together(pieces)
        if not self._compression:
            return message_of(rows.batch)
        sink = pa.BufferOutputStream()
        writer = pa.ipc.new_stream(sink, self._schema, options=pa.ipc.IpcWriteOptions(compression=self._compression))
        writer.write_batch(rows.batch)
        encoded = memoryview(sink.getvalue())[len(self.preamble) - len(MAGIC) :]
        size = _PREFIX + int.from_bytes(encoded[4:_PREFIX], "little")
        return Message(bytes(encoded[:size]), [encoded[size:]], len(encoded) - size)


class _Body:
    """The body of a message during encoding: its parts, and the nodes and buffer spans for the header."""

    def __init__(self) -> None:
        self.nodes: list[int] = []
        self.spans: list[int] = []
        self.parts: list[Any] = []
        self.size = 0

    def buffer(self, parts: Sequence[Any], size: int) -> None:
        """Adds a buffer that consists of these parts, with `size` bytes in total. Pads it to 8 bytes."""
        self.spans += (self.size, size)
        if size:
            self.parts += parts
            over = -size % 8
            if over:
                self.parts.append(bytes(over))
            self.size += size + over


def _encode(pieces: Sequence[tuple[_Column, int, int]], body: _Body) -> None:
    first = pieces[0][0]
    count = sum(end - start for _, start, end in pieces)
    valid = _valid(pieces)
    nulls = 0 if valid is None else count - int(np.count_nonzero(valid))
    body.nodes += (count, nulls)
    if valid is not None and nulls:
        bits = np.packbits(valid, bitorder="little")
        body.buffer([bits.data], bits.nbytes)
    else:
        body.buffer([], 0)
    if first.offsets is None:
        if first.width:
            parts = [column.data[start * column.width : end * column.width] for column, start, end in pieces]
            body.buffer(parts, count * first.width)
        else:
            for index in range(len(first.children)):
                _encode([(column.children[index], start, end) for column, start, end in pieces], body)
        return
    offsets, spans = _rebased(pieces)
    body.buffer([offsets.data], offsets.nbytes)
    if first.children:
        _encode([(c.children[0], a, b) for (c, _, _), (a, b) in zip(pieces, spans, strict=True)], body)
        return
    parts = [column.data[a:b] for (column, _, _), (a, b) in zip(pieces, spans, strict=True)]
    body.buffer(parts, int(offsets[-1]))


def _valid(pieces: Sequence[tuple[_Column, int, int]]) -> npt.NDArray[np.bool_] | None:
    """A mask of the rows that are not null; None if no piece has nulls."""
    if len(pieces) == 1:
        ((column, start, end),) = pieces
        return None if column.valid is None else column.valid[start:end]
    if all(column.valid is None for column, _, _ in pieces):
        return None
    return np.concatenate(
        [np.ones(end - start, np.bool_) if c.valid is None else c.valid[start:end] for c, start, end in pieces]
    )


def _rebased(pieces: Sequence[tuple[_Column, int, int]]) -> tuple[npt.NDArray[Any], list[tuple[int, int]]]:
    """The offsets of all pieces as one array that begins at 0, and the range of each piece's values."""
    at = 0
    made: list[npt.NDArray[Any]] = []
    spans: list[tuple[int, int]] = []
    for column, start, end in pieces:
        assert column.offsets is not None
        own = column.offsets[start : end + 1]
        first, last = int(own[0]), int(own[-1])
        made.append((own if not made else own[1:]) + own.dtype.type(at - first))
        spans.append((first, last))
        at += last - first
    return (made[0] if len(made) == 1 else np.concatenate(made)), spans


def _column(array: pa.Array) -> _Column:
    kind, start, count = array.type, array.offset, len(array)
    buffers = array.buffers()
    valid = None
    if array.null_count:
        first = start // 8
        bits = np.frombuffer(buffers[0], np.uint8)[first : (start + count + 7) // 8]
        valid = np.unpackbits(bits, bitorder="little")[start - 8 * first :][:count].astype(np.bool_)
    if pa.types.is_struct(kind):
        return _Column(valid, None, 0, memoryview(b""), tuple(_column(array.field(i)) for i in range(kind.num_fields)))
    width = _offset_width(kind)
    if not width:
        size = kind.bit_width // 8
        return _Column(valid, None, size, _bytes(buffers[1])[start * size :])
    if buffers[1] is not None and buffers[1].size:
        offsets = np.frombuffer(buffers[1], np.dtype(f"<i{width}"), count + 1, start * width)
    else:  # an array of no rows may have no offsets
        offsets = np.zeros(1, np.dtype(f"<i{width}"))
    if _is_list(kind):
        return _Column(valid, offsets, 0, memoryview(b""), (_column(array.values),))
    return _Column(valid, offsets, 0, _bytes(buffers[2]))


def _bytes(buffer: pa.Buffer | None) -> memoryview:
    return memoryview(b"") if buffer is None else memoryview(buffer)


_SHORT: tuple[Callable[[pa.DataType], bool], ...] = (pa.types.is_string, pa.types.is_binary, pa.types.is_list)
_LONG: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_large_string,
    pa.types.is_large_binary,
    pa.types.is_large_list,
)


def _offset_width(kind: pa.DataType) -> int:
    """The size of an offset in bytes; 0 if the type has no offsets."""
    if any(test(kind) for test in _SHORT):
        return 4
    return 8 if any(test(kind) for test in _LONG) else 0


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _simple(kind: pa.DataType) -> bool:
    """Whether this module can encode columns of the type: not booleans, dictionaries, views and the like."""
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_simple(field.type) for field in kind)
    if _offset_width(kind):
        return not _is_list(kind) or _simple(kind.value_type)
    return bool(pa.types.is_fixed_size_binary(kind) or (pa.types.is_primitive(kind) and kind.bit_width % 8 == 0))


def _blocks_in(footer: memoryview) -> int:
    """The offset, in a file's footer, of the entry for the first record batch."""

    def word(at: int) -> int:
        return int.from_bytes(footer[at : at + 4], "little")

    table = word(0)
    vtable = table - int.from_bytes(footer[table : table + 4], "little", signed=True)
    slot = vtable + 4 + 2 * 3  # version, schema, dictionaries, record batches
    field = table + int.from_bytes(footer[slot : slot + 2], "little")
    return field + word(field) + 4


def cut(pending: Sequence[Piece], rows: int) -> Iterator[list[Piece]]:
    """Divides the pieces into runs of exactly `rows` rows. The last run may be shorter."""
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
