"""Reads a home in this process, with the same order and store code as the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from choline_data.client.readers.reader import CachedLists, Chunk, StreamDescription
from choline_data.order.lanes import Ints, Lane
from choline_data.order.recipe import Recipe
from choline_data.store.windows import Store
from choline_data.streams.sample_stream import SampleStream

TARGET_BYTES = 4 << 20  # approximate number of bytes that are read, or made into samples, at a time
MOST_ROWS, ROWS_AT_ONCE = 8192, 512
FIRST_ROWS = 32
# the number of windows in memory: a loop needs two; a map-style view reads in random order, and needs more
WINDOWS_A_SOURCE = 8


class EmbeddedReader:
    """Reads a stream from the home at `location`."""

    def __init__(self, location: str, recipe: Recipe, columns: Sequence[str] | None) -> None:
        from choline_data.places.home import Home
        from choline_data.views import open_stream

        self._store = Store(Home(location), windows_a_source=WINDOWS_A_SOURCE)
        self._stream = open_stream(self._store, recipe, columns)
        direct = isinstance(self._stream, SampleStream)
        near = int(max(1, TARGET_BYTES // max(self._stream.mean_row_bytes(), 1)))
        self._rows = min(MOST_ROWS, near * 8 if direct else near)
        self._at_once = min(ROWS_AT_ONCE, near)

    def describe(self) -> StreamDescription:
        """Returns the stream's recipe, schema, dataset names and length."""
        stream = self._stream
        return StreamDescription(stream.recipe, stream.schema, stream.datasets, stream.length)

    def chunks(self, lane: Lane, index: int, count: int | None) -> Iterator[Chunk]:
        """Yields the lane's samples from number `index` on. The first chunks are small, so that the first sample arrives soon."""
        if count is None and self._stream.length is not None:
            count = max(lane.below(self._stream.length) - index, 0)
        rows = min(FIRST_ROWS, self._rows)
        while count is None or count > 0:
            take = max(rows // lane.block, 1) * lane.block
            take = take if count is None else min(take, count)
            positions = lane.positions(index, take)
            yield self._chunk(positions)
            self._store.mark_read(self._stream.recipe)
            index += take
            count = None if count is None else count - take
            rows = min(rows * 2, self._rows)

    def _chunk(self, positions: Ints) -> Chunk:
        if not isinstance(self._stream, SampleStream):
            return Chunk(self._stream.read_at(positions), positions, at_once=self._at_once)
        # The batch holds views of the store's files: a column that nobody uses is never copied.
        batch, files = self._stream.views_at(positions)
        return Chunk(batch, positions, None, self._at_once, files, CachedLists(batch, files, self._at_once))

    def at(self, positions: Sequence[int]) -> pa.RecordBatch:
        """Returns the samples at these positions, in this order."""
        from choline_data.views import read_positions

        return read_positions(self._stream, positions)

    def received_bytes(self, rows: int) -> int:
        """Returns the approximate size of `rows` rows in the store. Nothing is transferred, so there are no bytes to count."""
        return int(rows * self._stream.mean_row_bytes())

    def close(self) -> None:
        """Does nothing: this reader has no thread and no connection."""


def resolve_in_home(location: str, mix: object, settings: Mapping[str, Any], tokens: Mapping[str, Any]) -> Recipe:
    """Resolves a mix against the current catalog of the home. `tokens` are the settings of the tokens view."""
    from choline_data.mix import resolve_mix
    from choline_data.places.home import Home

    store = Store(Home(location))
    if settings.get("view") != "tokens":
        return resolve_mix(mix, store, **settings)
    from choline_data.tokens.token_stream import token_options, token_rows
    from choline_data.tokens.tokenizer_objects import tokenizer_of

    tokenizer = tokenizer_of(tokens.get("tokenizer", "bytes"))
    options = token_options(**{**tokens, "tokenizer": tokenizer})
    return resolve_mix(mix, store, **settings, options=options, rows_of=token_rows(tokenizer))
