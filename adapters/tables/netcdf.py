"""Reads NetCDF 3: one row for each index of the first dimension of the variables.

A variable without this dimension, such as the latitudes, is repeated on each row. Values are unpacked by `scale_factor` and
`add_offset`, and those equal to `_FillValue` or `missing_value`, or never written, are null. Arrays of characters are texts.
Times are numbers as in the file; other attributes are not kept. Variables of several tables are refused. The reader of HDF5
reads NetCDF 4 in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.tables.array_columns import fields_of, step_of
from choline_data.adapters.tables.hdf5_values import piece_of
from choline_data.adapters.tables.netcdf_classic import ClassicFile
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.adapters.text_records.line_records import shards_of
from choline_data.errors import SourceFormatError, SourceTooLargeError, one_line

MAX_VARIABLES = 10_000
MAX_REPEATED_BYTES = 1 << 20
_REMEDY = "Convert it to Parquet, CSV or JSON Lines with xarray.open_dataset(FILE).to_dataframe()."
_CHARACTER = np.dtype("S1")
_UNWRITTEN = 9.969209968386869e36  # the value of a float that was never written, in a variable without _FillValue
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


@dataclass(frozen=True)
class NetCdfVariable:
    """A variable: its name, its dimensions, its shape, its type and its attributes."""

    name: str
    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def row_bytes(self) -> int:
        """The size of what belongs to one index of its first dimension."""
        return math.prod(self.shape[1:]) * max(self.dtype.itemsize, 8)


class _OpenFile(Protocol):
    """An open file of either version."""

    def variables(self) -> list[NetCdfVariable]: ...

    def values(self, name: str, start: int, end: int) -> np.ndarray: ...


@dataclass(frozen=True)
class NetCdf:
    """Reads the variables of a file in slices of their first dimension."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from row `start` on."""
        return batch_chunks(_classic_batches(shard), shard, start)


ADAPTER = NetCdf


def is_netcdf4(file: Any) -> bool:
    """Whether an open HDF5 file is NetCDF 4, or has dimensions as these files have."""
    import h5py

    return "_NCProperties" in file.attrs or any(isinstance(d, h5py.Dataset) and _is_scale(d) for d in file.values())


def netcdf4_batches(file: Any, name: str) -> Iterator[pa.RecordBatch]:
    """Yields the rows of an open HDF5 file that is NetCDF 4."""
    return _batches(_Hdf5Based(file, name), name)


def _classic_batches(shard: Shard) -> Iterator[pa.RecordBatch]:
    with local_file(shard.path, shard.name) as path, open(path, "rb") as file:
        yield from _batches(_Classic(ClassicFile(file, shard.name)), shard.name)


def _batches(file: _OpenFile, name: str) -> Iterator[pa.RecordBatch]:
    columns, repeated = _table(file.variables(), name)
    rows = columns[0].shape[0]
    constants = {v.name: _unpacked(file.values(v.name, 0, v.shape[0] if v.shape else 1), v) for v in repeated}
    step = step_of(sum(v.row_bytes for v in columns) + sum(c.nbytes for c, _ in constants.values()))
    for at in range(0, rows, step):
        count = min(step, rows - at)
        pairs = [pair for v in columns for pair in _column(v, *_unpacked(file.values(v.name, at, at + count), v))]
        for v in repeated:
            values, mask = constants[v.name]
            again = None if mask is None else np.repeat(mask[None], count, axis=0)
            pairs += _column(v, np.repeat(values[None], count, axis=0), again)
        yield pa.RecordBatch.from_arrays([array for _, array in pairs], schema=pa.schema([f for f, _ in pairs]))


def _table(variables: Sequence[NetCdfVariable], name: str) -> tuple[list[NetCdfVariable], list[NetCdfVariable]]:
    """Returns the variables that are columns, and those that are repeated on each row."""
    data = [v for v in variables if v.shape and v.dimensions != (v.name,)] or [v for v in variables if v.shape]
    if not data:
        raise SourceFormatError(f"{name} has no variable with a dimension.", remedy="Check the file: ncdump -h FILE.")
    first = max(data, key=lambda v: len(v.dimensions)).dimensions[0]
    columns = [v for v in variables if v.dimensions[:1] == (first,)]
    known = {dimension for v in columns for dimension in v.dimensions}
    repeated = [v for v in variables if v not in columns]
    wrong = next((v for v in repeated if first in v.dimensions or not set(v.dimensions) <= known), None)
    if wrong is not None:
        raise SourceFormatError(
            f"{name}: the variable {one_line(wrong.name, 60)} ({one_line(', '.join(wrong.dimensions), 80)}) is in another table "
            f"than those with the first dimension {one_line(first, 60)}.",
            remedy=_REMEDY,
        )
    size = sum(math.prod(v.shape) * max(v.dtype.itemsize, 8) for v in repeated)
    if size > max(MAX_REPEATED_BYTES, sum(v.row_bytes for v in columns)):
        raise SourceTooLargeError(
            f"{name}: its variables without the dimension {one_line(first, 60)} have {size:,} bytes, too many to repeat.",
            remedy=_REMEDY,
        )
    return columns, repeated


def _unpacked(values: np.ndarray, variable: NetCdfVariable) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the values that the stored ones stand for, and a mask of those that are missing."""
    about = variable.attributes
    if variable.dtype == _CHARACTER:
        texts = np.ascontiguousarray(values)
        if len(variable.shape) > 1:  # the last dimension counts the characters of texts
            texts = texts.view(f"S{values.shape[-1] or 1}")[..., 0]
        decoded = np.empty(texts.size, object)
        decoded[:] = [text.decode("utf-8", "strict") for text in texts.ravel().tolist()]
        return decoded.reshape(texts.shape), None
    if values.dtype.kind not in "iuf":
        return values, None
    if about.get("_Unsigned") in ("true", b"true") and values.dtype.kind == "i":
        values = values.view(values.dtype.str.replace("i", "u"))
    mask: np.ndarray | None = None
    fills = {"_FillValue": _UNWRITTEN, **about} if values.dtype.kind == "f" else about
    for key in ("_FillValue", "missing_value"):
        stated = np.ravel(np.asarray(fills[key])) if key in fills else np.empty(0)
        if stated.size and stated.dtype.kind in "iuf":
            mask = np.zeros(values.shape, bool) if mask is None else mask
            for fill in stated.astype(values.dtype):
                mask |= np.isnan(values) if fill != fill else values == fill
    if "scale_factor" in about or "add_offset" in about:
        scale, offset = (float(np.ravel(about.get(k, d))[0]) for k, d in (("scale_factor", 1), ("add_offset", 0)))
        values = values.astype(np.float64) * scale + offset
    return values, mask


def _column(variable: NetCdfVariable, values: np.ndarray, mask: np.ndarray | None) -> list[tuple[pa.Field, pa.Array]]:
    if mask is None:
        return list(fields_of(variable.name, values, variable.name))
    flat = np.ascontiguousarray(values).reshape(-1)
    column = pa.array(
        flat.astype(flat.dtype.newbyteorder("="), copy=False), mask=np.ascontiguousarray(mask).reshape(-1)
    )
    for size in reversed(values.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return [(pa.field(variable.name, column.type), column)]


class _Classic:
    """A file of NetCDF 3."""

    def __init__(self, file: ClassicFile) -> None:
        self._file = file
        self.values = file.values

    def variables(self) -> list[NetCdfVariable]:
        """Returns the variables in the order of the file."""
        return [
            NetCdfVariable(v.name, v.dimensions, v.shape, v.dtype.newbyteorder("="), v.attributes)
            for v in self._file.variables
        ]


class _Hdf5Based:
    """A file of NetCDF 4."""

    def __init__(self, file: Any, name: str) -> None:
        import h5py

        if len(file) > MAX_VARIABLES:
            raise SourceTooLargeError(f"{name} has more than {MAX_VARIABLES:,} variables.", remedy=_REMEDY)
        self._file = file
        if any(isinstance(item, h5py.Group) for item in file.values()):
            raise SourceFormatError(f"{name} has groups, which are tables of their own.", remedy=_REMEDY)
        self._by_id = {
            int(d.attrs["_Netcdf4Dimid"]): path
            for path, d in file.items()
            if "_Netcdf4Dimid" in d.attrs and _is_scale(d)
        }

    def variables(self) -> list[NetCdfVariable]:
        """Returns the variables in the order of their names."""
        return [
            NetCdfVariable(name, self._dimensions(name, d), d.shape or (), d.dtype, _attributes(d))
            for name, d in self._file.items()
            if not (_is_scale(d) and bytes(d.attrs.get("NAME", b"")).startswith(_NO_VARIABLE))
        ]

    def _dimensions(self, name: str, dataset: Any) -> tuple[str, ...]:
        if _is_scale(dataset):
            if len(dataset.shape) == 1:
                return (name,)
            ids = [int(each) for each in dataset.attrs.get("_Netcdf4Coordinates", ())]
            return tuple(self._by_id.get(each, f"{name}:{at}") for at, each in enumerate(ids))
        scales = [list(axis.values()) for axis in dataset.dims]
        return tuple(scale[0].name.lstrip("/") if scale else f"{name}:{axis}" for axis, scale in enumerate(scales))

    def values(self, name: str, start: int, end: int) -> np.ndarray:
        """Returns some values."""
        dataset = self._file[name]
        if not dataset.shape:
            value = dataset[()]
            return np.asarray(value.decode() if isinstance(value, bytes) else value)
        return piece_of(dataset, start, end)


def _is_scale(dataset: Any) -> bool:
    return bool(dataset.attrs.get("CLASS") == b"DIMENSION_SCALE")


def _attributes(dataset: Any) -> dict[str, Any]:
    names = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned")
    return {name: dataset.attrs[name] for name in names if name in dataset.attrs}


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of NetCDF 3."""
    return claim_tables(source, NetCdf(), "the content is NetCDF")
