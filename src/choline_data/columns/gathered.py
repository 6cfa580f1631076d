"""A gathered column: the form between the store and its use as an Arrow array (trainer) or an IPC message (wire).

Its strings and bytes are still views (the 16 bytes of Arrow's view layout) into the store's files. They are therefore
copied only once, to their destination.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.columns.arrow_values import Mask, is_large, is_text

INLINE = 12  # a value of up to this many bytes is stored in the view itself


@dataclass(frozen=True)
class Values:
    """The values of a column of strings or bytes, as views into the buffers `bases`."""

    views: npt.NDArray[Any]
    bases: Sequence[pa.Buffer]

    def in_one_piece(self, kind: pa.DataType) -> tuple[pa.Buffer, pa.Buffer]:
        """Copies the values into one buffer. Returns the offsets, in the width of `kind`, and the bytes."""
        viewed = pa.Array.from_buffers(
            pa.binary_view(), len(self.views), [None, pa.py_buffer(self.views), *self.bases]
        ).cast(pa.large_binary() if is_large(kind) else pa.binary())
        _, offsets, data = viewed.buffers()
        return offsets, data


@dataclass(frozen=True)
class Column:
    """A column of `count` rows. `valid` is None if no row is null. `values` is an array, bytes or `Values`."""

    kind: pa.DataType
    count: int
    valid: Mask | None = None
    offsets: npt.NDArray[Any] | None = None
    values: Any = None
    children: tuple[Column, ...] = ()

    @property
    def bitmap(self) -> pa.Buffer | None:
        """Returns Arrow's validity bitmap; None if no row is null."""
        return None if self.valid is None else pa.py_buffer(np.packbits(self.valid, bitorder="little"))

    def part(self, start: int, stop: int) -> Column:
        """Returns rows start … stop-1. The result shares the memory of this column."""
        valid = None if self.valid is None else self.valid[start:stop]
        if valid is not None and valid.all():
            valid = None
        if isinstance(self.values, Values):
            values: Any = Values(self.values.views[start:stop], self.values.bases)
            return Column(self.kind, stop - start, valid, None, values)
        if self.offsets is None:
            values = None if self.values is None else self.values[start:stop]
            return Column(
                self.kind, stop - start, valid, None, values, tuple(child.part(start, stop) for child in self.children)
            )
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        values = None if self.values is None else self.values[first:last]
        offsets = self.offsets[start : stop + 1] - self.offsets.dtype.type(first)
        return Column(
            self.kind, stop - start, valid, offsets, values, tuple(child.part(first, last) for child in self.children)
        )

    def to_views(self) -> pa.Array:
        """Converts the column to an Arrow array. Strings and bytes are not copied: they are views into the store's files.

        Such an array must not leave this process. The views of long values have no prefix: their bytes 4 to 7 are 0.
        Arrow's `validate(full=True)` refuses them, and a library that compares prefixes finds wrong rows.
        """
        if isinstance(self.values, Values):
            kind = pa.string_view() if is_text(self.kind) else pa.binary_view()
            buffers = [self.bitmap, pa.py_buffer(self.values.views), *self.values.bases]
            return pa.Array.from_buffers(kind, self.count, buffers)
        if not self.children:
            return self.to_arrow()
        children = [child.to_views() for child in self.children]
        if pa.types.is_struct(self.kind):
            kind = pa.struct([field.with_type(child.type) for field, child in zip(self.kind, children, strict=True)])
            return pa.Array.from_buffers(kind, self.count, [self.bitmap], children=children)
        kind = pa.list_(self.kind.value_field.with_type(children[0].type))
        return pa.Array.from_buffers(kind, self.count, [self.bitmap, pa.py_buffer(self.offsets)], children=children)

    def to_arrow(self) -> pa.Array:
        """Converts the column to an Arrow array of type `kind`. Strings and bytes that are still views are copied."""
        kind = self.kind
        buffers = [self.bitmap]
        if isinstance(self.values, Values):
            buffers += self.values.in_one_piece(kind)
        elif self.offsets is not None:
            buffers.append(pa.py_buffer(self.offsets))
        if pa.types.is_boolean(kind):
            buffers.append(pa.py_buffer(np.packbits(self.values, bitorder="little")))
        elif self.values is not None and not isinstance(self.values, Values):
            buffers.append(pa.py_buffer(self.values))
        return pa.Array.from_buffers(
            kind, self.count, buffers, children=[child.to_arrow() for child in self.children] or None
        )
