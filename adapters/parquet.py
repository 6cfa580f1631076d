"""Parquet: row groups of big files as shards, partition folders as columns, bounded memory whatever a file claims.

Rows are numbered within the file, also in a shard that is a range of its row groups. Page checksums are verified where
the writer left any. Extension types are read as their storage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from choline_data.adapters import io, records
from choline_data.adapters.base import (
    BATCH_BYTES,
    BATCH_ROWS,
    MAX_ROW_BYTES,
    Chunk,
    Claim,
    Shard,
    Source,
    SourceFile,
    chunk_of,
)
from choline_data.errors import SourceDamagedError, SourceTooLargeError, one_line

SHARD_BYTES = 128 << 20
MAX_EXPANSION = 4 << 30  # bytes that one row group may become out of dictionaries
BUFFERED_ROW_GROUP = 64 << 20  # above this, column chunks are read through a buffer and not whole
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Parquet:
    """Reads Parquet files."""

    max_row_bytes: int = MAX_ROW_BYTES
    max_expansion_bytes: int = MAX_EXPANSION

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """One shard a file; a file of 256 MiB and more in runs of row groups of about 128 MiB."""
        found = []
        for file in files:
            if file.size < 2 * SHARD_BYTES:
                found.append(Shard(file.path, file.name, size=file.size))
                continue
            with _opened(file.path, file.name) as parquet:
                found += [
                    Shard(file.path, file.name, start=start, end=end, size=size)
                    for start, end, size in _runs(parquet.metadata)
                ]
        return found

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[Chunk]:
        """The shard's rows from row `start` of the file on."""
        folders = records.partitions(shard.name)
        with _opened(shard.path, shard.name) as parquet:
            records.check_columns(parquet.schema_arrow, shard.name)
            meta = parquet.metadata
            groups = range(shard.start, shard.end if shard.end >= 0 else meta.num_row_groups)
            row = sum(meta.row_group(i).num_rows for i in range(shard.start))
            for group in groups:
                count = meta.row_group(group).num_rows
                if row + count > start:
                    for batch in self._row_group(shard, parquet, group):
                        skip = min(max(start - row, 0), batch.num_rows)
                        if skip < batch.num_rows:
                            kept = records.with_partitions(batch.slice(skip), folders)
                            yield chunk_of(kept, row + skip)
                        row += batch.num_rows
                else:
                    row += count

    def _row_group(self, shard: Shard, parquet: pq.ParquetFile, group: int) -> Iterator[pa.RecordBatch]:
        """The row group in batches of bounded size, its columns as storage types."""
        meta = parquet.metadata.row_group(group)
        if meta.total_byte_size > self.max_row_bytes * max(1, meta.num_rows):
            raise SourceTooLargeError(
                f"{shard.name}: a row of row group {group} has over {self.max_row_bytes:,} bytes; "
                "that is the limit (max_row_bytes)."
            )
        repeated = _repeated(meta)
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES * meta.num_rows // max(1, meta.total_byte_size)))
        expanded = seen = 0
        with _opened(shard.path, shard.name, repeated, meta.total_byte_size > BUFFERED_ROW_GROUP) as file:
            for batch in file.iter_batches(rows, row_groups=[group]):
                batch = records.storage(batch)
                for piece in records.decoded(batch, shard.name, self.max_row_bytes):
                    _validate(piece, shard.name, group)
                    if repeated:
                        expanded += piece.nbytes
                        self._check_expansion(expanded, shard.name, group)
                    seen += piece.num_rows
                    if piece.nbytes > BATCH_BYTES and piece.num_rows > 1:
                        for small in records.bounded(piece, np.arange(piece.num_rows)):
                            yield small.batch
                    else:
                        yield piece
        if seen != meta.num_rows:
            raise SourceDamagedError(
                f"{shard.name}: row group {group} has {seen:,} rows, its footer says {meta.num_rows:,}.",
                remedy="Fetch it again.",
            )

    def _check_expansion(self, size: int, name: str, group: int) -> None:
        if size > self.max_expansion_bytes:
            raise SourceTooLargeError(
                f"{name}: row group {group} becomes over {self.max_expansion_bytes:,} bytes; "
                "that is the limit (max_expansion_bytes).",
                remedy="Raise it with the adapter option max_expansion_bytes if the file is meant to be so.",
            )


ADAPTER = Parquet


def _runs(meta: pq.FileMetaData) -> Iterator[tuple[int, int, int]]:
    """(first row group, the one after the last, compressed bytes) of runs of about SHARD_BYTES."""
    first = size = 0
    for i in range(meta.num_row_groups):
        group = meta.row_group(i)
        size += sum(group.column(c).total_compressed_size for c in range(group.num_columns))
        if size >= SHARD_BYTES or i == meta.num_row_groups - 1:
            yield first, i + 1, size
            first, size = i + 1, 0


def _repeated(meta: pq.RowGroupMetaData) -> tuple[str, ...]:
    """Flat text columns whose values may be far bigger decoded than encoded: few bytes a value, out of a dictionary."""
    found = []
    for i in range(meta.num_columns):
        column = meta.column(i)
        dictionary = any("DICTIONARY" in e for e in column.encodings)
        flat = "." not in column.path_in_schema
        if dictionary and flat and column.physical_type == "BYTE_ARRAY":
            worst = min(meta.num_rows, BATCH_ROWS) * column.total_uncompressed_size
            if worst > BATCH_BYTES and column.total_uncompressed_size < 64 * column.num_values:
                found.append(column.path_in_schema)
    return tuple(found)


@contextmanager
def _opened(
    path: str, name: str, dictionaries: Sequence[str] = (), buffered: bool = False
) -> Iterator[pq.ParquetFile]:
    """The file, checked; every way in which it can be broken is a SourceDamagedError that names it."""
    with io.open_raw(path) as raw:
        try:
            source = io.arrow_input(raw, path)
            with pq.ParquetFile(
                source,
                read_dictionary=list(dictionaries),
                pre_buffer=False,
                buffer_size=(1 << 20) if buffered else 0,
                page_checksum_verification=True,
                thrift_string_size_limit=64 << 20,
                thrift_container_size_limit=1 << 20,
                arrow_extensions_enabled=False,
            ) as file:
                yield file
        except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
            raise SourceDamagedError(
                f"{name}: not readable as Parquet: {one_line(str(error).strip(), 200)}.",
                remedy="Fetch it again.",
            ) from error


def _validate(batch: pa.RecordBatch, name: str, group: int) -> None:
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise SourceDamagedError(f"{name}: row group {group}: {one_line(error, 200)}") from error


def detect(source: Source) -> list[Claim]:
    """Files that begin as Parquet, whatever their name, and those named .parquet."""
    files = tuple(
        f
        for f in source.files
        if io.extension(f.name) in ("parquet", "pq") or io.raw_head(f.path, 4) == _MAGIC
    )
    return [Claim(Parquet(), files, 1.0, "the content is Parquet")] if files else []
