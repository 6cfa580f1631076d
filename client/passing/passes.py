"""A pass over a dataset: which samples this process reads, and the iterator that yields them."""

from __future__ import annotations

import itertools
import logging
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import length_hint
from typing import Any, NoReturn

import pyarrow as pa

from choline_data.client.feedback.bans import Bans, part
from choline_data.client.feedback.outliers import Outliers
from choline_data.client.making.maker import Maker
from choline_data.client.readers.prefetch import Prefetch
from choline_data.client.readers.reader import Chunk, Reader
from choline_data.columns.arrow_values import plain
from choline_data.errors import CholineDataError, DataError, UnavailableError
from choline_data.order.lanes import Lane
from choline_data.places.mapped import steady
from choline_data.process.memory import PASSES, keep_freed

log = logging.getLogger("choline_data")
BAD_IN_A_ROW = 100
# If all samples of a step are banned: how many positions are searched at a time, and in total.
_LOOK_AHEAD, _MOST_AHEAD = 64, 1 << 14
KEPT_BYTES = 64 << 20  # freed memory that the process keeps for reuse: a few batches and messages


@dataclass
class PassProgress:
    """How far a pass has come. It counts the samples that were yielded, not those that were only read ahead."""

    lane: Lane
    offset: int  # offset of this rank's samples within a step
    group: int  # positions from one of this rank's batches to the next
    end: int | None  # the position at which the pass ends
    epoch: int = 0
    given: int = 0  # number of samples of the lane that were made so far: yielded ones, and those in `left`
    finished: bool = False
    worker: int = 0
    workers: int = 1
    split: str = ""
    in_groups: bool = False  # whether each block of the lane is one batch of a DataLoader with workers
    rows: int = 0
    waited: float = 0.0
    began: float = field(default_factory=time.monotonic)
    skipped: int = 0
    banned: int = 0
    size: int = 0  # bytes received from workers
    reader: Callable[[], Reader] | None = None
    ahead: Callable[[], Prefetch | None] | None = None  # a weak reference: the queue is freed with the pass
    left: Iterator[Any] = field(default_factory=lambda: iter(()))  # samples that were made but not yielded yet

    @property
    def index(self) -> int:
        """How many of the reader's samples were yielded."""
        return self.given - length_hint(self.left)

    def position(self) -> int:
        """Returns the position at which this reader's next step begins."""
        position = self.lane.position(self.index) - self.offset
        if self.end is None:
            return position
        # The last batch was incomplete.
        short = self.index % self.lane.block > 0 and self.index >= self.lane.below(self.end)
        return max(position, self.end) if self.finished or short else position

    def received(self) -> int:
        """Returns the number of bytes received from servers or workers.

        For an embedded reader, returns the approximate size of the rows in the store.
        """
        reader = self.reader() if self.reader is not None else None
        return self.size if reader is None else reader.received_bytes(self.rows)

    def queue(self) -> tuple[int, int]:
        """Returns the number of bytes that were read ahead, and the limit of this number."""
        ahead = self.ahead() if self.ahead is not None else None
        return (0, 0) if ahead is None else ahead.fill()

    def after(self) -> int:
        """Returns the position of this rank's step after the last yielded one. Another worker of the rank may read that
        step.
        """
        return self.lane.begin(self.index - 1) - self.offset + self.group


class Pass:
    """Yields the samples or batches of one reader. It goes on after an exception: the next call yields the next sample or
    batch.
    """

    def __init__(
        self,
        progress: PassProgress,
        reader: Callable[[], Reader],
        make: Maker,
        *,
        batch: int | None,
        length: int | None,
        ahead: int,
        done: Callable[[], None],
        error: CholineDataError | None = None,
        bans: Bans,
        outliers: Outliers,
        other: Callable[[], Reader],
    ) -> None:
        keep_freed(KEPT_BYTES)
        PASSES.begins()
        self.progress = progress
        self._batch = batch
        self._done = done
        self._bans, self._outliers, self._other = bans, outliers, other
        self._bad = 0
        self._drop: Callable[[], object] = lambda: None
        self.read_on(reader, make, length=length, ahead=ahead, error=error)
        bans.watch(self)

    def read_on(
        self,
        reader: Callable[[], Reader],
        make: Maker,
        *,
        length: int | None,
        ahead: int,
        error: CholineDataError | None,
    ) -> None:
        """Continues with this reader after the last yielded sample. Discards what another reader read ahead."""
        self._drop()
        progress = self.progress
        progress.given, progress.left = progress.index, iter(())
        self._make = make
        self._plain = make.plain
        self._length = length
        self._error = error  # the error to raise at the end of the stream
        lane, end = progress.lane, progress.end
        count = None if end is None else lane.below(end)
        self._total = count
        whole = count if count is None or length is None else min(count, lane.below(length))

        def read(source: Reader, index: int) -> Iterator[Chunk]:
            return _wrap_around(source, lane, index, whole, count, length)

        self._ahead: Prefetch | None = None
        self._chunks: Iterator[Chunk] | None = None
        self._read, self._reader = read, reader
        self._fetched = progress.index
        if ahead:
            self._ahead = Prefetch(reader, read, progress.index, limit=ahead)
            self._drop = weakref.finalize(self, self._ahead.drop)
            progress.ahead = weakref.ref(self._ahead)
        progress.reader = reader
        self._held: Chunk | None = None
        self._at = 0
        self._left = progress.left
        self._made_ahead: Iterator[list[Any]] = iter(())
        # iterator over samples that still have to be decoded or transformed
        self._at_rows: Iterator[tuple[Chunk, int, Any]] = iter(())
        self._passed_over = 0  # number of banned samples that follow directly after the last finished samples
        self._interrupted = False  # whether an exception interrupted the reading, so that some samples may be lost

    def __iter__(self) -> Pass:
        return self

    def __next__(self) -> Any:
        # fast path: `progress` counts by the length hint of this iterator
        for sample in self._left:
            return sample
        return self._further()

    def _further(self) -> Any:
        """Makes and returns the next item when no finished sample is ready. Every batch is made here."""
        if self._batch is not None:
            return self._next_batch(self._batch)
        progress = self.progress
        while True:
            for chunk, row, sample in self._at_rows:
                progress.given += 1
                item = self._finish(chunk, row, sample)
                if item is not None:
                    return item
            for samples in self._made_ahead:
                progress.given += len(samples)
                progress.left = self._left = iter(samples)
                return next(self)
            with self._reading():
                allowed = self._next_chunk()
            if allowed is None:
                self._end()
            self._outliers.saw(allowed)
            if self._plain:
                self._made_ahead = iter(self._make.lists(allowed))
            else:
                self._at_rows = self._numbered(allowed)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Context manager around the code that reads the next samples. After an error, the next call reads again, from
        the last yielded sample.
        """
        if self._interrupted:
            self._go_to(self.progress.index)
        self._interrupted = True
        yield
        self._interrupted = False

    def _next_chunk(self) -> Chunk | None:
        """Returns the next samples up to a banned sample. The banned sample is counted when the samples after it are
        requested.
        """
        self.progress.given += self._passed_over
        self.progress.banned += self._passed_over
        self._passed_over = 0
        while (chunk := self._rest()) is not None:
            rows = self._bans.rows(chunk.batch).tolist() if self._bans.ids else []
            if not rows:
                return chunk
            first = rows[0]
            if first + 1 < chunk.batch.num_rows:
                self._held, self._at = chunk, first + 1
            if first:
                self._passed_over = 1
                return part(chunk, 0, first)
            self.progress.given += 1
            self.progress.banned += 1
        return None

    def _rest(self) -> Chunk | None:
        """Returns the rest of the current chunk, or the next chunk."""
        chunk_left, self._held = self._held, None
        return self._fetch() if chunk_left is None else part(chunk_left, self._at, chunk_left.batch.num_rows)

    def skip(self, steps: int) -> None:
        """Skips `steps` steps after the last step yielded. Discards the samples that were read ahead."""
        if not steps and self._batch is not None:
            return  # This reads no samples. The bans are applied when a step is made.
        progress = self.progress
        index = progress.index + steps * (self._batch or 1)
        self._go_to(index if self._total is None else min(index, self._total))

    def _go_to(self, index: int) -> None:
        progress = self.progress
        progress.given, progress.left = index, iter(())
        self._left, self._made_ahead, self._at_rows = progress.left, iter(()), iter(())
        self._held, self._chunks, self._passed_over = None, None, 0
        self._fetched, self._interrupted = index, False
        if self._ahead is not None:
            self._ahead.restart(index)

    def _end(self) -> NoReturn:
        self.progress.finished = True
        self._done()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def _fetch(self) -> Chunk | None:
        if self.progress.finished or (self._total is not None and self.progress.index >= self._total):
            return None
        began = time.monotonic()
        if self._ahead is not None:
            chunk = self._ahead.next()
        else:
            if self._chunks is None:
                self._chunks = self._read(self._reader(), self._fetched)
            try:
                chunk = next(self._chunks, None)
            except BaseException:
                # A generator cannot continue after it has raised an error, so start another one at the same sample.
                self._chunks = None
                raise
        self.progress.waited += time.monotonic() - began
        if chunk is not None:
            self._fetched += chunk.batch.num_rows
            self.progress.rows += chunk.batch.num_rows
        elif self._total is not None and self._fetched < self._total:
            raise UnavailableError(
                f"The reader ended {self._total - self._fetched} samples before the end of the pass.",
                remedy="Load the last state and continue from it.",
            )
        return chunk

    def _numbered(self, chunk: Chunk) -> Iterator[tuple[Chunk, int, Any]]:
        return ((chunk, row, sample) for row, sample in enumerate(self._make.samples(chunk)))

    def _finish(self, chunk: Chunk, row: int, sample: Any) -> Any:
        """Decodes and transforms a sample. Returns None if the sample is skipped."""
        try:
            sample_made = self._make.finish(sample)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything; on_error decides
            self._skip(chunk, row, error)
            return None
        self._bad = 0
        return sample_made

    def _skip(self, chunk: Chunk, row: int, error: Exception) -> None:
        if self._make.on_error != "skip":
            raise error
        self._bad += 1
        self.progress.skipped += 1
        # Read from the chunk, because the rows of some formats do not name their source.
        named = chunk.batch["id"][row].as_py().hex() if "id" in chunk.batch.schema.names else "none"
        dataset = self._make.datasets[chunk.batch["dataset"][row].as_py()]
        log.warning("skipped position %s of %s, id %s: %s", chunk.positions[row], dataset, named, error)
        if self._bad >= BAD_IN_A_ROW:
            self._bad = 0
            raise DataError(
                f"{BAD_IN_A_ROW} samples in a row could not be decoded or transformed; the last: {error}",
                remedy="Check `format`, `decode` and `transform`.",
            ) from error

    def _next_batch(self, size: int) -> Any:
        with self._reading():
            chunk = self._gathered(size)
            self.progress.given += 0 if chunk is None else chunk.batch.num_rows
        if chunk is None:
            self._end()
        return self._make_batch(self._without_banned(chunk))

    def _without_banned(self, chunk: Chunk) -> Chunk:
        """Returns a step's samples without the banned samples.

        If all are banned, returns the next sample that is not banned, because no step is empty.
        """
        if self._bans.ids:
            allowed = self._bans.split_at_bans(chunk)
            left = sum(k.batch.num_rows for k in allowed)
            self.progress.banned += chunk.batch.num_rows - left
            if left < chunk.batch.num_rows:
                chunk = join_chunks(allowed) if allowed else self._next_allowed(int(chunk.positions[-1]) + 1)
        self._outliers.saw(chunk)
        return chunk

    def _next_allowed(self, position: int) -> Chunk:
        """Returns the first sample at or after this position that is not banned. Another rank may also receive this
        sample.
        """
        import numpy as np

        for start in range(position, position + _MOST_AHEAD, _LOOK_AHEAD):
            positions = np.arange(start, start + _LOOK_AHEAD, dtype=np.int64) % (self._length or 1 << 62)
            chunk = Chunk(self._other().at(positions.tolist()), positions)
            allowed = self._bans.split_at_bans(chunk) if self._bans.ids else [chunk]
            if allowed:
                return part(allowed[0], 0, 1)
        raise DataError(
            f"Every sample from position {position} on is banned.", remedy="Lift the bans with dataset.unban()."
        )

    def _make_batch(self, chunk: Chunk) -> Any:
        """Returns the chunk as a batch. If all its samples are skipped, uses the next sample that is not skipped,
        because no step is empty.
        """
        if self._plain:
            return self._make.batch(chunk)
        while not (items := [m for m in itertools.starmap(self._finish, self._numbered(chunk)) if m is not None]):
            chunk = self._next_allowed(int(chunk.positions[-1]) + 1)
            self._outliers.saw(chunk)
        return self._make.collate_samples(items)

    def _gathered(self, size: int) -> Chunk | None:
        parts: list[Chunk] = []
        need = size
        while need:
            if self._held is None:
                self._held, self._at = self._fetch(), 0
                if self._held is None:
                    break
            take = min(need, self._held.batch.num_rows - self._at)
            whole = take == self._held.batch.num_rows
            stop = self._at + take
            parts.append(self._held if whole else self._held.part(self._at, stop, (self._held.batch, self._at)))
            self._at = stop
            need -= take
            if stop == self._held.batch.num_rows:
                self._held = None
        return join_chunks(parts) if parts else None


def join_chunks(parts: list[Chunk]) -> Chunk:
    """Joins chunks into one."""
    if len(parts) == 1:
        return parts[0]
    import numpy as np

    batches = [p.batch for p in parts]
    # Some of the chunks have view columns, others plain columns.
    if any(batch.schema != batches[0].schema for batch in batches):
        batches = [steady(partial(_of_its_own, p.batch), p.files) for p in parts]
        batches = [batch.cast(batches[0].schema) for batch in batches]
    files = tuple(dict.fromkeys(file for p in parts for file in p.files))
    return Chunk(pa.concat_batches(batches), np.concatenate([p.positions for p in parts]), files=files)


def _of_its_own(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the batch with plain columns in place of views, so that it does not refer to store files."""
    return pa.record_batch([plain(column) for column in batch.columns], names=batch.schema.names)


def _wrap_around(
    reader: Reader, lane: Lane, index: int, whole: int | None, count: int | None, length: int | None
) -> Iterator[Chunk]:
    """Yields `count` samples for `last_batch="wrap"`: first the last `whole` samples of the reader, and then samples from
    the beginning of the stream.
    """
    if whole is None or index < whole:
        for chunk in reader.chunks(lane, index, None if whole is None else whole - index):
            index += chunk.batch.num_rows
            yield chunk
        if whole is not None and index < whole:
            return  # The reader was closed, so nobody needs the rest.
    if count is not None and length and index < count:
        positions = lane.positions(index, count - index) % length
        yield Chunk(reader.at(positions.tolist()), positions)
