"""A recipe that is open for some columns, and the caches of messages and samples for its streams."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import pyarrow as pa

from choline_data.columns.gathered import Column
from choline_data.columns.ipc import MessageWriter
from choline_data.order.lanes import Lane
from choline_data.order.phases import CHECKPOINT
from choline_data.places.mapped import MappedFile, mark, same
from choline_data.service import frames
from choline_data.streams import wire
from choline_data.streams.sample_stream import SampleStream
from choline_data.views import Readable

MAX_ROWS = 1 << 14
PLANNED_BYTES = wire.MAX_BYTES * 3 // 4
GATHERED_AHEAD = 8  # the largest number of messages that are gathered at a time
AHEAD_BYTES = 8 << 20
# the limit of rows that are gathered at a time; with more, other streams would wait too long for the event loop
ROWS_IN_LOOP = 1 << 14
SOURCES_IN_LOOP = 32
PHASES_AT_HAND = 100  # the number of phases that a plan keeps in memory, each with its tree of weights


class MessageCache:
    """A cache of encoded messages, bounded in bytes. It always keeps at least the last entry."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[tuple[object, ...], tuple[frames.FramedMessage, ...]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[object, ...]) -> tuple[frames.FramedMessage, ...] | None:
        """Returns the messages of this key, or None if they are not cached."""
        messages = self._held.get(key)
        if messages is not None:
            self._held.move_to_end(key)
        return messages

    def put(self, key: tuple[object, ...], messages: tuple[frames.FramedMessage, ...]) -> None:
        """Caches the messages, and drops the least recently used ones if there are too many bytes."""
        if key in self._held:
            return
        self._held[key] = messages
        self._bytes += sum(len(m.frame) for m in messages)
        while self._bytes > self.limit and len(self._held) > 1:
            _, evicted = self._held.popitem(last=False)
            self._bytes -= sum(len(m.frame) for m in evicted)


class Gathered:
    """Samples that a stream has picked for several of its next messages: their range of indexes, and one column for each
    field.
    """

    def __init__(self) -> None:
        self.start = self.stop = -1
        self._columns: list[Column] = []
        self._files: Sequence[MappedFile] = ()
        self._since = 0
        self._row_bytes = (
            0.0  # bytes of memory for a row that does not come from a cached window; mapped files do not count
        )

    def reach(self, start: int, stop: int, end: int | None, opened: Opened) -> int:
        """Returns the index up to which samples are picked, if samples start … stop-1 are needed and the stream ends at
        `end`.

        A stream that reads on picks samples for several messages at a time.
        """
        rows = stop - start
        messages = opened.ahead(rows) if self.stop == start else 1
        if self._row_bytes:
            messages = min(messages, max(int(AHEAD_BYTES / (self._row_bytes * rows)), 1))
        reach = start + messages * rows
        return reach if end is None else min(reach, end)

    def read(self, stream: SampleStream, lane: Lane, start: int, stop: int, reach: int) -> pa.RecordBatch:
        """Returns samples start … stop-1 of a stream. If they are not gathered yet, gathers the samples up to `reach`, and loads
        the windows of all these samples. So call it in a thread.
        """
        if self.part(start, stop) is None:
            since, located = mark(), stream.locate(lane.positions(start, reach - start))
            try:
                columns = stream.gather(located)
            except Exception:  # noqa: BLE001 - a changed file may be the cause; `read_at` finds out, or raises the same error
                return stream.read_at(lane.positions(start, stop - start))
            self.take(start, reach, columns, located.files, since)
            self._row_bytes = located.bytes_apart / located.count
        arrays = [column.to_arrow() for column in self.part(start, stop) or ()]
        if self.whole():
            return pa.record_batch(arrays, schema=stream.wire_schema)
        return stream.read_at(lane.positions(start, stop - start))

    def take(self, start: int, stop: int, columns: list[Column], files: Sequence[MappedFile], since: int) -> None:
        """Replaces the samples.

        They were read after `mark()` returned `since`, and parts of them may still lie in the mapped `files`.
        """
        self.start, self.stop, self._columns, self._files, self._since = start, stop, columns, files, since

    def whole(self) -> bool:
        """Whether the files have not changed since the samples were read. If one has changed, the samples are dropped."""
        if same(self._files, self._since):
            return True
        self.take(-1, -1, [], (), 0)
        return False

    def part(self, start: int, stop: int) -> list[Column] | None:
        """Returns the columns of samples start … stop-1, or None if some of these samples are missing."""
        if not self.start <= start < stop <= self.stop:
            return None
        if (start, stop) == (self.start, self.stop):
            return self._columns
        return [column.part(start - self.start, stop - self.start) for column in self._columns]


class Opened:
    """A recipe opened for some columns: its stream, its schema as bytes, and how many rows make a message."""

    def __init__(self, stream: Readable, columns: tuple[str, ...] | None) -> None:
        self.stream = stream
        self.digest = stream.recipe.digest
        self.columns = columns
        self.schema_bytes = stream.schema.serialize().to_pybytes()
        # A sample stream only copies memory once its windows are loaded.
        self.direct = stream if isinstance(stream, SampleStream) else None
        self.writer = MessageWriter(stream.wire_schema)
        # Packed rows are slices of mapped arrays, so nothing has to be loaded.
        self.packed = stream.recipe.view == "tokens"
        self.many = len(stream.recipe.sources) > SOURCES_IN_LOOP
        self._row_bytes = max(stream.mean_row_bytes(), 1.0)
        self.files: Sequence[MappedFile] = getattr(stream, "files", ())
        self._settled = False
        self.nbytes = held_by(stream)

    def ahead(self, rows: int) -> int:
        """Returns for how many messages of `rows` rows the samples are read at a time."""
        return int(min(GATHERED_AHEAD, max(AHEAD_BYTES / (rows * self._row_bytes), 1), max(ROWS_IN_LOOP // rows, 1)))

    def rows_a_message(self, target: int) -> int:
        """Returns how many rows make a message of about `target` bytes: a power of two, computed from the mean size of a row.

        Plans at most PLANNED_BYTES, because a message above MAX_BYTES is made again in two halves.
        """
        rows = 1
        while (
            rows < MAX_ROWS and rows * 1.5 * self._row_bytes <= target and rows * 2 * self._row_bytes <= PLANNED_BYTES
        ):
            rows *= 2
        return rows

    def settle(self, rows: int, size: int) -> None:
        """Sets the mean size of a row from the first message. Later calls change nothing, so messages always begin at the
        same indexes.
        """
        if not self._settled and rows:
            self._settled = True
            self._row_bytes = max(size / rows, 1.0)


def held_by(stream: Readable) -> int:
    """Returns about how many bytes an open stream holds: its recipe, its plan, the rows that its `where` selects, and
    its view.
    """
    recipe = stream.recipe
    sources = len(recipe.sources)
    weights = sources * len(recipe.segments)
    # the plan has a count of 8 bytes for each source of each phase that it keeps
    marks = sources * ((sources + len(recipe.segments)) // CHECKPOINT + PHASES_AT_HAND)
    selected = sum(8 * source.rows for source in recipe.sources if source.where)
    packed = int(getattr(stream, "held_bytes", 0))
    return 4096 * sources + 512 * weights + 8 * marks + selected + packed
