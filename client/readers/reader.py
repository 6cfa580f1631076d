"""What a reader gives the dataset, embedded or remote: the recipe, its schema, and samples of a lane in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from choline_data.order.lanes import Ints, Lane
from choline_data.order.recipe import Recipe
from choline_data.places.mapped import MappedFile, steady


class Looked:
    """A batch of views, and lists that were made of some of its rows: more than one step looks at, so that files are
    asked seldom whether they changed."""

    def __init__(self, batch: pa.RecordBatch, files: Sequence[MappedFile], at_once: int) -> None:
        self._batch, self._files, self._at_once = batch, files, at_once
        self._made: dict[str, tuple[int, list[Any]]] = {}

    def rows(self, name: str, first: int, count: int, made: Callable[[pa.Array], list[Any]]) -> list[Any]:
        """Rows from `first` on of a column, of which `made` makes lists."""
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
    part_of: tuple[pa.RecordBatch, int] | None = None  # the batch that this is a slice of, and from which row
    at_once: int = 512  # samples that are made of it at a time: so few that they are still near when they are used
    files: Sequence[MappedFile] = ()  # of the store, where its strings and bytes lie: `steady` makes values of them
    looked: Looked | None = None  # what it is a part of
    first: int = 0  # its first row there

    def part(self, start: int, stop: int, part_of: tuple[pa.RecordBatch, int] | None = None) -> Chunk:
        """Rows start … stop-1."""
        batch, positions = self.batch.slice(start, stop - start), self.positions[start:stop]
        return Chunk(batch, positions, part_of, self.at_once, self.files, self.looked, self.first + start)


@dataclass(frozen=True)
class Described:
    """What a stream looks like."""

    recipe: Recipe
    schema: pa.Schema
    datasets: tuple[str, ...]
    length: int | None


class Reader(Protocol):
    """A source of samples. Opened in the process that reads, never carried into another."""

    def describe(self) -> Described:
        """The stream's recipe, schema, dataset names and length."""

    def chunks(self, lane: Lane, index: int, count: int | None) -> Iterator[Chunk]:
        """The lane's samples from number `index` on, `count` of them or until they end, in order, none left out."""

    def at(self, positions: Sequence[int]) -> pa.RecordBatch:
        """The samples at these positions, in this order, in the wire schema."""

    def received_bytes(self, rows: int) -> int:
        """Bytes that `rows` samples, which it has given, came in."""

    def close(self) -> None:
        """Lets go of everything; a chunk that is being waited for ends with UnavailableError."""
