"""Reads MATLAB files (MAT) with SciPy, and version 7.3 with h5py: one row for each index of the axis that all variables share.

This axis is the first or the last one: pictures lie as height x width x channels x row. Fields of a struct are columns of their
own. A cell array of texts is a column of texts. A variable whose axis is not clear is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.tables.array_columns import batch_of, step_of
from choline_data.adapters.tables.matlab_hdf5 import matlab_hdf5_variables
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.errors import (
    MissingDependencyError,
    SourceDamagedError,
    SourceFormatError,
    SourceTooLargeError,
    one_line,
)

MAX_BYTES = 1 << 30
MAX_DEPTH = 8
_CONVERT = "Save the variables that belong together as arrays of one length, in a file of their own."


@dataclass(frozen=True)
class Matlab:
    """Reads the variables of a MAT file. Memory holds all of them; MAX_BYTES bounds the size of each."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return [Shard(f.path, f.name, size=f.size) for f in in_order(files)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from row `start` on."""
        return batch_chunks(_batches(shard), shard, start)


ADAPTER = Matlab


def _batches(shard: Shard) -> Iterator[pa.RecordBatch]:
    with _damage(shard.name), local_file(shard.path, shard.name) as path:
        arrays = dict(_arrays(_variables(path, shard.name), shard.name))
    rows = _rows(arrays, shard.name)
    turned = {name: _first_axis(array, rows) for name, array in arrays.items()}
    step = step_of(sum(array.nbytes // max(rows, 1) for array in turned.values()))
    for at in range(0, rows, step):
        yield batch_of({name: array[at : at + step] for name, array in turned.items()}, shard.origin)


def _variables(path: str, name: str) -> Mapping[str, Any]:
    with open(path, "rb") as file:
        if file.read(10) == b"MATLAB 7.3":
            return matlab_hdf5_variables(path, name, MAX_BYTES)
    try:
        from scipy import io as scipy_io
    except ModuleNotFoundError as error:
        raise MissingDependencyError("arrays", "Reading MATLAB files") from error
    for variable, shape, _ in scipy_io.whosmat(path):
        if math.prod(shape) * 8 > MAX_BYTES:
            raise SourceTooLargeError(
                f"{name}: {one_line(variable, 60)} has the shape {shape}, above {MAX_BYTES:,} bytes (MAX_BYTES).",
                remedy="Save it as .npy or HDF5, which are read in pieces.",
            )
    variables: Mapping[str, Any] = scipy_io.loadmat(path)
    return {key: value for key, value in variables.items() if not key.startswith("__")}


def _arrays(values: Mapping[str, Any], where: str, depth: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the variables as arrays by name. A struct yields its fields as `name.field`."""
    for name, value in values.items():
        if not isinstance(value, np.ndarray) or depth > MAX_DEPTH or type(value) is not np.ndarray:
            raise SourceFormatError(
                f"{where}: {one_line(name, 60)} is {_called(value)}, which has no rows.", remedy=_CONVERT
            )
        if value.dtype.fields is not None:
            fields = {f"{name}.{field}": value[field] for field in value.dtype.names or ()}
            inside = {key: field.flat[0] if field.size == 1 else field.ravel() for key, field in fields.items()}
            yield from _arrays(inside, where, depth + 1)
        elif value.dtype.kind == "O":
            yield name, _cells(value)
        else:
            yield name, value


def _called(value: object) -> str:
    return {"csc_matrix": "a sparse matrix", "csc_array": "a sparse matrix"}.get(type(value).__name__, "an object")


def _cells(value: np.ndarray) -> np.ndarray:
    """Returns the cells of a cell array as one axis: texts and single numbers as such, other arrays as lists."""
    cells = np.empty(value.size, object)
    for at, cell in enumerate(value.ravel(order="F")):
        if isinstance(cell, np.ndarray) and cell.dtype.fields is None:
            cells[at] = cell.tolist() if cell.size != 1 else cell.item()
            if cell.dtype.kind == "U" and cell.size == 0:
                cells[at] = ""
        else:
            cells[at] = cell
    return cells


def _rows(arrays: Mapping[str, np.ndarray], where: str) -> int:
    """Returns the length that all variables have as their first or their last axis. Ignores single values."""
    shapes = {name: array.shape for name, array in arrays.items()}
    choices = [_lengths(array) for array in arrays.values()]
    shared = set.intersection(*choices) if choices else set()
    if len(shared) == 2 and len(arrays) == 1:
        shared = _lone(next(iter(arrays.values()))) or shared
    if len(shared) != 1:
        sizes = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:8])
        raise SourceFormatError(
            f"{where}: it is not clear which axis of its variables counts the rows: {one_line(sizes, 200)}.",
            remedy=_CONVERT,
        )
    rows = shared.pop()
    square = next((n for n, a in arrays.items() if a.ndim > 1 and a.shape[0] == a.shape[-1] == rows > 1), "")
    if square:
        raise SourceFormatError(
            f"{where}: the first and the last axis of {one_line(square, 60)} have {rows} places, so it is not clear which of "
            "them counts the rows.",
            remedy=_CONVERT,
        )
    return rows


def _lengths(array: np.ndarray) -> set[int]:
    """Returns the lengths that may be the number of rows."""
    if array.ndim == 1 or array.dtype.kind == "U":
        return {array.shape[0] if array.ndim else 1}
    if array.ndim == 2 and 1 in array.shape:
        return {array.size}
    return {array.shape[0], array.shape[-1]}


def _lone(array: np.ndarray) -> set[int]:
    """Returns the possible numbers of rows of a variable that is alone in its file: the first axis of a matrix, the
    last one of pictures. Empty if unclear.
    """
    if array.ndim == 4 and array.shape[2] in (1, 3, 4):
        return {array.shape[-1]}
    return {array.shape[0]} if array.ndim == 2 else set()


def _first_axis(array: np.ndarray, rows: int) -> np.ndarray:
    if array.ndim == 2 and 1 in array.shape and array.dtype.kind != "U":
        return array.reshape(-1)
    if array.ndim > 1 and array.shape[0] != rows:
        return np.moveaxis(array, -1, 0)
    return array


@contextmanager
def _damage(name: str) -> Iterator[None]:
    try:
        yield
    # SciPy has no error of its own for a damaged file.
    except (ValueError, OSError, EOFError, KeyError, IndexError, TypeError, NotImplementedError) as error:
        raise SourceDamagedError(
            f"{name}: not readable as MATLAB variables: {one_line(error, 160)}.",
            remedy="Fetch it again, or save it with -v7.",
        ) from error


def detect(source: Source) -> list[FormatClaim]:
    """Claims the MATLAB files."""
    return claim_tables(source, Matlab(), "variables of MATLAB")
