"""Reads NumPy arrays (NPY, NPZ): one row for each index of the first axis. Arrays of objects are refused: they are pickles.

A plain array is the column `value`; a structured array has a column for each field. The arrays of an NPZ, and NPY files with
different names in one folder, are columns if they have the same length. Names such as `x_train` and `y_test` name splits. A sparse
matrix that SciPy saved has a row for each of its rows.
"""

from __future__ import annotations

import io as stdio
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.names import in_order, parts
from choline_data.adapters.reading.split_words import split_named
from choline_data.adapters.tables.array_columns import batch_of, same_length, step_of
from choline_data.adapters.tables.sparse_matrices import is_saved_matrix, saved_matrix_batches
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.errors import ChoiceNeededError, SourceDamagedError, SourceFormatError, SourceTooLargeError, one_line

MAX_ARRAY_BYTES = 1 << 30
_NUMBERS = re.compile(r"[-._]?\d+([-._]?of[-._]?\d+)?$|^\d+")


@dataclass(frozen=True)
class NumpyArrays:
    """Reads NPY files as mapped memory. An array of an NPZ is held in memory; `max_array_bytes` bounds it."""

    max_array_bytes: int = MAX_ARRAY_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each NPY or each group of NPY files that are columns, and one for each split of an NPZ.

        `member` is the split's name within the arrays' names.
        """
        shards: list[Shard] = []
        plain: list[SourceFile] = []
        for file in in_order(files):
            if not io.head(file.path, 4).startswith(b"PK"):
                plain.append(file)
                continue
            with _damage(file.name), local_file(file.path, file.name) as path, zipfile.ZipFile(path) as archive:
                words = dict.fromkeys(_split_word(name) for name in archive.namelist() if name.endswith(".npy"))
            for word in words:
                shards.append(Shard(file.path, file.name, member=word, size=file.size, split=split_named(word)))
        for group in _tables(plain):
            first, size = group[0], sum(file.size for file in group)
            shards.append(Shard(first.path, first.name, files=tuple(group[1:]), size=size))
        order = {file.name: at for at, file in enumerate(in_order(files))}
        return sorted(shards, key=lambda shard: order[shard.name])

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from row `start` on."""
        return batch_chunks(self._batches(shard), shard, start)

    def _batches(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        with _damage(shard.name), ExitStack() as opened:
            path = opened.enter_context(local_file(shard.path, shard.name))
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    arrays = dict(self._members(archive, shard))
                    if is_saved_matrix(archive.namelist()):
                        yield from saved_matrix_batches(arrays, shard.name)
                        return
            elif not shard.files:
                arrays = {"value": _mapped(path, shard.name)}
            else:
                arrays = {_column_of(shard.name): _mapped(path, shard.name)}
                for file in shard.files:
                    path = opened.enter_context(local_file(file.path, file.name))
                    arrays[_column_of(file.name)] = _mapped(path, file.name)
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


def _mapped(path: str, name: str) -> np.ndarray:
    with open(path, "rb") as file:
        _checked_header(file, name)
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _column_of(name: str) -> str:
    """Returns the column of an NPY file: its name without the words of splits."""
    stem = parts(name)[-1].split(".")[0]
    return _column_name(stem, _split_word(stem))


def _tables(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
    """Yields groups of NPY files, each of which is one table. Files with different names in one folder are columns if
    they have the same length.

    Raises ChoiceNeededError if they could also be parts of one array, and SourceFormatError if they are neither.
    """
    groups: dict[tuple[str, ...], list[SourceFile]] = {}
    for file in files:
        *folders, last = parts(file.name)
        word = split_named(_split_word(last.split(".")[0]))
        groups.setdefault((*folders, word, file.split, file.config), []).append(file)
    for group in groups.values():
        if len({_NUMBERS.sub("", _column_of(file.name)) for file in group}) == 1:
            yield from ([file] for file in group)
            continue
        headers = [_header_of(file) for file in group]
        lengths = {shape[:1] for shape, _ in headers}
        kinds = {(shape[1:], dtype) for shape, dtype in headers}
        if len(lengths) == 1 and len(kinds) > 1 and len({_column_of(file.name) for file in group}) == len(group):
            yield group
            continue
        names = ", ".join(f"{f.name} {shape}" for f, (shape, _) in list(zip(group, headers, strict=True))[:4])
        if len(lengths) == 1:
            raise ChoiceNeededError(
                f"{one_line(names, 200)}: these arrays may be columns of one table, or rows of one array.",
                remedy="Choose --config-by file (each file is a config), or save them as columns of one .npz.",
            )
        if len(kinds) > 1:
            raise SourceFormatError(
                f"{one_line(names, 200)}: these arrays are neither columns of one table nor parts of one array.",
                remedy=f"Choose one with --include {group[0].name!r}, or --config-by file.",
            )
        yield from ([file] for file in group)


def _header_of(file: SourceFile) -> tuple[tuple[int, ...], np.dtype]:
    """Returns the shape and the type of an NPY file."""
    with _damage(file.name):
        head = stdio.BytesIO(io.head(file.path, 64 << 10))
        version = np.lib.format.read_magic(head)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(head)
    return shape, dtype


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
    shapes = {name: array.shape for name, array in arrays.items()}
    count = same_length({name: shape[0] if shape else 1 for name, shape in shapes.items()}, where, shapes)
    step = step_of(sum(array.nbytes // max(count, 1) for array in arrays.values()))
    for at in range(0, count, step):
        pieces = {name: array[at : at + step] if array.ndim else array.reshape(1) for name, array in arrays.items()}
        yield batch_of(pieces, where)


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
