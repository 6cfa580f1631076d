"""A column of some rows, not copied: its values are in the Arrow arrays of batches or in blocks of mapped store files.

Code that picks rows (`columns/gather.py`) uses the same interface, `Parts`, for both. `BlockParts` reads the numbers in the
headers of all blocks at once: to create a batch for each block, and an array for each column, would cost more than the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.columns.arrow_values import Ints, Mask, dtype_of, is_bytes, is_large, numbers

BASE_LIMIT = (1 << 31) - 1  # a view's offset into its buffer has 31 bits


@dataclass(frozen=True)
class Spans:
    """The places of strings or bytes: for each its length, its start in a buffer, and the index of this buffer in `bases`."""

    lengths: Ints
    starts: Ints
    buffers: npt.NDArray[np.int32]
    bases: list[pa.Buffer]
    held: int  # the size in bytes of all bases that are not mapped files


class Parts(Protocol):
    """One column of some rows."""

    @property
    def valid(self) -> Mask | None:
        """Which rows are not null; None if no row is null."""

    def fixed(self) -> npt.NDArray[Any]:
        """Returns the values of a fixed-width column, as one array."""

    def spans(self) -> Spans:
        """Returns where each string or value of bytes lies: its buffer, its start and its length."""

    def lists(self) -> tuple[Ints, Ints, Parts]:
        """Returns for each list its start among all items and its length; and the items of all lists as one column."""

    def field(self, index: int) -> Parts:
        """Returns the column of one field of a struct column."""


class ArrowParts:
    """A column that consists of these arrays in order. `maps` are the mapped files that may contain their buffers."""

    def __init__(self, kind: pa.DataType, arrays: Sequence[pa.Array], maps: Sequence[pa.Buffer] = ()) -> None:
        self._kind = kind
        self._arrays = arrays
        self._maps = maps

    @property
    def valid(self) -> Mask | None:
        """Which rows are not null; None if no row is null."""
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
        """Returns where each string or value of bytes lies: its buffer, its start and its length."""
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
        """Returns for each list its start among all items and its length; and the items of all lists as one column."""
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
    """The place of a column's numbers in a header: the index of its node and of its first buffer, and its children's places."""

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
    files: list[int]  # for each block, the index of its file in `maps`
    buffers: npt.NDArray[np.int64]  # [block, buffer]: position of the buffer's first byte in the file, a multiple of 8
    nulls: npt.NDArray[np.int64]  # [block, node]: number of nulls

    def memory(self, dtype: Any) -> list[npt.NDArray[Any]]:
        """Returns the files as arrays of this dtype."""
        size = np.dtype(dtype).itemsize
        return [np.frombuffer(mapped, dtype, mapped.size // size) for mapped in self.maps]


class BlockParts:
    """The column in rows starts[i] … starts[i] + counts[i] - 1 of each block i."""

    def __init__(self, blocks: Blocks, place: Place, starts: list[int], counts: list[int]) -> None:
        self._blocks = blocks
        self._place = place
        self._starts = starts
        self._counts = counts

    def _bits(self, buffer: int, among: Sequence[bool] | None = None) -> Mask:
        """Returns one bit for each row, from a bit buffer. In blocks for which `among` is False, all bits are set."""
        memory = self._blocks.memory(np.uint8)
        wanted = [True] * len(self._counts) if among is None else among
        pieces: list[npt.NDArray[Any]] = []
        for its, at, start, count, selected in zip(
            self._blocks.files,
            self._blocks.buffers[:, buffer].tolist(),
            self._starts,
            self._counts,
            wanted,
            strict=True,
        ):
            if not selected:
                pieces.append(np.ones(count, np.uint8))
                continue
            first = start // 8
            bits = np.unpackbits(memory[its][at + first : at + (start + count + 7) // 8], bitorder="little")
            pieces.append(bits[start - 8 * first :][:count])
        return _joined(pieces).view(np.bool_)

    @property
    def valid(self) -> Mask | None:
        """Which rows are not null; None if no row is null."""
        nulls = self._blocks.nulls[:, self._place.node]
        return self._bits(self._place.buffer, (nulls > 0).tolist()) if nulls.any() else None

    def fixed(self) -> npt.NDArray[Any]:
        """Returns the values of a fixed-width column, as one array."""
        if pa.types.is_boolean(self._place.kind):
            return self._bits(self._place.buffer + 1)
        dtype = dtype_of(self._place.kind)
        return _joined(self._slices(np.uint8, 1, dtype.itemsize, 0)).view(dtype)

    def _slices(self, memory: Any, buffer: int, width: int, more: int) -> list[npt.NDArray[Any]]:
        """Returns, for each block, the numbers of its rows: `width` numbers per row, and `more` numbers after the last row."""
        arrays = self._blocks.memory(memory)
        firsts = self._blocks.buffers[:, self._place.buffer + buffer] // arrays[0].itemsize
        return [
            arrays[its][at + start * width : at + (start + count) * width + more]
            for its, at, start, count in zip(
                self._blocks.files, firsts.tolist(), self._starts, self._counts, strict=True
            )
        ]

    def _ends(self) -> list[npt.NDArray[Any]]:
        wide = is_large(self._place.kind)
        return self._slices(np.dtype("<i8") if wide else np.dtype("<i4"), 1, 1, 1)

    def spans(self) -> Spans:
        """Returns where each string or value of bytes lies: its buffer, its start and its length."""
        ends = self._ends()
        starts = _joined([of_block[:-1] for of_block in ends]).astype(np.int64)
        lengths = _joined([of_block[1:] for of_block in ends]).astype(np.int64) - starts
        starts += np.repeat(self._blocks.buffers[:, self._place.buffer + 2], self._counts)
        files = np.repeat(np.array(self._blocks.files, np.int32), self._counts)
        return Spans(lengths, starts, files, self._blocks.maps, 0)

    def lists(self) -> tuple[Ints, Ints, Parts]:
        """Returns for each list its start among all items and its length; and the items of all lists as one column."""
        ends = self._ends()
        firsts = [int(of_block[0]) for of_block in ends]
        counts = [int(of_block[-1]) - first for of_block, first in zip(ends, firsts, strict=True)]
        starts = _joined([of_block[:-1] for of_block in ends]).astype(np.int64)
        lengths = _joined([of_block[1:] for of_block in ends]).astype(np.int64) - starts
        before = np.cumsum([0, *counts[:-1]])
        starts += np.repeat(before - np.array(firsts), self._counts)
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
