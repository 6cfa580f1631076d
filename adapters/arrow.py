"""Reads Arrow IPC files, streams and Feather. Checks every length against the file's size before it decodes anything."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import (
    BATCH_ROWS,
    MAX_ROW_BYTES,
    FormatClaim,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
    from_row,
)
from choline_data.adapters.reading import batches, io, plain_files
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError, one_line

MAX_BATCH_BYTES = 256 << 20
MAX_BATCH_ROWS = 1 << 27
_MAGIC = b"ARROW1"
_FEATHER_1 = b"FEA1"
_CONTINUATION = b"\xff\xff\xff\xff"
_DICTIONARY, _BATCH = 2, 3  # the numbers that stand for the kinds of Arrow messages


@dataclass(frozen=True)
class ArrowFile:
    """Reads Arrow IPC files and streams, and Feather. A compressed batch may expand to at most `max_batch_bytes`."""

    max_row_bytes: int = MAX_ROW_BYTES
    max_batch_bytes: int = MAX_BATCH_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return [Shard(file.path, file.name, size=file.size) for file in files]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the shard's rows from row `start` on. Each batch is validated before it is used."""
        return from_row(start, self._chunks(shard))

    def _chunks(self, shard: Shard) -> Iterator[SourceChunk]:
        row = 0
        folders = batches.partitions(shard.name)
        for batch in self._batches(shard):
            # Null rows use no bytes, so the file's size does not limit their number.
            if batch.num_rows > MAX_BATCH_ROWS:
                raise SourceTooLargeError(
                    f"{shard.name}: the batch after row {row} states {batch.num_rows:,} rows; "
                    f"the limit (MAX_BATCH_ROWS) is {MAX_BATCH_ROWS:,}.",
                    remedy="Write it again with smaller batches.",
                )
            try:
                batch.validate(full=True)
            except pa.ArrowInvalid as error:
                why = one_line(error, 200)
                raise SourceDamagedError(
                    f"{shard.name}: the batch after row {row} is not valid: {why}.", remedy="Write it again."
                ) from error
            for at in range(0, batch.num_rows, BATCH_ROWS):
                plain = batches.storage(batch.slice(at, BATCH_ROWS))
                for piece in batches.decoded(plain, shard.name, self.max_row_bytes):
                    whole = batches.with_partitions(piece, folders)
                    yield from batches.bounded(whole, np.arange(row, row + whole.num_rows, dtype=np.int64))
                    row += whole.num_rows

    def _batches(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        with _refusing(shard.name), io.open_raw(shard.path) as raw:
            head = raw.read(8)
            if plain_files.compression_of(head):
                raise SourceFormatError(f"{shard.name} is compressed as a whole.", remedy="Decompress it first.")
            if head.startswith(_FEATHER_1):
                raise SourceFormatError(
                    f"{shard.name} is Feather version 1.",
                    remedy="Write it again as Feather version 2 or Parquet.",
                )
            in_file = head.startswith(_MAGIC)
            size = raw.seek(0, os.SEEK_END)
            damage = self._check(raw, 8 if in_file else 0, size, shard.name, in_file)
            raw.seek(0)
            source = io.arrow_input(raw, shard.path)
            if in_file and damage is None:
                with pa.ipc.open_file(source) as reader:
                    batches.check_columns(reader.schema, shard.name)
                    for i in range(reader.num_record_batches):
                        yield reader.get_batch(i)
                return
            if in_file:
                source.seek(8)
            with pa.ipc.open_stream(source) as stream:
                batches.check_columns(stream.schema, shard.name)
                for _ in range(damage[0] if damage else 1 << 62):
                    try:
                        yield stream.read_next_batch()
                    except StopIteration:
                        break
            if damage:
                raise damage[1]

    def _check(
        self, raw: BinaryIO, at: int, size: int, name: str, in_file: bool
    ) -> tuple[int, SourceDamagedError] | None:
        """Checks all messages. Returns (number of whole batches before the damage, the error), or None without damage."""
        whole = 0
        while at < size:
            raw.seek(at)
            prefix = raw.read(8)
            if prefix[:4] != _CONTINUATION and in_file and at == 8:
                # Polars writes no prefix for the schema. Readers of files do not need it: the footer has a schema too.
                at = _first_block(raw, size)
                continue
            if prefix[:4] != _CONTINUATION or len(prefix) < 8:
                why = f"bytes that are no message at byte {at:,}"
                return None if in_file and whole else (whole, _damaged(name, why))
            (length,) = struct.unpack("<i", prefix[4:])
            if length == 0:
                # the end of a stream; after it there can only be the footer of a file, or bytes of something else
                return None
            if length < 0 or at + 8 + length > size:
                return whole, _damaged(name, f"a message of {length:,} bytes at byte {at:,}")
            try:
                kind, body, declared = _header(raw.read(length), raw, at + 8 + length)
            except (struct.error, IndexError) as error:
                raise _damaged(name, f"a broken message at byte {at:,}") from error
            if body < 0 or at + 8 + length + body > size:
                return whole, _damaged(name, f"the message at byte {at:,} is truncated")
            if any(n < -1 for n in declared):
                raise _damaged(name, f"a buffer of negative length in the message at byte {at:,}")
            if sum(declared) > self.max_batch_bytes:
                raise SourceTooLargeError(
                    f"{name}: the batch at byte {at:,} states {sum(declared):,} bytes uncompressed; "
                    f"the limit (max_batch_bytes) is {self.max_batch_bytes:,}.",
                    remedy="Write it again with smaller batches.",
                )
            whole += kind == _BATCH
            at += 8 + length + body
        return (whole, _damaged(name, "no footer")) if in_file else None


ADAPTER = ArrowFile


def _damaged(name: str, why: str) -> SourceDamagedError:
    return SourceDamagedError(f"{name} can't be read as Arrow IPC: {why}.", remedy="Fetch it again.")


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise _damaged(name, one_line(str(error).strip(), 200)) from error


def _first_block(raw: BinaryIO, size: int) -> int:
    """Returns the byte position of the file's first dictionary or batch, from its footer. Returns `size` if there is
    none.
    """
    raw.seek(size - 10)
    tail = raw.read(10)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length > size - 18:
        return size
    raw.seek(size - 10 - length)
    footer = raw.read(length)
    try:
        tables = [_follow(footer, _field(footer, _uint(footer, 0), number)) for number in (2, 3)]
        offsets = [
            struct.unpack_from("<q", footer, at + 4 + 24 * n)[0]
            for at in tables
            if at
            for n in range(_uint(footer, at))
        ]
    except struct.error:
        return size
    return min((offset for offset in offsets if 8 < offset < size), default=size)


def _header(meta: bytes, raw: BinaryIO, body_at: int) -> tuple[int, int, list[int]]:
    """Reads from a message's flatbuffer: (header type, body length, declared uncompressed buffer lengths)."""
    message = _uint(meta, 0)
    kind = meta[_field(meta, message, 1)] if _field(meta, message, 1) else 0
    place = _field(meta, message, 3)
    body = struct.unpack_from("<q", meta, place)[0] if place else 0
    header = _follow(meta, _field(meta, message, 2))
    if kind == _DICTIONARY and header:
        header = _follow(meta, _field(meta, header, 1))
    if kind not in (_DICTIONARY, _BATCH) or not header or not _field(meta, header, 3):
        return kind, body, []
    vector = _follow(meta, _field(meta, header, 2))
    if not vector:
        return kind, body, []
    declared = []
    for i in range(_uint(meta, vector)):
        offset, length = struct.unpack_from("<qq", meta, vector + 4 + 16 * i)
        if length >= 8:
            raw.seek(body_at + max(offset, 0))
            prefix = raw.read(8)
            declared.append(struct.unpack("<q", prefix)[0] if len(prefix) == 8 else -2)
    return kind, body, declared


def _uint(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _follow(data: bytes, at: int) -> int:
    """Returns the position to which the offset at `at` points, or 0 for an absent field."""
    return at + _uint(data, at) if at else 0


def _field(data: bytes, table: int, number: int) -> int:
    """Returns the position of field `number` of the flatbuffer table; 0 if it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0 or 4 + 2 * number + 2 > struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0


def detect(source: Source) -> list[FormatClaim]:
    """Claims files named .arrow, .arrows, .feather or .ipc, and files of any name that begin like Arrow IPC."""
    files = tuple(f for f in source.files if _is_arrow(f))
    return [FormatClaim(ArrowFile(), files, 1.0, "the content is Arrow IPC")] if files else []


def _is_arrow(file: SourceFile) -> bool:
    head = io.raw_head(file.path, 8)
    named = io.extension(file.name) in ("arrow", "arrows", "feather", "ipc")
    return head.startswith((_MAGIC, _FEATHER_1)) or named or (head[:4] == _CONTINUATION and len(head) == 8)
