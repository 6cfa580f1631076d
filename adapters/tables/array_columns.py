"""Turns arrays into columns: each index of the first axis is a row. Arrays of pictures become lossless PNG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.reading.media import MAX_PIXELS, MEDIUM
from choline_data.adapters.reading.png import png
from choline_data.adapters.reading.rows import column_of
from choline_data.errors import SourceFormatError, one_line

SLICE_BYTES = 4 << 20
_MIN_SIDE, _MOST_ASPECT = 8, 4


def fields_of(name: str, array: np.ndarray, where: str) -> Iterator[tuple[pa.Field, pa.Array]]:
    """Yields the columns of an array: one, or one for each field of a structured array."""
    if array.dtype.fields is None:
        column = array_column(array, f"{where}: {name}")
        if isinstance(column, tuple):
            yield column[0].with_name(name), column[1]
        else:
            yield pa.field(name, column.type), column
        return
    for field in array.dtype.names or ():
        yield from fields_of(field if name in ("", "value") else f"{name}.{field}", array[field], where)


def array_column(array: np.ndarray, where: str) -> Any:
    """Returns the rows of an array as an Arrow array, or as (field, array) if the values need a field of their own.

    The further axes become nested lists of a fixed size. Whole numbers in a second axis of length 1 are labels, one for each row.
    """
    kind = array.dtype.kind
    if kind == "c":
        raise SourceFormatError(
            f"{where} holds complex numbers.", remedy="Save real and imaginary parts as two arrays."
        )
    if kind == "V" or (kind == "f" and array.dtype.itemsize > 8):
        raise SourceFormatError(
            f"{where} has the type {one_line(array.dtype, 60)}, which can't be the type of a column.",
            remedy="Save it as float32, float64 or an integer type.",
        )
    if picture := picture_shape(array.shape, array.dtype):
        return _pictures(array, picture)
    if array.ndim == 2 and array.shape[1] == 1 and kind in "iub":
        array = array[:, 0]
    flat = np.ascontiguousarray(array).reshape(-1)
    if kind == "O":
        return column_of("", [_plain(value) for value in array.tolist()])
    if kind == "S":
        column = pa.array(flat.tolist(), pa.binary())
    elif kind in "UT":
        column = pa.array(flat.tolist(), pa.string())
    else:
        column = pa.array(flat.astype(flat.dtype.newbyteorder("="), copy=False))
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size) if size else _empty_lists(len(array), column.type)
    return column


def _plain(value: Any) -> Any:
    """Returns a value of an array of objects in types that Arrow knows."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _empty_lists(count: int, kind: pa.DataType) -> pa.Array:
    return pa.array([[]] * count, pa.list_(kind))


def picture_shape(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, int, int] | None:
    """Returns (height, width, channels) if each row is a picture: bytes with two axes, or with a third axis of 1, 3 or 4 channels.

    Small or very long areas are not pictures.
    """
    if dtype != np.uint8 or len(shape) not in (3, 4):
        return None
    sides = shape[1:]
    if len(sides) == 2:
        height, width, channels = *sides, 1
    elif sides[2] in (1, 3, 4):
        height, width, channels = sides
    elif sides[0] in (1, 3, 4):
        channels, height, width = sides
    else:
        return None
    low, high = sorted((height, width))
    fits = low >= _MIN_SIDE and high <= _MOST_ASPECT * low and high * low <= MAX_PIXELS
    return (height, width, channels) if fits else None


def _pictures(array: np.ndarray, shape: tuple[int, int, int]) -> pa.Array:
    height, width, channels = shape
    if array.ndim == 4 and array.shape[1:] != shape:
        array = np.moveaxis(array, 1, 3)
    coded = [{"bytes": png(one.tobytes(), width, height, channels), "path": None} for one in array]
    return pa.array(coded, MEDIUM)


def same_length(lengths: Mapping[str, int], where: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Returns the number of rows of arrays that are columns of one table. Raises SourceFormatError if they differ in length."""
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{name} {shapes[name]}" for name in list(shapes)[:8])
        raise SourceFormatError(
            f"{where}: its arrays have different lengths, so they are not columns of one table: {one_line(sizes, 200)}.",
            remedy="Save the arrays that belong together in a file of their own.",
        )
    return next(iter(lengths.values()), 0)


def step_of(row_bytes: int) -> int:
    """Returns the number of rows of a slice of bounded size."""
    return max(1, SLICE_BYTES // max(row_bytes, 1))


def batch_of(columns: Mapping[str, np.ndarray], where: str) -> pa.RecordBatch:
    """Returns slices of arrays as one batch."""
    columns_made = [pair for name, array in columns.items() for pair in fields_of(name, array, where)]
    return pa.RecordBatch.from_arrays(
        [array for _, array in columns_made], schema=pa.schema([field for field, _ in columns_made])
    )
