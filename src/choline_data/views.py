"""The views of a stream: a position holds a sample, a sample as one text, or a row of packed tokens. The server and the
embedded client open streams only here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.errors import (
    DamagedStoreError,
    InvalidOptionError,
    RevisionGoneError,
    SourceNotFoundError,
    UnknownFieldError,
)
from choline_data.order.recipe import Recipe
from choline_data.process.work import pause
from choline_data.store.object_names import manifest_name
from choline_data.store.windows import Store
from choline_data.streams import wire
from choline_data.streams.sample_stream import SampleStream

TEXT_COLUMNS = ("id", "dataset", "text")


class Readable(Protocol):
    """Interface of a stream that is read by position. It keeps no current position, so threads can share it."""

    recipe: Recipe
    schema: pa.Schema
    wire_schema: pa.Schema
    datasets: tuple[str, ...]

    @property
    def length(self) -> int | None:
        """The number of positions. None if the stream has no end."""

    @property
    def lost(self) -> bool:
        """Whether the caller should open the stream again, because a file that it holds has changed or is damaged."""

    def mean_row_bytes(self) -> float:
        """Returns the approximate mean size of a row in bytes."""

    def read_at(self, positions: npt.NDArray[np.int64]) -> pa.RecordBatch:
        """Returns the rows at these ascending positions, in `wire_schema`."""

    def read(self, start: int, stop: int) -> pa.RecordBatch:
        """Returns the rows at positions start … stop-1, in `wire_schema`."""


PART_BYTES = 4 << 20  # approximate bytes that `read_positions` reads at a time
MOST_AT_ONCE = 2048


class TooManyBytesError(Exception):
    """The error for rows that have more bytes than the caller allows."""


def read_positions(
    stream: Readable, positions: Sequence[int] | npt.NDArray[np.int64], most_bytes: int | None = None
) -> pa.RecordBatch:
    """Returns the rows at these positions, in this order. A position may occur more than once.

    Positions may lie far apart: nothing between them is computed or read. Raises TooManyBytesError as soon as the rows
    have more than `most_bytes`.
    """
    wanted = np.asarray(positions, dtype=np.int64)
    if not len(wanted):
        return stream.read_at(wanted)
    ascending, back = np.unique(wanted, return_inverse=True)
    at_once = int(min(max(PART_BYTES // max(stream.mean_row_bytes(), 1.0), 1), MOST_AT_ONCE))
    parts, size = [], 0
    for start in range(0, len(ascending), at_once):
        pause()
        parts.append(stream.read_at(ascending[start : start + at_once]))
        size += parts[-1].nbytes
        if most_bytes is not None and size > most_bytes:
            raise TooManyBytesError
    batch = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
    if np.array_equal(ascending, wanted):
        return batch
    if most_bytes is not None and len(wanted) > len(ascending):
        sizes = np.array([batch.slice(row, 1).nbytes for row in range(batch.num_rows)])
        if int(sizes[back].sum()) > most_bytes:
            raise TooManyBytesError
    return batch.take(pa.array(back))


class TextStream:
    """Every sample rendered as text: the columns id, dataset and text."""

    def __init__(self, store: Store, recipe: Recipe, columns: Sequence[str] | None = None) -> None:
        for column in columns or ():
            if column not in TEXT_COLUMNS:
                raise UnknownFieldError(column, TEXT_COLUMNS, where="columns of the text view")
        self._samples = SampleStream(store, recipe)
        self.recipe = recipe
        self.datasets = self._samples.datasets
        inner = self._samples.schema
        self.schema = pa.schema(
            [inner.field("id"), inner.field("dataset"), pa.field("text", pa.large_string(), nullable=False)],
            metadata={**(inner.metadata or {}), "choline_data.view": "text"},
        )
        self.wire_schema = wire.schema_on_the_wire(self.schema)

    @property
    def length(self) -> int | None:
        """The number of positions. None if the stream has no end."""
        return self._samples.length

    @property
    def lost(self) -> bool:
        """Returns False: this stream opens files whenever it reads samples, so a replaced file does not end it."""
        return False

    def mean_row_bytes(self) -> float:
        """Returns the approximate mean size of a sample in bytes, before it is rendered."""
        return self._samples.mean_row_bytes()

    def read_at(self, positions: npt.NDArray[np.int64]) -> pa.RecordBatch:
        """Returns the texts at these ascending positions."""
        from choline_data.streams.rendering import render

        batch = self._samples.read_at(positions)
        names = wire.dictionaries(self.datasets)
        text = render(wire.with_dictionaries(batch, self._samples.schema, names))
        return pa.record_batch([batch["id"], batch["dataset"], text], schema=self.wire_schema)

    def read(self, start: int, stop: int) -> pa.RecordBatch:
        """Returns the texts at positions start … stop-1."""
        return self.read_at(np.arange(start, stop, dtype=np.int64))


def _tokens(store: Store, recipe: Recipe, columns: Sequence[str] | None) -> Readable:
    from choline_data.tokens.token_stream import TokenStream

    return TokenStream(store, recipe, columns)


VIEWS: dict[str, Callable[[Store, Recipe, Sequence[str] | None], Readable]] = {
    "samples": SampleStream,
    "text": TextStream,
    "tokens": _tokens,
}


def open_stream(store: Store, recipe: Recipe, columns: Sequence[str] | None = None) -> Readable:
    """Opens the stream of a recipe in the recipe's view. `columns` are added to id and dataset; None selects all."""
    if recipe.view not in VIEWS:
        raise InvalidOptionError(f"There is no view {recipe.view!r}.", remedy=f"Views: {', '.join(VIEWS)}.")
    try:
        opened = VIEWS[recipe.view](store, recipe, columns)
    except (RevisionGoneError, SourceNotFoundError, FileNotFoundError, DamagedStoreError):
        # If the manifest is missing too, `gc` has removed the revision, and the error says so. Otherwise the first
        # error is raised.
        for source in recipe.sources:
            if not store.home.exists(manifest_name(source.revision)):
                raise RevisionGoneError(source.dataset, source.revision) from None
        raise
    store.mark_read(recipe)
    return opened
