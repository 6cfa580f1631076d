"""Small helpers for Arrow arrays: their types, their buffers as numbers, and plain copies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]


Mask = npt.NDArray[np.bool_]


WHOLE = np.dtype("c16")  # a NumPy type of 16 bytes, the size of one Arrow string view; NumPy copies this type fastest


_FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}


@cache
def dtype_of(kind: pa.DataType) -> np.dtype[Any]:
    """Returns the NumPy dtype of a fixed-width Arrow type. Arrow's own `to_pandas_dtype` imports pandas if it is installed."""
    if pa.types.is_fixed_size_binary(kind):
        return np.dtype(f"V{kind.byte_width}")
    if pa.types.is_timestamp(kind):
        return np.dtype("<i8")
    name = str(kind)
    return np.dtype(_FLOATS.get(name, name))


@lru_cache(1024)
def constant(value: str | bool | int | None, kind: pa.DataType) -> pa.Scalar:
    """Returns an Arrow scalar of this type. Does not use `pa.scalar` or `pa.array`, which import pandas if it is installed."""
    if value is None:
        return pa.nulls(1, kind)[0]
    if isinstance(value, str):
        data = value.encode()
        offsets = np.array([0, len(data)], np.int64 if is_large(kind) else np.int32)
        return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])[0]
    if isinstance(value, bool):
        return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(bytes([value]))])[0]
    return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(np.array([value], dtype_of(kind)))])[0]


def fill_nulls(array: pa.Array, value: str | bool | int) -> pa.Array:
    """Returns the array with its nulls replaced by `value`; the same array if it has no nulls."""
    return pc.fill_null(array, constant(value, array.type)) if array.null_count else array


def array_of(values: npt.NDArray[Any]) -> pa.Array:
    """Converts NumPy numbers (not booleans) to an Arrow array. A contiguous array is not copied."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def strings(values: Sequence[str]) -> pa.Array:
    """Converts Python strings to an Arrow array."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    return pa.Array.from_buffers(
        pa.string(), len(encoded), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def numbers(array: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """Converts an Arrow array of numbers or booleans without nulls to a NumPy array. Numbers in one chunk are not copied.

    Arrow's own `to_numpy` imports pandas if it is installed, which takes a quarter of a second before the first sample.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    data, count = array.buffers()[1], len(array)
    if not count or data is None:
        return np.empty(0, dtype_of(array.type))
    if pa.types.is_boolean(array.type):
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little", count=array.offset + count)
        return bits[array.offset :].view(np.bool_)
    dtype = dtype_of(array.type)
    return np.frombuffer(data, dtype, count, array.offset * dtype.itemsize)


def distinct(values: npt.NDArray[Any]) -> list[int]:
    """Returns the distinct numbers in ascending order.

    For short arrays only. `np.unique` is not used, because it imports `numpy.ma`, which delays the first sample by some
    10 ms.
    """
    return sorted(set(values.tolist()))


def byte_lengths(array: pa.Array) -> Ints:
    """Returns the length of each string in bytes, and 0 for null.

    Also works for view types, which `pc.binary_length` does not support.
    """
    if array.type not in (pa.string_view(), pa.binary_view()):
        return numbers(fill_nulls(pc.binary_length(array), 0)).astype(np.int64)
    views = np.frombuffer(array.buffers()[1], np.int32, 4 * len(array), array.offset * WHOLE.itemsize)
    lengths = views[::4].astype(np.int64)
    return lengths if not array.null_count else np.where(numbers(array.is_valid()), lengths, 0)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values of this type are strings or bytes of any length."""
    return bool(
        pa.types.is_large_string(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this type are strings."""
    return bool(pa.types.is_large_string(kind) or pa.types.is_string(kind))


def plain(array: pa.Array) -> pa.Array:
    """Returns the array with view types, at any nesting depth, converted to ordinary strings and bytes."""
    kind = _plain_type(array.type)
    return array if kind == array.type else array.cast(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    return kind


def is_large(kind: pa.DataType) -> bool:
    """Whether the type is a string or binary type with 64-bit offsets."""
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))
