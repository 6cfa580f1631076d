"""Reads the values of a column without copying them. The values are in Arrow arrays, or in blocks of mapped store
files.

Code that picks rows (`columns/gather.py`) uses the same interface, `Parts`, for both. `BlockParts` reads the numbers in
the headers of all blocks at once, because one record batch for each block and one array for each column would cost more
than copying the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.columns.arrow_values import Ints, Mask, dtype_of, is_bytes, is_large, numbers
from choline_data.columns.row_ranges import numbers_in

_FEW_ROWS = 16  # with fewer rows in a piece on average, rows are picked one by one and not copied as slices
BASE_LIMIT = (1 << 31) - 1  # a view's offset into its buffer has 31 bits


@dataclass(frozen=True)
class Spans:
    """The places of strings or bytes: for each its length, its start in a buffer, and the index of this buffer in `bases`."""

    lengths: Ints
    starts: Ints
    buffers: npt.NDArray[np.int32]
    bases: list[pa.Buffer]
    held: int  # the total size in bytes of those bases that are not mapped files


class Parts(Protocol):
    """Interface: one column of some rows. Its values are in Arrow arrays or in mapped files."""

    @property
    def valid(self) -> Mask | None:
        """Returns a mask of the rows that are not null; None if no row is null."""

    def fixed(self) -> npt.NDArray[Any]:
        """Returns the values of a fixed-width column, as one array."""

    def spans(self) -> Spans:
        """Returns where each string or bytes value lies: its buffer, its start and its length."""

    def lists(self) -> tuple[Ints, Ints, Parts]:
        """Returns, for each list, the index of its first item and its number of items; then the items of all lists as
        one column.
        """

    def field(self, index: int) -> Parts:
        """Returns the column of one field of a struct column."""


class ArrowParts:
    """A column that consists of the Arrow arrays in `arrays`, in order. `maps` are the mapped files that may contain
    their buffers.
    """

    def __init__(self, kind: pa.DataType, arrays: Sequence[pa.Array], maps: Sequence[pa.Buffer] = ()) -> None:
        self._kind = kind
        self._arrays = arrays
        self._maps = maps

    @property
    def valid(self) -> Mask | None:
        """Returns a mask of the rows that are not null; None if no row is null."""
        if not any(array.null_count for array in self._arrays):
            return None
        return np.concatenate([numbers(array.is_valid()) for array in self._arrays])

    def fixed(self) -> npt.NDArray[Any]:
        """Returns the values of a fixed-width column, as one array."""
        if pa.types.is_boolean(self._kind):
            return _joined([numbers(array.fill_null(False)) for array in self._arrays])
        dtype = dtype_of(self._kind)
        return _joined(
            [
                np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)
                for array in self._arrays
            ]
        )

    def spans(self) -> Spans:
        """Returns where each string or bytes value lies: its buffer, its start and its length."""
        bases: list[pa.Buffer] = []
        unmapped = 0
        known: dict[int, int] = {}
        maps = [(m.address, m.address + m.size, m) for m in self._maps if m.size <= BASE_LIMIT]
        width = np.dtype("<i8") if is_large(self._kind) else np.dtype("<i4")
        count = sum(len(array) for array in self._arrays)
        lengths, starts, buffers = np.empty(count, np.int64), np.empty(count, np.int64), np.zeros(count, np.int32)
        at = 0
        for array in self._arrays:
            size = len(array)
            if not size:
                continue
            _, offsets, data = array.buffers()
            ends: npt.NDArray[Any] = np.frombuffer(offsets, width, size + 1, array.offset * width.itemsize)
            upto = at + size
            np.subtract(ends[1:], ends[:-1], out=lengths[at:upto])
            if data is not None:
                base, shift = _base_of(data, int(ends[0]), int(ends[-1]), maps)
                number = known.get(base.address)
                if number is None:
                    number = known[base.address] = len(bases)
                    bases.append(base)
                    if not any(base is mapped for _, _, mapped in maps):
                        unmapped += base.size
                np.add(ends[:-1], shift, out=starts[at:upto])
                if number:
                    buffers[at:upto] = number
            at = upto
        return Spans(lengths, starts, buffers, bases, unmapped)

    def lists(self) -> tuple[Ints, Ints, Parts]:
        """Returns, for each list, the index of its first item and its number of items; then the items of all lists as
        one column.
        """
        starts, lengths, items = [], [], []
        at = 0
        for array in self._arrays:
            ends = numbers(array.offsets).astype(np.int64)
            first, last = (int(ends[0]), int(ends[-1])) if len(ends) else (0, 0)
            starts.append(ends[:-1] - first + at)
            lengths.append(ends[1:] - ends[:-1])
            items.append(array.values.slice(first, last - first))
            at += last - first
        return _joined(starts), _joined(lengths), ArrowParts(self._kind.value_type, items, self._maps)

    def field(self, index: int) -> Parts:
        """Returns the column of one field of a struct column."""
        return ArrowParts(self._kind.field(index).type, [array.field(index) for array in self._arrays], self._maps)


@dataclass(frozen=True)
class Place:
    """Where a header has the numbers of a column: the index of its node, the index of its first buffer, and the places
    of its child columns.
    """

    kind: pa.DataType
    node: int
    buffer: int
    children: tuple[Place, ...] = ()


def places_of(schema: pa.Schema) -> dict[str, Place] | None:
    """Returns the place of each column in the headers of a schema's messages.

    None if the buffer layout of a type is not supported.
    """
    nodes = buffers = 0

    def place(kind: pa.DataType) -> Place:
        nonlocal nodes, buffers
        node, buffer = nodes, buffers
        nodes += 1
        if pa.types.is_struct(kind):
            buffers += 1
            return Place(kind, node, buffer, tuple(place(field.type) for field in kind))
        if pa.types.is_list(kind):
            buffers += 2
            return Place(kind, node, buffer, (place(kind.value_type),))
        if is_bytes(kind):
            buffers += 3
        elif pa.types.is_fixed_size_binary(kind) or pa.types.is_primitive(kind):
            buffers += 2
        else:
            raise NotImplementedError(kind)
        return Place(kind, node, buffer)

    try:
        return {field.name: place(field.type) for field in schema}
    except NotImplementedError:
        return None


@dataclass(frozen=True)
class Blocks:
    """Blocks of mapped files: the position of each block's buffers in its file, and the null counts of its columns."""

    maps: list[pa.Buffer]
    files: Ints  # for each block, the index of its file in `maps`
    buffers: npt.NDArray[np.int64]  # [block, buffer]: position of the buffer's first byte in the file, a multiple of 8
    nulls: npt.NDArray[np.int64]  # [block, node]: number of nulls


class BlockParts:
    """One column of mapped blocks. It has the rows starts[i] … starts[i] + counts[i] - 1 of each block i."""

    def __init__(self, blocks: Blocks, place: Place, starts: Ints, counts: Ints) -> None:
        self._blocks = blocks
        self._place = place
        self._starts = starts
        self._counts = counts

    def _items(self, files: Ints, starts: Ints, counts: Ints, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Reads values from mapped files. For each i, reads the values starts[i] … starts[i] + counts[i] - 1 of file
        files[i]. Both are counted in values.
        """
        memory = [np.frombuffer(mapped, dtype, mapped.size // dtype.itemsize) for mapped in self._blocks.maps]
        if counts.sum() >= _FEW_ROWS * len(counts):
            each = zip(files.tolist(), starts.tolist(), (starts + counts).tolist(), strict=True)
            return _joined([memory[file][start:stop] for file, start, stop in each])
        index = numbers_in(starts, counts)
        if len(memory) == 1:
            return memory[0][index]
        out, of_file = np.empty(len(index), dtype), np.repeat(files, counts)
        for number, file_bytes in enumerate(memory):
            mine = np.flatnonzero(of_file == number)
            out[mine] = file_bytes[index[mine]]
        return out

    def _of_rows(self, buffer: int, dtype: np.dtype[Any], after: int = 0) -> npt.NDArray[Any]:
        """Returns, for each row, the value in this buffer of the column at the row's index plus `after`."""
        first = self._blocks.buffers[:, self._place.buffer + buffer] // dtype.itemsize
        return self._items(self._blocks.files, first + self._starts + after, self._counts, dtype)

    def _bits(self, buffer: int, among: Mask | None = None) -> Mask:
        """Returns a mask with one entry for each row, read from a buffer of bits. In blocks for which `among` is False,
        all entries are True.
        """
        counts = self._counts if among is None else self._counts * among
        first = self._starts // 8
        held = -(-(self._starts + counts) // 8) - first
        bits = self._items(self._blocks.files, self._blocks.buffers[:, buffer] + first, held, np.dtype(np.uint8))
        places = numbers_in(8 * (np.cumsum(held) - held) + self._starts % 8, counts)
        row_bits = np.unpackbits(bits, bitorder="little")[places].view(np.bool_)
        if among is None:
            return row_bits
        out = np.ones(int(self._counts.sum()), np.bool_)
        out[np.repeat(among, self._counts)] = row_bits
        return out

    @property
    def valid(self) -> Mask | None:
        """Returns a mask of the rows that are not null; None if no row is null."""
        nulls = self._blocks.nulls[:, self._place.node]
        return self._bits(self._place.buffer, nulls > 0) if nulls.any() else None

    def fixed(self) -> npt.NDArray[Any]:
        """Returns the values of a fixed-width column, as one array."""
        if pa.types.is_boolean(self._place.kind):
            return self._bits(self._place.buffer + 1)
        dtype = dtype_of(self._place.kind)
        if dtype.itemsize in (1, 2, 4, 8):
            return self._of_rows(1, dtype)
        # The buffer begins at a multiple of 8 bytes, which may not be a multiple of the width.
        word = np.dtype(f"V{math.gcd(dtype.itemsize, 8)}")
        words = dtype.itemsize // word.itemsize
        first = self._blocks.buffers[:, self._place.buffer + 1] // word.itemsize
        of_words = self._items(self._blocks.files, first + self._starts * words, self._counts * words, word)
        return of_words.view(dtype)

    @property
    def _width(self) -> np.dtype[Any]:
        return np.dtype("<i8") if is_large(self._place.kind) else np.dtype("<i4")

    def _ends(self) -> tuple[Ints, Ints]:
        """Returns, for each value of a string column, where it begins in the data of its block, and its length."""
        starts, stops = (self._of_rows(1, self._width, after).astype(np.int64) for after in (0, 1))
        return starts, stops - starts

    def spans(self) -> Spans:
        """Returns where each string or bytes value lies: its buffer, its start and its length."""
        starts, lengths = self._ends()
        starts += np.repeat(self._blocks.buffers[:, self._place.buffer + 2], self._counts)
        files = np.repeat(self._blocks.files.astype(np.int32), self._counts)
        return Spans(lengths, starts, files, self._blocks.maps, 0)

    def lists(self) -> tuple[Ints, Ints, Parts]:
        """Returns, for each list, the index of its first item and its number of items; then the items of all lists as
        one column.
        """
        starts, lengths = self._ends()
        edges = self._blocks.buffers[:, self._place.buffer + 1] // self._width.itemsize + self._starts
        once = np.ones_like(edges)
        firsts, lasts = (
            self._items(self._blocks.files, edge, once, self._width).astype(np.int64)
            for edge in (edges, edges + self._counts)
        )
        counts = lasts - firsts
        starts += np.repeat(np.cumsum(counts) - counts - firsts, self._counts)
        return starts, lengths, BlockParts(self._blocks, self._place.children[0], firsts, counts)

    def field(self, index: int) -> Parts:
        """Returns the column of one field of a struct column."""
        return BlockParts(self._blocks, self._place.children[index], self._starts, self._counts)


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if not arrays:
        return np.empty(0, np.int64)
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _base_of(
    data: pa.Buffer, first: int, last: int, maps: Sequence[tuple[int, int, pa.Buffer]]
) -> tuple[pa.Buffer, int]:
    """Returns the buffer to use for bytes [first, last) of `data`, and the shift to add to offsets into `data`.

    The buffer is the mapped file that contains `data`, or else a slice of `data`.
    """
    address = data.address
    for start, end, mapped in maps:
        if start <= address < end:
            return mapped, address - start
    return data.slice(first, last - first), -first
