"""What the formats of binary tables share: a local copy of a file, and chunks of record batches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, from_row
from choline_data.adapters.base import Adapter as AnyAdapter
from choline_data.adapters.reading import batches, io, plain_files
from choline_data.adapters.reading.names import is_about
from choline_data.places.locations import local_path

SLICE_ROWS = 1024


@contextmanager
def local_file(path: str, name: str) -> Iterator[str]:
    """Context manager: gives a local path of a file. A file that is remote, compressed or in an archive is copied to a
    temporary folder.
    """
    with io.open_raw(path) as raw:
        local = local_path(path)
        whole = local is not None and os.path.exists(local) and not plain_files.compression_of(raw.read(8))
    if whole and local is not None:
        yield local
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(name) or "copy")
        with open(copy, "wb") as file:
            for piece in io.pieces(path, name):
                file.write(piece)
        yield copy


def batch_chunks(found: Iterable[pa.RecordBatch], shard: Shard, start: int = 0) -> Iterator[SourceChunk]:
    """Yields the rows of consecutive batches from row `start` on, in bounded chunks and in types that every consumer supports."""

    def chunks() -> Iterator[SourceChunk]:
        row, checked = 0, False
        for batch in found:
            if not checked:
                batches.check_columns(batch.schema, shard.origin)
                checked = True
            for at in range(0, batch.num_rows, SLICE_ROWS):
                plain = batches.storage(batch.slice(at, SLICE_ROWS))
                for piece in batches.decoded(plain, shard.name, MAX_ROW_BYTES):
                    yield from batches.bounded(piece, np.arange(row, row + piece.num_rows, dtype=np.int64))
                    row += piece.num_rows

    return from_row(start, chunks())


def claim_tables(source: Source, adapter: AnyAdapter, evidence: str) -> list[FormatClaim]:
    """Returns a claim on all files of the source that hold data.

    The registry offers a format only the files that the table gives it.
    """
    files = tuple(f for f in source.files if not is_about(f.name) or not source.folder)
    return [FormatClaim(adapter, files, 1.0, evidence)] if files else []
