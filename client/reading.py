"""What a reader gives the dataset, embedded or remote: the recipe, its schema, and samples of a lane in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from choline_data.client.ranks import Ints, Lane
from choline_data.mapped import MappedFile
from choline_data.recipe import Recipe


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples of a lane: a batch of the wire schema and the position of each row."""

    batch: pa.RecordBatch
    positions: Ints
    part_of: tuple[pa.RecordBatch, int] | None = None  # the batch that this is a slice of, and from which row
    at_once: int = 512  # samples that are made of it at a time: so few that they are still near when they are used
    files: Sequence[MappedFile] = ()  # of the store, where its strings and bytes lie: `steady` makes values of them

    def part(self, start: int, stop: int) -> Chunk:
        """Rows start … stop-1."""
        return replace(self, batch=self.batch.slice(start, stop - start), positions=self.positions[start:stop])


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
