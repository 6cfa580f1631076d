"""Reads the header and the values of a NetCDF 3 file (classic, 64-bit offset, and CDF-5) from an open file."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar

import numpy as np

from choline_data.errors import SourceDamagedError, SourceTooLargeError

MAX_ENTRIES = 10_000
MAX_TEXT_BYTES = 1 << 20
_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12
_TYPES = ("i1", "S1", ">i2", ">i4", ">f4", ">f8", "u1", ">u2", ">u4", ">i8", ">u8")  # from type 1 on
_CLASSIC_TYPES = 6
_T = TypeVar("_T")
_STREAMING = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class ClassicVariable:
    """A variable of the header. `begin` is the place of its values; with `is_record`, records of all variables alternate."""

    name: str
    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    begin: int
    is_record: bool
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def row_bytes(self) -> int:
        """The size of what belongs to one index of the first dimension."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class ClassicFile:
    """An open file of NetCDF 3. Raises SourceDamagedError if it is shorter than its header says."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._size = os.fstat(file.fileno()).st_size
        magic = file.read(4)
        if magic[:3] != b"CDF" or magic[3] not in (1, 2, 5):
            raise self._damaged("it does not begin as NetCDF 3")
        self._version = magic[3]
        self._records = self._count()
        self._record_bytes = 0
        dimensions = self._list(_DIMENSIONS, lambda: (self._text(), self._count()))
        self._list(_ATTRIBUTES, self._attribute)
        self.variables = self._list(_VARIABLES, lambda: self._variable(dimensions))
        self._settle_records()
        for variable in self.variables:
            rows = variable.shape[0] if variable.shape else 1
            last = (
                (rows - 1) * self._record_bytes + variable.row_bytes
                if variable.is_record
                else rows * variable.row_bytes
            )
            if rows and variable.begin + last > self._size:
                raise self._damaged(f"it ends within the values of {variable.name[:60]!r}")

    def values(self, name: str, start: int, end: int) -> np.ndarray:
        """Returns values of a variable: those of its first dimension from `start` to `end`, or its single value."""
        variable = next(v for v in self.variables if v.name == name)
        rows = end - start
        if not variable.shape:
            start, rows = 0, 1
        stride = self._record_bytes if variable.is_record else variable.row_bytes
        self._file.seek(variable.begin + start * stride)
        size = (rows - 1) * stride + variable.row_bytes if rows else 0
        data = self._file.read(size)
        if len(data) < size:
            raise self._damaged(f"it ends within the values of {name[:60]!r}")
        inner = np.empty(variable.shape[1:], variable.dtype).strides
        shape = (rows, *variable.shape[1:])
        piece = np.ndarray(shape, variable.dtype, data, strides=(stride, *inner))
        native = piece.astype(variable.dtype.newbyteorder("="))
        return native if variable.shape else native.reshape(())

    def _settle_records(self) -> None:
        """Sets the number of records and the size of a record, and with them the shapes of the record variables."""
        own = [v for v in self.variables if v.is_record]
        sizes = [v.row_bytes for v in own]
        self._record_bytes = sizes[0] if len(own) == 1 else sum((size + 3) // 4 * 4 for size in sizes)
        if self._records in _STREAMING:
            first = min((v.begin for v in own), default=self._size)
            self._records = (self._size - first) // max(self._record_bytes, 1)
        self.variables = [
            ClassicVariable(v.name, v.dimensions, (self._records, *v.shape[1:]), v.dtype, v.begin, True, v.attributes)
            if v.is_record
            else v
            for v in self.variables
        ]

    def _variable(self, dimensions: list[tuple[str, int]]) -> ClassicVariable:
        name = self._text()
        ids = [self._count() for _ in range(self._bounded(self._count()))]
        if any(each >= len(dimensions) for each in ids):
            raise self._damaged(f"{name[:60]!r} has a dimension that does not exist")
        attributes = dict(self._list(_ATTRIBUTES, self._attribute))
        kind = self._type()
        self._count()  # the size, which is wrong for large variables
        begin = self._number(">I") if self._version == 1 else self._number(">Q")
        named = [dimensions[each] for each in ids]
        is_record = bool(named) and named[0][1] == 0
        if any(size == 0 for _, size in named[1:]):
            raise self._damaged(f"{name[:60]!r} has the dimension of records in another place than the first")
        return ClassicVariable(
            name, tuple(n for n, _ in named), tuple(size for _, size in named), kind, begin, is_record, attributes
        )

    def _attribute(self) -> tuple[str, Any]:
        name, kind, count = self._text(), self._type(), self._count()
        size = count * kind.itemsize
        data = self._take(size + -size % 4)[:size]
        return name, data if kind == np.dtype("S1") else np.frombuffer(data, kind)

    def _list(self, tag: int, read: Callable[[], _T]) -> list[_T]:
        found, count = self._number(">I"), self._bounded(self._count())
        if found not in (tag, 0) or (found == 0 and count):
            raise self._damaged("a list of its header has a wrong mark")
        return [read() for _ in range(count)]

    def _bounded(self, count: int) -> int:
        if count > MAX_ENTRIES:
            raise SourceTooLargeError(
                f"{self._name}: a list of its header has {count:,} entries; the limit is {MAX_ENTRIES:,}.",
                remedy="Split it with ncks.",
            )
        return count

    def _type(self) -> np.dtype:
        code = self._number(">I")
        if not 1 <= code <= (len(_TYPES) if self._version == 5 else _CLASSIC_TYPES):
            raise self._damaged(f"it has the unknown type {code}")
        return np.dtype(_TYPES[code - 1])

    def _text(self) -> str:
        size = self._count()
        return self._take(size + -size % 4)[:size].decode("utf-8", "replace")

    def _count(self) -> int:
        return self._number(">Q" if self._version == 5 else ">I")

    def _number(self, kind: str) -> int:
        value: int = struct.unpack(kind, self._take(struct.calcsize(kind)))[0]
        return value

    def _take(self, size: int) -> bytes:
        data = self._file.read(size) if size <= MAX_TEXT_BYTES else b""
        if len(data) < size:
            raise self._damaged("it ends within its header, or its header is not one of NetCDF 3")
        return data

    def _damaged(self, what: str) -> SourceDamagedError:
        return SourceDamagedError(f"{self._name}: {what}.", remedy="Fetch the file again.")
