"""Converts Arrow to Python: samples to dicts, many rows at a time, and batches to dicts of tensors and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise, repeat
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from choline_data.client.readers.reader import CachedLists, Chunk
from choline_data.columns.arrow_values import byte_lengths, numbers, plain
from choline_data.errors import DamagedStoreError, SourceDamagedError
from choline_data.order.lanes import Ints
from choline_data.places.mapped import MappedFile, steady
from choline_data.schema import KINDS
from choline_data.streams import wire

T = TypeVar("T")
_COPIED_BELOW = 16 << 10  # mean size of values in bytes, above which a copy costs more than it saves
_COPIED_ROWS = 512  # number of values copied at a time; the copy must still be in the CPU cache when it is decoded


def _coded(column: pa.Array, names: Sequence[str]) -> list[str]:
    return list(np.array(names, object)[numbers(column)].tolist())


def to_list(name: str, column: pa.Array, datasets: Sequence[str]) -> list[Any]:
    """Converts the column to Python values. The columns `dataset` and `kind` get names in place of codes."""
    if name == "dataset":
        return _coded(column, datasets)
    if name == "kind":
        return _coded(column, KINDS)
    if column.null_count == len(column):
        return [None] * len(column)
    kind = column.type
    if pa.types.is_fixed_size_binary(kind) and not column.null_count:
        return list(numbers(column).tolist())
    if pa.types.is_struct(kind):
        # Builds the dicts from whole columns, which is several times faster than one struct scalar for each row.
        fields = [to_list(f.name, column.field(i), ()) for i, f in enumerate(kind)]
        names = [f.name for f in kind]
        rows: list[Any] = list(map(dict, map(zip, repeat(names), zip(*fields, strict=True))))
        if column.null_count:
            rows = [row if there else None for row, there in zip(rows, column.is_valid().to_pylist(), strict=True)]
        return rows
    if pa.types.is_list(kind):
        offsets = column.offsets.to_pylist()
        start = offsets[0]
        items = to_list("", column.values.slice(start, offsets[-1] - start), ())
        out: list[Any] = [items[a - start : b - start] for a, b in pairwise(offsets)]
        if column.null_count:
            out = [row if there else None for row, there in zip(out, column.is_valid().to_pylist(), strict=True)]
        return out
    if not column.null_count and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return list(numbers(column).tolist())
    if kind in (pa.string_view(), pa.binary_view()):
        return _python_of_views(column)
    return _python(column)


def _python(column: pa.Array) -> list[Any]:
    """Converts the column to a list with Arrow. Raises SourceDamagedError if a text is not UTF-8."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError as error:
        raise SourceDamagedError(f"{wire.NOT_UTF8}: {error}.", remedy=wire.NOT_UTF8_REMEDY) from error


def _python_of_views(column: pa.Array) -> list[Any]:
    """Converts views into mapped files to Python values. Short values are first copied into one buffer, a few hundred at a
    time.

    Decoding a view waits until its value has come from memory, one value after another. A plain copy fetches many
    values at once. So the copy and the decoding of the copy together take two thirds of the time.
    """
    if byte_lengths(column).sum() >= _COPIED_BELOW * len(column):
        return _python(column)
    out: list[Any] = []
    for at in range(0, len(column), _COPIED_ROWS):
        out += _python(plain(column.slice(at, _COPIED_ROWS)))
    return out


def sample_lists(chunk: Chunk, datasets: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows as dicts with their `position`, in lists of several rows."""
    for at in range(0, len(chunk.positions), chunk.at_once):
        batch, positions = chunk.batch.slice(at, chunk.at_once), chunk.positions[at : at + chunk.at_once]
        yield steady(partial(_made, batch, positions, datasets), chunk.files)


def _made(batch: pa.RecordBatch, positions: Ints, datasets: Sequence[str]) -> list[dict[str, Any]]:
    names = [*batch.schema.names, "position"]
    columns = [to_list(name, batch[name], datasets) for name in batch.schema.names]
    columns.append(positions.tolist())
    if len(names) == 4:  # A fast path for the text view. A dict literal is more than twice as fast as dict(zip()).
        one, two, three, four = names
        return [{one: a, two: b, three: c, four: d} for a, b, c, d in zip(*columns, strict=True)]
    return list(map(dict, map(zip, repeat(names), zip(*columns, strict=True))))


def _tensor(column: pa.Array) -> Any:
    """Copies a column of fixed-width numbers without nulls to a writable tensor. Returns None for any other column."""
    import torch

    kind = column.type
    if column.null_count:
        return None
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return torch.from_numpy(np.array(numbers(column)))
    if pa.types.is_fixed_size_list(kind) and not column.values.null_count:
        flat = numbers(column.flatten())
        return torch.from_numpy(np.array(flat)).reshape(len(column), kind.list_size)
    return None


class Batch(dict[str, Any]):
    """A batch as a dict. Tensors are made at once. A list is made from its Arrow column at its first access."""

    __slots__ = ("_columns", "_datasets", "_error", "_files", "_first", "_looked")

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._columns: dict[str, pa.Array] = {}
        self._datasets: Sequence[str] = ()
        self._files: Sequence[MappedFile] = ()  # the store files to which the strings and bytes of the columns refer
        self._looked: CachedLists | None = None
        self._first = 0
        self._error: DamagedStoreError | None = None  # the error that is raised when a column is accessed

    @classmethod
    def of(cls, chunk: Chunk, datasets: Sequence[str]) -> Batch:
        """Converts a chunk to a batch."""
        import torch

        out = cls()
        out._datasets = datasets
        out._files, out._looked, out._first = chunk.files, chunk.looked, chunk.first
        batch, positions = chunk.batch, chunk.positions
        for name in batch.schema.names:
            column = batch[name]
            value = None if name in ("dataset", "kind") else _tensor(column)
            if value is None:
                out._columns[name] = column
            dict.__setitem__(out, name, value)
        dict.__setitem__(out, "position", torch.from_numpy(np.array(positions)))
        return out

    def _made(self, name: str) -> Any:
        column = self._columns[name]
        if self._looked is not None:
            value = self._looked.rows(name, self._first, len(column), lambda c: to_list(name, c, self._datasets))
        else:
            value = self._steady(lambda: to_list(name, column, self._datasets))
        del self._columns[name]
        dict.__setitem__(self, name, value)
        return value

    def _steady(self, read: Callable[[], T]) -> T:
        if self._error is not None:
            raise self._error
        return steady(read, self._files)

    def _make_all(self) -> None:
        for name in list(self._columns):
            self._made(name)

    def arrow(self, name: str) -> pa.Array | None:
        """Returns the Arrow column `name`. None if the column is a tensor or already a list."""
        column = self._columns.get(name)
        if column is None:
            return None
        array = self._steady(lambda: plain(column))
        wire.check_texts([array])
        return array

    @property
    def nbytes(self) -> int:
        """The size in bytes of the tensors, and of the columns that are still Arrow data."""
        tensors = sum(getattr(dict.__getitem__(self, name), "nbytes", 0) for name in dict.__iter__(self))
        return int(tensors + sum(column.nbytes for column in self._columns.values()))

    def __getitem__(self, name: str) -> Any:
        return self._made(name) if name in self._columns else dict.__getitem__(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._columns.pop(name, None)
        dict.__setitem__(self, name, value)

    def __delitem__(self, name: str) -> None:
        self._columns.pop(name, None)
        dict.__delitem__(self, name)

    # With an `__iter__` in Python, dict(batch), {**batch} and model(**batch) use __getitem__.
    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self)

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the value of column `name`, or `default` if there is no such column."""
        return self[name] if name in self else default  # noqa: SIM401 - dict.get looks past __getitem__

    def values(self) -> Any:
        """Returns the values of all columns. First converts each column that is still Arrow data to a list."""
        self._make_all()
        return dict.values(self)

    def items(self) -> Any:
        """Returns (name, value) of all columns. First converts each column that is still Arrow data to a list."""
        self._make_all()
        return dict.items(self)

    def pop(self, name: str, *default: Any) -> Any:
        """Removes the column `name` and returns its value."""
        if name in self._columns:
            self._made(name)
        return dict.pop(self, name, *default)

    def copy(self) -> dict[str, Any]:
        """Returns a plain dict with the same values. First converts each column that is still Arrow data to a list."""
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        self._make_all()
        return dict.__eq__(self, other)

    __hash__ = None

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __repr__(self) -> str:
        self._make_all()
        return dict.__repr__(self)

    def __or__(self, other: Any) -> Any:
        return {**self, **other}

    def __reduce__(self) -> tuple[Any, ...]:
        # Columns that are not lists yet are sent to another process as one Arrow message, not as pickled lists.
        try:
            columns = self._steady(lambda: {name: plain(column) for name, column in self._columns.items()})
        except DamagedStoreError as error:
            # A multiprocessing queue drops an object that it can't pickle, and its reader would wait for ever.
            fields = [
                (name, None if name in self._columns else dict.__getitem__(self, name)) for name in dict.__iter__(self)
            ]
            return _error_batch, (fields, list(self._columns), error)
        fields = [(name, None if name in columns else dict.__getitem__(self, name)) for name in dict.__iter__(self)]
        if not columns:
            return _rebuilt, (fields, None, None, ())
        message = pa.record_batch(list(columns.values()), names=list(columns))
        return _rebuilt, (
            fields,
            message.schema.serialize().to_pybytes(),
            message.serialize().to_pybytes(),
            self._datasets,
        )


def _rebuilt(
    fields: list[tuple[str, Any]], schema: bytes | None, message: bytes | None, datasets: Sequence[str]
) -> Batch:
    out = Batch(fields)
    if schema is not None:
        batch = pa.ipc.read_record_batch(pa.py_buffer(message), pa.ipc.read_schema(pa.py_buffer(schema)))
        out._columns = {name: batch[name] for name in batch.schema.names}
        out._datasets = datasets
    return out


def _error_batch(fields: list[tuple[str, Any]], names: list[str], error: DamagedStoreError) -> Batch:
    """Returns a batch that raises `error` when one of the fields `names` is accessed."""
    out = Batch(fields)
    out._columns = {name: pa.nulls(0) for name in names}
    out._error = error
    return out


def collate(samples: Sequence[Any]) -> Any:
    """Collates samples into a batch. Numbers, and tensors of equal shape, become tensors; other values become lists."""
    if isinstance(samples[0], tuple):
        return tuple(map(_collated, zip(*samples, strict=True)))
    return {name: _collated([sample[name] for sample in samples]) for name in samples[0]}


def _collated(values: Sequence[Any]) -> Any:
    import torch

    first = values[0]
    if isinstance(first, torch.Tensor) and all(isinstance(v, torch.Tensor) and v.shape == first.shape for v in values):
        return torch.stack(tuple(values))
    if all(type(v) is int for v in values) or all(type(v) is float for v in values):
        return torch.tensor(values)
    return list(values)
