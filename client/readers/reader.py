"""The interface of embedded and remote readers: the recipe, its schema, and a lane's samples in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from choline_data.order.lanes import Ints, Lane
from choline_data.order.recipe import Recipe
from choline_data.places.mapped import MappedFile, steady


class CachedLists:
    """A cache of rows as Python lists. They are made for several steps at a time, because after each conversion the mapped
    files are checked for changes.
    """

    def __init__(self, batch: pa.RecordBatch, files: Sequence[MappedFile], at_once: int) -> None:
        self._batch, self._files, self._at_once = batch, files, at_once
        self._made: dict[str, tuple[int, list[Any]]] = {}

    def rows(self, name: str, first: int, count: int, made: Callable[[pa.Array], list[Any]]) -> list[Any]:
        """Returns `count` rows of a column, from row `first` on, as a list. `made` is the function that converts an
        Arrow array to a list.
        """
        start, values = self._made.get(name, (0, []))
        if not start <= first <= first + count <= start + len(values):
            column = self._batch[name].slice(first, max(count, self._at_once))
            start, values = self._made[name] = first, steady(lambda: made(column), self._files)
        return values[first - start : first - start + count]


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples of one reader: a batch in the wire schema, and the position of each row."""

    batch: pa.RecordBatch
    positions: Ints
    # (batch, row): this chunk is the slice of the batch that begins at this row
    part_of: tuple[pa.RecordBatch, int] | None = None
    # How many samples are made at a time: few enough that they are still in the CPU cache when they are used.
    at_once: int = 512
    # The store files to which the views in `batch` refer. Values are copied from them within `steady`.
    files: Sequence[MappedFile] = ()
    looked: CachedLists | None = None  # a larger batch with cached lists; this chunk is a part of it
    first: int = 0  # the row of the larger batch at which this chunk begins

    def part(self, start: int, stop: int, part_of: tuple[pa.RecordBatch, int] | None = None) -> Chunk:
        """Returns rows start … stop-1 of this chunk. `part_of` is the larger batch that has these rows, and the number of
        the first row in it.
        """
        batch, positions = self.batch.slice(start, stop - start), self.positions[start:stop]
        return Chunk(batch, positions, part_of, self.at_once, self.files, self.looked, self.first + start)


@dataclass(frozen=True)
class StreamDescription:
    """The description of a stream: its recipe, schema, dataset names and length."""

    recipe: Recipe
    schema: pa.Schema
    datasets: tuple[str, ...]
    length: int | None


class Reader(Protocol):
    """Interface of a source of samples. It is opened in the process that reads, and never passed to another process."""

    def describe(self) -> StreamDescription:
        """Returns the stream's recipe, schema, dataset names and length."""

    def chunks(self, lane: Lane, index: int, count: int | None) -> Iterator[Chunk]:
        """Yields the lane's samples from number `index` on, in order and without gaps.

        Yields `count` samples, or all if `count` is None.
        """

    def at(self, positions: Sequence[int]) -> pa.RecordBatch:
        """Returns the samples at these positions, in this order, in the wire schema."""

    def received_bytes(self, rows: int) -> int:
        """Returns the number of bytes that this reader received for the `rows` samples that it delivered."""

    def close(self) -> None:
        """Releases all resources. `chunks` that wait for data in another thread end."""
