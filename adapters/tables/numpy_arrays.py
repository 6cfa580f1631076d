"""Reads NumPy arrays (NPY, NPZ): one row for each index of the first axis. Arrays of objects are refused: they are pickles.

A plain array is the column `value`; a structured array has a column for each field. The arrays of an NPZ are columns if they
have the same length. Names such as `x_train` and `y_test` name splits.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.reading.split_words import split_named
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError, one_line

MAX_ARRAY_BYTES = 1 << 30
_SLICE_BYTES = 4 << 20


@dataclass(frozen=True)
class NumpyArrays:
    """Reads NPY files as mapped memory. An array of an NPZ is held in memory; `max_array_bytes` bounds it."""

    max_array_bytes: int = MAX_ARRAY_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each NPY, and one for each split of an NPZ.

        `member` is the split's name within the arrays' names.
        """
        found: list[Shard] = []
        for file in in_order(files):
            if not io.head(file.path, 4).startswith(b"PK"):
                found.append(Shard(file.path, file.name, size=file.size))
                continue
            with _damage(file.name), local_file(file.path, file.name) as path, zipfile.ZipFile(path) as archive:
                words = dict.fromkeys(_split_word(name) for name in archive.namelist() if name.endswith(".npy"))
            for word in words:
                found.append(Shard(file.path, file.name, member=word, size=file.size, split=split_named(word)))
        return found

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from row `start` on."""
        return batch_chunks(self._batches(shard), shard, start)

    def _batches(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        with _damage(shard.name), local_file(shard.path, shard.name) as path:
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    arrays = dict(self._members(archive, shard))
            else:
                with open(path, "rb") as file:
                    _checked_header(file, shard.name)
                arrays = {"value": np.load(path, mmap_mode="r", allow_pickle=False)}
            yield from _rows(arrays, shard.origin)

    def _members(self, archive: zipfile.ZipFile, shard: Shard) -> Iterator[tuple[str, np.ndarray]]:
        for info in archive.infolist():
            if not info.filename.endswith(".npy") or _split_word(info.filename) != shard.member:
                continue
            name = f"{shard.name}!/{info.filename}"
            with archive.open(info) as file:
                size = _checked_header(file, name)
            if size > self.max_array_bytes or size > info.file_size:
                raise SourceTooLargeError(
                    f"{name}: an array of {size:,} bytes (limit: max_array_bytes {self.max_array_bytes:,}; the member has "
                    f"{info.file_size:,}).",
                    remedy="Save it as .npy, which is read in pieces.",
                )
            with archive.open(info) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            yield _column_name(info.filename, shard.member), array


ADAPTER = NumpyArrays


def _split_word(member: str) -> str:
    """Returns the word of an array's name that names a split: "train" for `x_train.npy` or `train_x.npy`; "" if there is none."""
    words = member.removesuffix(".npy").split("_")
    return next((word for word in (words[-1], words[0]) if len(words) > 1 and split_named(word)), "")


def _column_name(member: str, word: str) -> str:
    name = member.removesuffix(".npy")
    return name.removesuffix("_" + word).removeprefix(word + "_") if word else name


def _checked_header(file: Any, name: str) -> int:
    """Returns the size of the array in bytes, from its header. Raises for an array of objects and for complex numbers."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise SourceFormatError(
            f"{name} holds Python objects, which are pickles.", remedy="A pickle is never loaded. Save plain arrays."
        )
    if any(part.kind == "c" for part in _parts(dtype)):
        raise SourceFormatError(f"{name} holds complex numbers.", remedy="Save real and imaginary parts as two arrays.")
    return int(np.prod(shape, dtype=object)) * dtype.itemsize


def _parts(dtype: np.dtype) -> Iterator[np.dtype]:
    if dtype.fields is None:
        yield dtype.base
        return
    for part, *_ in dtype.fields.values():
        yield from _parts(part)


def _rows(arrays: Mapping[str, np.ndarray], where: str) -> Iterator[pa.RecordBatch]:
    lengths = {name: array.shape[0] if array.ndim else 1 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{name} {arrays[name].shape}" for name in list(arrays)[:8])
        raise SourceFormatError(
            f"{where}: its arrays have different lengths, so they are not columns of one table: {one_line(sizes, 200)}.",
            remedy="Save the arrays that belong together in a file of their own.",
        )
    count = next(iter(lengths.values()), 0)
    row_bytes = sum(array.nbytes // max(count, 1) for array in arrays.values())
    step = max(1, _SLICE_BYTES // max(row_bytes, 1))
    for at in range(0, count, step):
        columns: dict[str, pa.Array] = {}
        for name, array in arrays.items():
            columns.update(_columns(name, array[at : at + step] if array.ndim else array.reshape(1)))
        yield pa.RecordBatch.from_pydict(columns)


def _columns(name: str, array: np.ndarray) -> Iterator[tuple[str, pa.Array]]:
    if array.dtype.fields is None:
        yield name, _column(array)
        return
    for field in array.dtype.names or ():
        yield field, _column(array[field])


def _column(array: np.ndarray) -> pa.Array:
    """Returns the rows as a column. The further axes become nested lists of a fixed size."""
    if array.dtype.fields is not None:
        parts = {field: _column(array[field]) for field in array.dtype.names or ()}
        return pa.StructArray.from_arrays(list(parts.values()), names=list(parts))
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.kind == "S":
        column = pa.array(flat.tolist(), pa.binary())
    elif flat.dtype.kind in "UV":
        column = pa.array(flat.tolist())
    else:
        column = pa.array(flat.astype(flat.dtype.newbyteorder("="), copy=False))
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size) if size else _empty_lists(len(array), column.type)
    return column


def _empty_lists(count: int, kind: pa.DataType) -> pa.Array:
    return pa.array([[]] * count, pa.list_(kind))


@contextmanager
def _damage(name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise SourceDamagedError(
            f"{name}: not readable as NumPy arrays: {one_line(error, 160)}.", remedy="Fetch it again."
        ) from error


def detect(source: Source) -> list[FormatClaim]:
    """Claims the NPY and NPZ files."""
    return claim_tables(source, NumpyArrays(), "the content is NumPy arrays")
