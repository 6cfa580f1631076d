"""Reads the variables of a MATLAB 7.3 file, which is HDF5, as SciPy gives those of older files.

Arrays lie transposed in the file. Texts become arrays of str, cells arrays of objects, and the fields of a struct variables of
their own, named `struct.field`. Sparse matrices and objects of classes (tables, strings, times) are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from choline_data.errors import (
    MissingDependencyError,
    SourceDamagedError,
    SourceFormatError,
    SourceTooLargeError,
    one_line,
)

MAX_DEPTH = 8
MAX_CELLS = 10_000_000
_CONVERT = "Save the variables as plain arrays, structs or cells, or convert the file in MATLAB."
_NUMBERS = frozenset(
    ["double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "logical", ""]
)


def matlab_hdf5_variables(path: str, name: str, limit: int) -> dict[str, np.ndarray]:
    """Returns the variables by name. Raises SourceTooLargeError if they have more than `limit` bytes together."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingDependencyError("arrays", "Reading MATLAB 7.3 files") from error
    try:
        with h5py.File(path, "r", locking=False) as file:
            reader = _Reader(file, name, limit)
            return dict(
                pair for key, item in file.items() if not key.startswith("#") for pair in reader.named(key, item)
            )
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise SourceDamagedError(
            f"{name}: not readable as MATLAB 7.3: {one_line(error, 160)}.", remedy="Fetch it again."
        ) from error


class _Reader:
    """Turns the items of one open file into arrays, and counts their bytes and cells."""

    def __init__(self, file: Any, name: str, limit: int) -> None:
        self._file, self._name, self._limit = file, name, limit
        self._bytes = self._cells = 0

    def named(self, key: str, item: Any, depth: int = 0) -> Iterator[tuple[str, np.ndarray]]:
        """Yields an item as arrays with their names: several for a struct."""
        import h5py

        if depth > MAX_DEPTH:
            raise self._refused(key, f"nested above {MAX_DEPTH} levels")
        if not isinstance(item, h5py.Group):
            yield key, self._array(key, item, depth)
            return
        if "MATLAB_sparse" in item.attrs:
            raise self._refused(key, "a sparse matrix")
        if _class(item) != "struct":
            raise self._refused(key, "an object")
        for field, value in item.items():
            yield from self.named(f"{key}.{field}", value, depth + 1)

    def _array(self, key: str, dataset: Any, depth: int) -> np.ndarray:
        import h5py

        kind = _class(dataset)
        if "MATLAB_object_decode" in dataset.attrs:
            raise self._refused(key, f"an object of the class {one_line(kind, 40)!r}")
        self._bytes += math.prod(dataset.shape or ()) * dataset.dtype.itemsize
        if self._bytes > self._limit:
            raise SourceTooLargeError(
                f"{self._name}: its variables have more than {self._limit:,} bytes (MAX_BYTES).",
                remedy="Save it as .npy or HDF5, which are read in pieces.",
            )
        if dataset.attrs.get("MATLAB_empty", 0):
            shape = tuple(int(size) for size in np.ravel(dataset[()]))
            if math.prod(shape):
                raise self._refused(key, "an empty array that is not empty")
            return np.array([""]) if kind == "char" else np.empty(shape, object if kind == "cell" else float)
        value = np.asarray(dataset[()])
        if h5py.check_ref_dtype(dataset.dtype) is not None:
            return self._cell_array(key, value, depth)  # a cell array, or a field of an array of structs
        if kind == "char":
            return _texts(value)
        if kind not in _NUMBERS:
            raise self._refused(key, f"an object of the class {one_line(kind, 40)!r}")
        if value.dtype.fields is not None:
            raise self._refused(key, "an array of complex numbers")
        return value.T.astype(bool) if kind == "logical" else value.T

    def _cell_array(self, key: str, references: np.ndarray, depth: int) -> np.ndarray:
        self._cells += references.size
        if self._cells > MAX_CELLS:
            raise SourceTooLargeError(f"{self._name}: above {MAX_CELLS:,} cells.", remedy=_CONVERT)
        cells = np.empty(references.T.shape, object)
        for at, reference in np.ndenumerate(references.T):
            ((_, cells[at]),) = self._cell(key, reference, depth)
        return cells

    def _cell(self, key: str, reference: Any, depth: int) -> list[tuple[str, np.ndarray]]:
        found = list(self.named(key, self._file[reference], depth + 1))
        if len(found) != 1 or found[0][0] != key:
            raise self._refused(key, "a cell array of structs")
        return found

    def _refused(self, key: str, what: str) -> SourceFormatError:
        return SourceFormatError(f"{self._name}: {one_line(key, 60)} is {what}, which has no rows.", remedy=_CONVERT)


def _class(item: Any) -> str:
    value = item.attrs.get("MATLAB_class", b"")
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _texts(value: np.ndarray) -> np.ndarray:
    """Returns the rows of an array of UTF-16 code units as texts. MATLAB fills shorter rows with blanks, which are kept."""
    units = np.ascontiguousarray(np.atleast_2d(value.T).astype("<u2"))
    rows = units.reshape(-1, units.shape[-1]) if units.ndim > 2 else units
    return np.array([row.tobytes().decode("utf-16-le", "surrogatepass") for row in rows])
