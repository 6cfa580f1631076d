"""Picking rows of many blocks, of many sources, into one batch with one copy.

Arrow's `take` needs its input in one piece, so rows of mapped blocks would be copied together first, and once more to
interleave sources. Here a window keeps, for each variable-length value, a view: length, buffer and offset (the 16 bytes
of Arrow's view layout). Picking rows moves views; the bytes move once, when Arrow turns the views into a plain column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_VIEW = np.dtype([("length", "<i4"), ("prefix", "<u4"), ("buffer", "<i4"), ("offset", "<i4")])
_WHOLE = np.dtype("c16")  # a view as one opaque value of 16 bytes: numpy moves these fastest
_INLINE = 12  # values up to here lie in the view itself
_BASE_LIMIT = (1 << 31) - 1


@dataclass(frozen=True)
class Piece:
    """Rows `rows` of a node, to be put at `places` of the batch."""

    node: Node
    rows: Ints
    places: Ints


class Node:
    """One column of a window, ready for rows to be picked from it; `valid` is None where nothing is null."""

    valid: Mask | None = None
    nbytes: int = 0


class Fixed(Node):
    """Values of one width."""

    def __init__(self, kind: pa.DataType, parts: Sequence[pa.Array]) -> None:
        self.valid = _valid(parts)
        dtype = _fixed_dtype(kind)
        values = []
        for part in parts:
            if pa.types.is_boolean(kind):
                values.append(part.fill_null(False).to_numpy(zero_copy_only=False))
                continue
            data = part.buffers()[1]
            values.append(np.frombuffer(data, dtype, count=len(part), offset=part.offset * dtype.itemsize))
        self.values = np.concatenate(values) if len(values) != 1 else values[0]
        self.nbytes = self.values.nbytes


class Bytes(Node):
    """Strings and binary values, as views into the buffers `bases`."""

    def __init__(self, kind: pa.DataType, parts: Sequence[pa.Array], maps: Sequence[pa.Buffer]) -> None:
        self.valid = _valid(parts)
        self.bases: list[pa.Buffer] = []
        known: dict[int, int] = {}
        width = np.dtype("<i8") if _is_large(kind) else np.dtype("<i4")
        views = np.zeros(sum(len(p) for p in parts), _VIEW)
        at = 0
        for part in parts:
            count = len(part)
            if not count:
                continue
            _, offset_buffer, data = part.buffers()
            ends: npt.NDArray[Any] = np.frombuffer(
                offset_buffer, width, count=count + 1, offset=part.offset * width.itemsize
            )
            lengths = (ends[1:] - ends[:-1]).astype(np.int64)
            mine = views[at : at + count]
            at += count
            mine["length"] = lengths
            if data is None or not lengths.any():
                continue
            base, start = _base_of(data, int(ends[0]), int(ends[-1]), maps)
            number = known.get(base.address)
            if number is None:
                number = known[base.address] = len(self.bases)
                self.bases.append(base)
                if not any(base is m for m in maps):
                    self.nbytes += base.size
            mine["buffer"] = number
            mine["offset"] = (ends[:-1] - ends[0] + start).astype(np.int64)
            short = np.flatnonzero((lengths <= _INLINE) & (lengths > 0))
            if len(short):
                _inline(mine, short, lengths[short], np.frombuffer(base, np.uint8))
        empty = views["length"] == 0
        if self.valid is not None:
            empty |= ~self.valid
        views[empty] = np.zeros(1, _VIEW)
        self.long = (views["length"] > _INLINE).astype(np.int32)  # those whose buffer number counts
        self.views = views.view(_WHOLE)
        self.nbytes += views.nbytes


class Lists(Node):
    """Lists, as ranges of the rows of `child`."""

    def __init__(self, kind: pa.DataType, parts: Sequence[pa.Array], maps: Sequence[pa.Buffer]) -> None:
        self.valid = _valid(parts)
        starts, lengths, children = [], [], []
        at = 0
        for part in parts:
            ends = part.offsets.to_numpy().astype(np.int64)
            first, last = (int(ends[0]), int(ends[-1])) if len(ends) else (0, 0)
            starts.append(ends[:-1] - first + at)
            lengths.append(ends[1:] - ends[:-1])
            children.append(part.values.slice(first, last - first))
            at += last - first
        self.starts = np.concatenate(starts) if starts else np.empty(0, np.int64)
        self.lengths = np.concatenate(lengths) if lengths else np.empty(0, np.int64)
        if self.valid is not None:
            self.lengths = np.where(self.valid, self.lengths, 0)
        self.child = node_of(kind.value_type, children, maps)
        self.nbytes = self.starts.nbytes + self.lengths.nbytes + self.child.nbytes


class Structs(Node):
    """Structs, as a node for each field."""

    def __init__(self, kind: pa.DataType, parts: Sequence[pa.Array], maps: Sequence[pa.Buffer]) -> None:
        self.valid = _valid(parts)
        self.children = [
            node_of(kind.field(i).type, [part.field(i) for part in parts], maps) for i in range(kind.num_fields)
        ]
        self.nbytes = sum(child.nbytes for child in self.children)


def node_of(kind: pa.DataType, parts: Sequence[pa.Array], maps: Sequence[pa.Buffer] = ()) -> Any:
    """The node for these arrays, one after the other. `maps` are mapped files that their buffers may lie in."""
    if _is_bytes(kind):
        return Bytes(kind, parts, maps)
    if pa.types.is_list(kind):
        return Lists(kind, parts, maps)
    if pa.types.is_struct(kind):
        return Structs(kind, parts, maps)
    return Fixed(kind, parts)


def assemble(kind: pa.DataType, pieces: Sequence[Any], count: int) -> pa.Array:
    """A column of `count` rows from pieces whose places are, together, 0 … count-1."""
    valid = _gathered_validity(pieces, count)
    if _is_bytes(kind):
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
            within = _within(sizes)
            children.append(
                Piece(
                    piece.node.child,
                    np.repeat(piece.node.starts[piece.rows], sizes) + within,
                    np.repeat(offsets[piece.places], sizes) + within,
                )
            )
        values = assemble(kind.value_type, children, int(offsets[-1]))
        buffers = [_bitmap(valid), pa.py_buffer(offsets.astype(np.int32))]
        return pa.Array.from_buffers(kind, count, buffers, children=[values])
    if pa.types.is_struct(kind):
        fields = [
            assemble(kind.field(i).type, [Piece(p.node.children[i], p.rows, p.places) for p in pieces], count)
            for i in range(kind.num_fields)
        ]
        return pa.Array.from_buffers(kind, count, [_bitmap(valid)], children=fields)
    out = np.empty(count, _fixed_dtype(kind))
    for piece in pieces:
        out[piece.places] = piece.node.values[piece.rows]
    if pa.types.is_boolean(kind):
        return pa.array(out, mask=None if valid is None else ~valid)
    return pa.Array.from_buffers(kind, count, [_bitmap(valid), pa.py_buffer(out)])


def _bytes(kind: pa.DataType, pieces: Sequence[Any], count: int, valid: Mask | None) -> pa.Array:
    views = np.empty(count, _WHOLE)
    bases: list[pa.Buffer] = []
    firsts: dict[tuple[int, ...], int] = {}  # sources of one file, and windows of one source, share their buffers
    for piece in pieces:
        node, picked = piece.node, piece.node.views[piece.rows]
        if node.bases:
            key = tuple(base.address for base in node.bases)
            first = firsts.get(key)
            if first is None:
                first = firsts[key] = len(bases)
                bases += node.bases
            if first:
                picked.view(np.int32)[2::4] += node.long[piece.rows] * np.int32(first)
        views[piece.places] = picked
    viewed = pa.Array.from_buffers(pa.binary_view(), count, [None, pa.py_buffer(views), *bases])
    plain = viewed.cast(pa.large_binary() if _is_large(kind) else pa.binary())
    _, offsets, data = plain.buffers()
    return pa.Array.from_buffers(kind, count, [_bitmap(valid), offsets, data])


def _inline(views: npt.NDArray[Any], rows: Ints, lengths: Ints, data: npt.NDArray[np.uint8]) -> None:
    """Puts short values into their views, padded with zeros."""
    at = views["offset"][rows].astype(np.int64)
    columns = np.arange(_INLINE)
    inside = columns < lengths[:, None]
    picked = data[np.minimum(at[:, None] + columns, len(data) - 1)] * inside
    raw = np.zeros((len(rows), _VIEW.itemsize), np.uint8)
    raw[:, :4] = lengths.astype("<i4").view(np.uint8).reshape(-1, 4)
    raw[:, 4:] = picked
    views[rows] = raw.view(_VIEW).reshape(-1)


def _base_of(data: pa.Buffer, first: int, last: int, maps: Sequence[pa.Buffer]) -> tuple[pa.Buffer, int]:
    """A buffer of at most 2 GiB that holds bytes [first, last) of `data`, and where they begin in it."""
    for mapped in maps:
        inside = mapped.address <= data.address < mapped.address + mapped.size
        if inside and mapped.size <= _BASE_LIMIT:
            return mapped, data.address - mapped.address + first
    return data.slice(first, last - first), 0


def _within(sizes: Ints) -> Ints:
    """0 … size-1 for each size, one after the other."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) - np.repeat(ends - sizes, sizes)


def _valid(parts: Sequence[pa.Array]) -> Mask | None:
    if not any(part.null_count for part in parts):
        return None
    return np.concatenate([part.is_valid().to_numpy(zero_copy_only=False) for part in parts])


def _gathered_validity(pieces: Sequence[Any], count: int) -> Mask | None:
    if all(piece.node.valid is None for piece in pieces):
        return None
    out = np.ones(count, dtype=bool)
    for piece in pieces:
        if piece.node.valid is not None:
            out[piece.places] = piece.node.valid[piece.rows]
    return None if out.all() else out


def _bitmap(valid: Mask | None) -> pa.Buffer | None:
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_large_string(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary(kind)
    )


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _fixed_dtype(kind: pa.DataType) -> np.dtype[Any]:
    if pa.types.is_fixed_size_binary(kind):
        return np.dtype(f"V{kind.byte_width}")
    if pa.types.is_timestamp(kind):
        return np.dtype("<i8")
    plain: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return plain
