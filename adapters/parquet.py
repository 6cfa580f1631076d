"""Reads Parquet. Shards of big files are ranges of row groups, partition folders become columns, and memory is bounded.

Rows are numbered within the file, even if the shard is a range of row groups. Page checksums are verified if the file has
them. Extension types are read as their storage types.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from choline_data.adapters import int96
from choline_data.adapters.base import (
    BATCH_BYTES,
    BATCH_ROWS,
    MAX_ROW_BYTES,
    FormatClaim,
    Reject,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
    chunk_of,
)
from choline_data.adapters.reading import batches, io
from choline_data.adapters.reading.known.identity import without_impostors
from choline_data.columns.arrow_values import array_of
from choline_data.errors import SourceDamagedError, SourceTooLargeError, one_line

SHARD_BYTES = 128 << 20
MAX_EXPANSION = 4 << 30  # maximum bytes of one row group after its dictionaries are decoded
# In a row group of at most this many rows, oversized rows are rejected. In a larger one they are an error.
FEW_ROWS = 1000
BUFFERED_ROW_GROUP = 64 << 20  # above this size in bytes, column chunks are read through a buffer, not whole
_MAGIC = b"PAR1"
_TAIL_BYTES = 64 << 10  # Most footers are smaller, so one ranged read usually gets the whole footer.


@dataclass(frozen=True)
class Parquet:
    """Reads Parquet files. If `columns` is not empty, reads only these columns."""

    max_row_bytes: int = MAX_ROW_BYTES
    max_expansion_bytes: int = MAX_EXPANSION
    columns: tuple[str, ...] = ()

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file. A file of 256 MiB or more is split into ranges of row groups of about 128 MiB."""
        shards = []
        for file in files:
            if file.size < 2 * SHARD_BYTES:
                shards.append(Shard(file.path, file.name, size=file.size))
                continue
            with _opened(file.path, file.name) as parquet:
                shards += [
                    Shard(file.path, file.name, start=start, end=end, size=size)
                    for start, end, size in _runs(parquet.metadata)
                ]
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the shard's rows from row `start` on, counted from the beginning of the file."""
        with _opened(shard.path, shard.name) as parquet:
            batches.check_columns(parquet.schema_arrow, shard.name)
            meta = parquet.metadata
        row = sum(meta.row_group(i).num_rows for i in range(shard.start))
        with _Reopened(shard, meta) as files:
            for group in range(shard.start, shard.end if shard.end >= 0 else meta.num_row_groups):
                count = meta.row_group(group).num_rows
                if row + count > start:
                    for chunk in self._chunks(files, group, row):
                        yield from _from_row(start, chunk)
                row += count

    def row_group(self, shard: Shard, meta: pq.FileMetaData, group: int, row: int) -> Iterator[SourceChunk]:
        """Yields one row group of a file whose footer is known. `row` is the number of its first row.

        If rows are too large, a group of at most FEW_ROWS rows is rejected, and a larger group raises SourceTooLargeError.
        """
        with _Reopened(shard, meta) as files:
            yield from self._chunks(files, group, row)

    def _chunks(self, files: _Reopened, group: int, row: int) -> Iterator[SourceChunk]:
        shard = files.shard
        about = files.footer.row_group(group)
        if about.total_byte_size > self.max_row_bytes * max(1, about.num_rows) and 0 < about.num_rows <= FEW_ROWS:
            why = f"a row of row group {group} has over {self.max_row_bytes:,} bytes (max_row_bytes)"
            rejects = tuple(Reject(shard.origin, row + n, why) for n in range(about.num_rows))
            yield chunk_of(pa.record_batch({}), row, rejects)
            return
        folders = batches.partitions(shard.name)
        unit, inexact = self._times(files, group)
        inexact += row
        if len(inexact):
            rejects = tuple(Reject(shard.origin, int(each), int96.REASON) for each in inexact)
            yield chunk_of(pa.record_batch({}), row, rejects)
        for batch in self._row_group(files, group, unit):
            rows = np.arange(row, row + batch.num_rows, dtype=np.int64)
            row += batch.num_rows
            if len(inexact):
                keep = np.isin(rows, inexact, invert=True)
                batch, rows = batch.take(array_of(np.flatnonzero(keep))), rows[keep]
            if batch.num_rows:
                yield SourceChunk(batches.with_partitions(batch, folders), rows)

    def _row_group(self, files: _Reopened, group: int, unit: str) -> Iterator[pa.RecordBatch]:
        """Yields the row group in batches of bounded size, with the columns as storage types."""
        shard, meta = files.shard, files.footer.row_group(group)
        if meta.total_byte_size > self.max_row_bytes * max(1, meta.num_rows):
            raise SourceTooLargeError(
                f"{shard.name}: a row of row group {group} has more than {self.max_row_bytes:,} bytes; "
                "that is the limit (max_row_bytes).",
                remedy="Write it again with smaller values.",
            )
        repeated = _repeated(meta)
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES * meta.num_rows // max(1, meta.total_byte_size)))
        expanded = seen = 0
        buffered = meta.total_byte_size > BUFFERED_ROW_GROUP
        file = files.opened(repeated, buffered, unit)
        wanted, threads = self._wanted(file), _worth_threads(meta)
        with _damage(shard.name):
            for batch in file.iter_batches(rows, row_groups=[group], columns=wanted, use_threads=threads):
                batch = batches.storage(batch)
                for piece in batches.decoded(batch, shard.name, self.max_row_bytes):
                    _validate(piece, shard.name, group)
                    if repeated:
                        expanded += piece.nbytes
                        self._check_expansion(expanded, shard.name, group)
                    seen += piece.num_rows
                    if piece.nbytes > BATCH_BYTES and piece.num_rows > 1:
                        for small in batches.bounded(piece, np.arange(piece.num_rows)):
                            yield small.batch
                    else:
                        yield piece
        if seen != meta.num_rows:
            raise SourceDamagedError(
                f"{shard.name}: row group {group} has {seen:,} rows, its footer says {meta.num_rows:,}.",
                remedy="Fetch it again.",
            )

    def _times(self, files: _Reopened, group: int) -> tuple[str, np.ndarray]:
        """Returns the unit for the INT96 times of a row group, and the rows with a time that this unit cannot represent."""
        wanted = int96.columns_of(files.footer.row_group(group))
        if not wanted:
            return "ns", np.empty(0, np.int64)
        with _damage(files.shard.name):
            return int96.unit_of(files.read_in, group, wanted)

    def _wanted(self, file: pq.ParquetFile) -> list[str] | None:
        if not self.columns:
            return None
        # Without any column there would be no rows. The mapping reports a missing column.
        return [name for name in file.schema_arrow.names if name in self.columns] or None

    def _check_expansion(self, size: int, name: str, group: int) -> None:
        if size > self.max_expansion_bytes:
            raise SourceTooLargeError(
                f"{name}: row group {group} expands to more than {self.max_expansion_bytes:,} bytes; "
                "that is the limit (max_expansion_bytes).",
                remedy="Raise it with the adapter option max_expansion_bytes if you trust the file.",
            )


ADAPTER = Parquet


class _Reopened:
    """Keeps a file with a known footer open between row groups. Reopens it if a row group needs other read options."""

    def __init__(self, shard: Shard, footer: pq.FileMetaData) -> None:
        self.shard = shard
        self.footer = footer
        self._how: tuple[tuple[str, ...], bool, str] | None = None
        self._file: pq.ParquetFile | None = None
        self._stack = ExitStack()

    def __enter__(self) -> _Reopened:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read_in(self, unit: str) -> AbstractContextManager[pq.ParquetFile]:
        """Opens the file again, with INT96 times in this unit."""
        return _opened(self.shard.path, self.shard.name, (), True, self.footer, unit)

    def opened(self, dictionaries: tuple[str, ...], buffered: bool, unit: str) -> pq.ParquetFile:
        """Returns the file, opened with these options. Stays open for the next call with the same options.

        `dictionaries` are the columns to read as dictionaries, `buffered` reads column chunks through a buffer, and `unit` is
        the unit for INT96 times.
        """
        if self._file is None or self._how != (dictionaries, buffered, unit):
            self._stack.close()
            path, name = self.shard.path, self.shard.name
            self._file = self._stack.enter_context(_opened(path, name, dictionaries, buffered, self.footer, unit))
            self._how = dictionaries, buffered, unit
        return self._file


def _from_row(start: int, chunk: SourceChunk) -> Iterator[SourceChunk]:
    """Yields the chunk without the rows and rejects before row `start`."""
    if not chunk.batch.num_rows:
        yield replace(chunk, rejects=tuple(r for r in chunk.rejects if r.row >= start))
        return
    skip = int(np.searchsorted(chunk.rows, start))
    if skip < chunk.batch.num_rows:
        yield SourceChunk(chunk.batch.slice(skip), chunk.rows[skip:]) if skip else chunk


def _runs(meta: pq.FileMetaData) -> Iterator[tuple[int, int, int]]:
    """Yields (first row group, last row group + 1, compressed bytes) of ranges of about SHARD_BYTES."""
    first = size = 0
    for i in range(meta.num_row_groups):
        group = meta.row_group(i)
        size += sum(group.column(c).total_compressed_size for c in range(group.num_columns))
        if size >= SHARD_BYTES or i == meta.num_row_groups - 1:
            yield first, i + 1, size
            first, size = i + 1, 0


def _worth_threads(meta: pq.RowGroupMetaData) -> bool:
    """Returns whether reading with one thread for each column is faster. It is not if one column, such as a document's
    text, has most of the bytes.
    """
    sizes = [meta.column(i).total_uncompressed_size for i in range(meta.num_columns)]
    return bool(2 * max(sizes, default=0) < sum(sizes))


def _repeated(meta: pq.RowGroupMetaData) -> tuple[str, ...]:
    """Returns the flat text columns that are dictionary-encoded and have few encoded bytes per value. Decoded, they may
    be huge.
    """
    names = []
    for i in range(meta.num_columns):
        column = meta.column(i)
        dictionary = any("DICTIONARY" in e for e in column.encodings)
        flat = "." not in column.path_in_schema
        if dictionary and flat and column.physical_type == "BYTE_ARRAY":
            worst = min(meta.num_rows, BATCH_ROWS) * column.total_uncompressed_size
            if worst > BATCH_BYTES and column.total_uncompressed_size < 64 * column.num_values:
                names.append(column.path_in_schema)
    return tuple(names)


@contextmanager
def _opened(
    path: str,
    name: str,
    dictionaries: Sequence[str] = (),
    buffered: bool = False,
    footer: pq.FileMetaData | None = None,
    unit: str = "ns",
) -> Iterator[pq.ParquetFile]:
    """Opens the file with checks. If it is broken in any way, raises SourceDamagedError with its name."""
    with io.open_raw(path) as raw, _damage(name):
        source = io.arrow_input(raw, path)
        with pq.ParquetFile(
            source,
            metadata=footer,
            read_dictionary=list(dictionaries),
            pre_buffer=False,
            buffer_size=(1 << 20) if buffered else 0,
            page_checksum_verification=True,
            coerce_int96_timestamp_unit=unit,
            thrift_string_size_limit=64 << 20,
            thrift_container_size_limit=1 << 20,
            arrow_extensions_enabled=False,
        ) as file:
            yield file


@contextmanager
def _damage(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise SourceDamagedError(
            f"{name} can't be read as Parquet: {one_line(str(error).strip(), 200)}.",
            remedy="Fetch it again.",
        ) from error


def footer_of(path: str, name: str) -> tuple[str, pq.FileMetaData]:
    """Returns the sha256 of the file's footer, and the parsed footer. Reads only the end of the file."""
    with io.open_raw(path) as raw:
        size = raw.seek(0, 2)
        raw.seek(max(size - _TAIL_BYTES, 0))
        tail = raw.read()
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if tail[-4:] != _MAGIC or length > size:
            raise SourceDamagedError(f"{name}: not readable as Parquet: it has no footer.", remedy="Fetch it again.")
        if length > len(tail):
            raw.seek(size - length)
            tail = raw.read()
    tail = tail[-length:]
    try:
        limits = {"thrift_string_size_limit": 64 << 20, "thrift_container_size_limit": 1 << 20}
        return hashlib.sha256(tail).hexdigest(), pq.ParquetFile(pa.BufferReader(tail), **limits).metadata
    except (pa.ArrowException, OSError) as error:
        raise SourceDamagedError(
            f"{name}: not readable as Parquet: {one_line(str(error).strip(), 200)}.", remedy="Fetch it again."
        ) from error


def _validate(batch: pa.RecordBatch, name: str, group: int) -> None:
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise SourceDamagedError(
            f"{name}: row group {group}: {one_line(error, 200)}.", remedy="Fetch it again."
        ) from error


def detect(source: Source) -> list[FormatClaim]:
    """Claims files named .parquet or .pq, and files of any name that begin with Parquet's magic bytes."""
    parquet_files = {f for f in source.files if io.raw_head(f.path, 4) == _MAGIC}
    named = [f for f in source.files if io.extension(f.name) in ("parquet", "pq") and f not in parquet_files]
    files = tuple(f for f in source.files if f in parquet_files.union(without_impostors(named)))
    return [FormatClaim(Parquet(), files, 1.0, "the content is Parquet")] if files else []
