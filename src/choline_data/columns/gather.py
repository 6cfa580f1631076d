"""Picks rows from many blocks of many sources into one batch, and copies their bytes only once.

Arrow's `take` needs its input in one piece: rows of mapped blocks would be copied once to join them, and again to
interleave sources. Here, a window keeps a view of each variable-length value: length, buffer and offset (the 16 bytes of
Arrow's view layout). Picking rows copies views. The bytes are copied once, when a column is converted to its final form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.columns.arrow_values import WHOLE, Ints, Mask, dtype_of, is_bytes, is_large
from choline_data.columns.gathered import INLINE, Column, Values
from choline_data.columns.parts import Parts
from choline_data.columns.row_ranges import numbers_in

_KEPT = np.where(np.arange(INLINE) < np.arange(INLINE + 1)[:, None], 255, 0).astype(np.uint8).view(np.int32)
_HEADS = 1500  # approximate bytes of a node's Python objects and array headers
_SAME = 256  # the maximum length of a value that is compared across all rows


@dataclass(frozen=True)
class Piece:
    """Which rows to pick from a node: row rows[i] of the node becomes row places[i] of the batch."""

    node: Node
    rows: Ints
    places: Ints


class Node:
    """One column of a window, prepared for picking rows. `valid` is None if no row is null."""

    valid: Mask | None = None
    nbytes: int = 0
    same: bytes | None = None  # the value, if all rows have the same one, such as a file name, a language or a licence


class Fixed(Node):
    """A column of fixed-width values, prepared for picking rows."""

    def __init__(self, parts: Parts) -> None:
        self.valid = parts.valid
        self.values = parts.fixed()
        self.nbytes = _HEADS + _size(self.valid, self.values)


class Bytes(Node):
    """A column of strings or binary values, as views into the buffers `bases`."""

    def __init__(self, parts: Parts) -> None:
        self.valid = parts.valid
        spans = parts.spans()
        lengths, starts, buffers = spans.lengths, spans.starts, spans.buffers
        self.bases = spans.bases
        self.nbytes = spans.held
        count = len(lengths)
        if self.valid is not None:
            lengths[~self.valid] = 0
        if self.valid is None and count and (lengths == lengths[0]).all() and lengths[0] <= _SAME:
            self.same = _common_value(self.bases, int(lengths[0]), starts, buffers)
        if self.same is not None:  # all rows have this value, so there is a single view
            lengths, starts, buffers = lengths[:1], starts[:1], buffers[:1]
        views = np.zeros((len(lengths), 4), np.int32)
        views[:, 0] = lengths
        long = lengths > INLINE
        self.long: npt.NDArray[np.int32] | None = None
        if long.all():
            views[:, 2] = buffers
            views[:, 3] = starts
        else:
            self.long = (
                np.broadcast_to(long.astype(np.int32), count) if self.same is not None else long.astype(np.int32)
            )
            np.copyto(views[:, 2], buffers, where=long)
            np.copyto(views[:, 3], starts, where=long, casting="unsafe")
            for number, base in enumerate(self.bases):
                short = np.flatnonzero(~long & (lengths > 0) & (buffers == number))
                _inline(views, short, lengths[short], starts[short], np.frombuffer(base, np.uint8))
        self.nbytes += _HEADS + _size(self.valid, views, self.long)
        whole = views.view(WHOLE).reshape(-1)
        self.views = whole if self.same is None else np.broadcast_to(whole, count)


class Lists(Node):
    """A column of lists. Each list is a range of rows of `child`."""

    def __init__(self, kind: pa.DataType, parts: Parts) -> None:
        self.valid = parts.valid
        self.starts, self.lengths, items = parts.lists()
        if self.valid is not None:
            self.lengths = np.where(self.valid, self.lengths, 0)
        self.child = node_of(kind.value_type, items)
        self.nbytes = _HEADS + _size(self.valid, self.starts, self.lengths) + self.child.nbytes


class Structs(Node):
    """A column of structs, with one node for each field."""

    def __init__(self, kind: pa.DataType, parts: Parts) -> None:
        self.valid = parts.valid
        self.children = [node_of(kind.field(i).type, parts.field(i)) for i in range(kind.num_fields)]
        self.nbytes = _HEADS + _size(self.valid) + sum(child.nbytes for child in self.children)


def _size(*arrays: npt.NDArray[Any] | None) -> int:
    return sum(array.nbytes for array in arrays if array is not None)


def node_of(kind: pa.DataType, parts: Parts) -> Any:
    """Makes the node for a column of this type."""
    if is_bytes(kind):
        return Bytes(parts)
    if pa.types.is_list(kind):
        return Lists(kind, parts)
    if pa.types.is_struct(kind):
        return Structs(kind, parts)
    return Fixed(parts)


def assemble(kind: pa.DataType, pieces: Sequence[Any], count: int) -> Column:
    """Builds a column of `count` rows from these pieces. The `places` of all pieces together are the rows 0 … count-1,
    each once.
    """
    valid = _gathered_validity(pieces, count)
    if is_bytes(kind):
        return _bytes(kind, pieces, count, valid)
    if pa.types.is_list(kind):
        lengths = np.empty(count, np.int64)
        for piece in pieces:
            lengths[piece.places] = piece.node.lengths[piece.rows]
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        children = []
        for piece in pieces:
            sizes = piece.node.lengths[piece.rows]
            within = numbers_in(np.zeros(len(sizes), np.int64), sizes)
            children.append(
                Piece(
                    piece.node.child,
                    np.repeat(piece.node.starts[piece.rows], sizes) + within,
                    np.repeat(offsets[piece.places], sizes) + within,
                )
            )
        values = assemble(kind.value_type, children, int(offsets[-1]))
        return Column(kind, count, valid, offsets.astype(np.int32), None, (values,))
    if pa.types.is_struct(kind):
        fields = tuple(
            assemble(kind.field(i).type, [Piece(p.node.children[i], p.rows, p.places) for p in pieces], count)
            for i in range(kind.num_fields)
        )
        return Column(kind, count, valid, None, None, fields)
    out = np.empty(count, dtype_of(kind))
    for piece in pieces:
        out[piece.places] = piece.node.values[piece.rows]
    return Column(kind, count, valid, None, out)


@lru_cache(maxsize=64)
def _constant_column(kind: pa.DataType, value: bytes, count: int) -> Column:
    """Returns a column with the same value in all rows. Caches recently used columns."""
    ends = np.arange(count + 1, dtype=np.int64 if is_large(kind) else np.int32) * len(value)
    return Column(kind, count, None, ends, value * count)


def _bytes(kind: pa.DataType, pieces: Sequence[Any], count: int, valid: Mask | None) -> Column:
    same = pieces[0].node.same if pieces else None
    if same is not None and all(piece.node.same == same for piece in pieces):
        return _constant_column(kind, same, count)
    views = np.empty(count, WHOLE)
    bases: list[pa.Buffer] = []
    # Sources in the same file share buffers, and so do windows of one source. So equal buffers are listed only once.
    firsts: dict[tuple[int, ...], int] = {}
    for piece in pieces:
        node, picked = piece.node, piece.node.views[piece.rows]
        if node.bases:
            key = tuple(base.address for base in node.bases)
            first = firsts.get(key)
            if first is None:
                first = firsts[key] = len(bases)
                bases += node.bases
            if first:
                picked.view(np.int32)[2::4] += first if node.long is None else node.long[piece.rows] * np.int32(first)
        views[piece.places] = picked
    return Column(kind, count, valid, None, Values(views, bases))


def _common_value(bases: Sequence[pa.Buffer], size: int, starts: Ints, buffers: npt.NDArray[np.int32]) -> bytes | None:
    """Compares the values of `size` bytes that start at these places. Returns the value if all are equal, else None."""
    if not size:
        return b""
    first = bytes(memoryview(bases[buffers[0]])[starts[0] : starts[0] + size])
    for number, base in enumerate(bases):
        windows: npt.NDArray[Any] = np.ndarray(max(base.size - size + 1, 0), f"V{size}", base, strides=(1,))
        mine = starts if len(bases) == 1 else starts[buffers == number]
        for at in range(0, len(mine), 4096):  # Compare in steps: most columns differ in the first step already.
            if windows[mine[at : at + 4096]].tobytes() != first * len(mine[at : at + 4096]):
                return None
    return first


def _inline(views: npt.NDArray[np.int32], rows: Ints, lengths: Ints, starts: Ints, data: npt.NDArray[np.uint8]) -> None:
    """Copies short values into their views, padded with zeros."""
    room = len(data) - INLINE
    late = starts > room
    if late.any():  # The data end less than INLINE bytes after some of these starts, so zeros are appended.
        first = max(room, 0)
        tail = np.concatenate([data[first:], np.zeros(INLINE, np.uint8)])
        _inline(views, rows[late], lengths[late], starts[late] - first, tail)
        rows, lengths, starts = rows[~late], lengths[~late], starts[~late]
    if not len(rows):
        return
    windows: npt.NDArray[Any] = np.ndarray(room + 1, f"V{INLINE}", data, strides=(1,))
    views[rows, 1:] = windows[starts].view(np.int32).reshape(-1, 3) & _KEPT[lengths]


def _gathered_validity(pieces: Sequence[Any], count: int) -> Mask | None:
    if all(piece.node.valid is None for piece in pieces):
        return None
    out = np.ones(count, dtype=bool)
    for piece in pieces:
        if piece.node.valid is not None:
            out[piece.places] = piece.node.valid[piece.rows]
    return None if out.all() else out
