"""Reads Matrix Market with SciPy: one row of the matrix for each row, with its values as lists of indices and values.

Indices count from 0. `size` is the number of columns of the matrix. Symmetric matrices are completed. A dense matrix has its values
as one list. The sparse matrices that SciPy saves as NPZ are read in the same way. Complex matrices are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.tables.array_columns import batch_of, step_of
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.adapters.text_records.line_records import shards_of
from choline_data.errors import (
    MissingDependencyError,
    SourceDamagedError,
    SourceFormatError,
    SourceTooLargeError,
    one_line,
)

MAX_MATRIX_BYTES = 2 << 30
_STEP_ROWS = 4096
_SAVED = frozenset({"format", "shape", "data"})


@dataclass(frozen=True)
class MatrixMarket:
    """Reads matrices. Memory holds the whole matrix; MAX_MATRIX_BYTES bounds it."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows of the matrix from row `start` on."""
        return batch_chunks(_batches(shard), shard, start)


ADAPTER = MatrixMarket


def _batches(shard: Shard) -> Iterator[pa.RecordBatch]:
    head = io.head(shard.path).decode("latin-1")
    words = head.split("\n", 1)[0].lower().split()
    if len(words) != 5 or words[1] != "matrix" or words[3] == "complex":
        raise SourceFormatError(
            f"{shard.name} is Matrix Market of another kind than a matrix of real numbers: {one_line(words, 80)}.",
            remedy="Save real and imaginary parts as two matrices.",
        )
    sizes = next((line.split() for line in head.split("\n")[1:] if line.strip() and line[0] != "%"), [])
    try:
        rows, columns, *entries = map(int, sizes)
    except ValueError as error:
        raise SourceDamagedError(
            f"{shard.name} does not state the size of its matrix.", remedy="Fetch it again."
        ) from error
    _check_size(8 * rows + 24 * entries[0] if entries else 8 * rows * columns, shard.name)
    try:
        from scipy.io import mmread
    except ModuleNotFoundError as error:
        raise MissingDependencyError("arrays", "Reading Matrix Market") from error
    with local_file(shard.path, shard.name) as path:
        try:
            matrix = mmread(path)
        except (ValueError, OverflowError, OSError, StopIteration) as error:
            raise SourceDamagedError(
                f"{shard.name}: not readable as Matrix Market: {one_line(error, 160)}.", remedy="Fetch it again."
            ) from error
    if isinstance(matrix, np.ndarray):
        step = step_of(matrix.itemsize * columns)
        for at in range(0, rows, step):
            yield batch_of({"value": matrix[at : at + step]}, shard.origin)
    else:
        yield from _rows(matrix)


def _check_size(size: int, name: str) -> None:
    if size > MAX_MATRIX_BYTES:
        raise SourceTooLargeError(
            f"{name}: a matrix of {size:,} bytes; the limit (MAX_MATRIX_BYTES) is {MAX_MATRIX_BYTES:,}.",
            remedy="Split it by rows.",
        )


def _rows(matrix: Any) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a sparse matrix."""
    ordered = matrix.tocsr()
    ordered.sort_indices()
    rows, columns = ordered.shape
    for at in range(0, rows, _STEP_ROWS):
        offsets = ordered.indptr[at : at + _STEP_ROWS + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        places = pa.array((offsets - first).astype(np.int32))
        count = len(offsets) - 1
        yield pa.RecordBatch.from_pydict(
            {
                "indices": pa.ListArray.from_arrays(places, pa.array(ordered.indices[first:last].astype(np.int64))),
                "values": pa.ListArray.from_arrays(places, pa.array(ordered.data[first:last])),
                "size": pa.array(np.full(count, columns, np.int64)),
            }
        )


def is_saved_matrix(names: Sequence[str]) -> bool:
    """Whether the arrays of an NPZ are a sparse matrix that SciPy saved."""
    return {name.removesuffix(".npy") for name in names} >= _SAVED


def saved_matrix_batches(arrays: Mapping[str, np.ndarray], name: str) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a sparse matrix from the arrays of an NPZ."""
    try:
        from scipy import sparse
    except ModuleNotFoundError as error:
        raise MissingDependencyError("arrays", "Reading sparse matrices") from error
    kind = arrays["format"].item()
    kind = kind.decode("ascii") if isinstance(kind, bytes) else str(kind)
    shape = tuple(int(each) for each in np.ravel(arrays["shape"]))
    if len(shape) != 2 or kind not in ("csr", "csc", "coo", "bsr", "dia"):
        raise SourceFormatError(
            f"{name} is a sparse array of the kind {one_line(kind, 20)} with {len(shape)} axes.",
            remedy="Save it as a matrix with scipy.sparse.save_npz.",
        )
    _check_size(8 * shape[0] + 24 * arrays["data"].size, name)
    made: Any
    if kind == "coo":
        places = (arrays["row"], arrays["col"]) if "row" in arrays else tuple(arrays["coords"])
        made = sparse.coo_matrix((arrays["data"], places), shape=shape)
    elif kind == "dia":
        made = sparse.dia_matrix((arrays["data"], arrays["offsets"]), shape=shape)
    else:
        make = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "bsr": sparse.bsr_matrix}[kind]
        made = make((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
        made.check_format(full_check=True)
    yield from _rows(made)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of Matrix Market."""
    return claim_tables(source, MatrixMarket(), "the content is Matrix Market")
