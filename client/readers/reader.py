"""The interface of embedded and remote readers: the recipe, its schema, and a lane's samples in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from choline_data.order.lanes import Ints, Lane
from choline_data.order.recipe import Recipe
from choline_data.places.mapped import MappedFile, steady


class Looked:
    """A batch of views with a cache of lists made from its rows. Lists are made for several steps at a time, so that
    checks whether the files changed are rare."""

    def __init__(self, batch: pa.RecordBatch, files: Sequence[MappedFile], at_once: int) -> None:
        self._batch, self._files, self._at_once = batch, files, at_once
        self._made: dict[str, tuple[int, list[Any]]] = {}

    def rows(self, name: str, first: int, count: int, made: Callable[[pa.Array], list[Any]]) -> list[Any]:
        """`count` rows of a column from row `first` on, as a list. `made` converts an Arrow array to a list."""
        start, held = self._made.get(name, (0, []))
        if not start <= first <= first + count <= start + len(held):
            column = self._batch[name].slice(first, max(count, self._at_once))
            start, held = self._made[name] = first, steady(lambda: made(column), self._files)
        return held[first - start : first - start + count]


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples of a lane: a batch of the wire schema and the position of each row."""

    batch: pa.RecordBatch
    positions: Ints
    part_of: tuple[pa.RecordBatch, int] | None = None  # the batch that this is a slice of, and its first row there
    at_once: int = 512  # samples made at a time: few enough to be still in the CPU cache when used
    files: Sequence[MappedFile] = ()  # store files that its views refer to; `steady` copies values out of them
    looked: Looked | None = None  # the batch with cached lists that it is a part of
    first: int = 0  # its first row in that batch

    def part(self, start: int, stop: int, part_of: tuple[pa.RecordBatch, int] | None = None) -> Chunk:
        """Rows start … stop-1."""
        batch, positions = self.batch.slice(start, stop - start), self.positions[start:stop]
        return Chunk(batch, positions, part_of, self.at_once, self.files, self.looked, self.first + start)


@dataclass(frozen=True)
class Described:
    """A description of a stream."""

    recipe: Recipe
    schema: pa.Schema
    datasets: tuple[str, ...]
    length: int | None


class Reader(Protocol):
    """A source of samples. Opened in the process that reads, and never passed to another."""

    def describe(self) -> Described:
        """The stream's recipe, schema, dataset names and length."""

    def chunks(self, lane: Lane, index: int, count: int | None) -> Iterator[Chunk]:
        """The lane's samples from number `index` on, in order and without gaps: `count` of them, or all if None."""

    def at(self, positions: Sequence[int]) -> pa.RecordBatch:
        """The samples at these positions, in this order, in the wire schema."""

    def received_bytes(self, rows: int) -> int:
        """Bytes received for the `rows` samples that it delivered."""

    def close(self) -> None:
        """Releases all resources. `chunks` that wait for data in another thread end."""
