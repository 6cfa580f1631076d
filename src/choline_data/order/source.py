"""The order in which the rows of one source are served.

The samples of a source are numbered 0, 1, 2 … in the order of the stream; such a number is a rank. Rank t of a source
with n rows is place t % n of epoch t // n. With `shuffle`, blocks of `block_rows` rows are permuted first. Then rows
are permuted within windows, which are WINDOW_BLOCKS consecutive blocks of that order. Each epoch has its own keys.
Without `shuffle`, rows come in the order of the source. In both cases the rows of a window are a few ranges of the
revision. So a reader fetches these ranges, and picks rows from memory.

The order depends on the number of rows and on `block_rows`, never on how the rows are divided into files.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from choline_data.order.permute import TABLE_ROWS, Ints, Permutation, Permutations, key_of, keys_of
from choline_data.process.work import pause

WINDOW_BLOCKS = 64
_MANY_WINDOWS = 4
_RANKS_AT_ONCE = 512
_EPOCHS_KEPT = 4


@dataclass(frozen=True)
class WindowRows:
    """Some requested ranks that lie in the same window.

    `at` is the slice of the list of requested ranks. `rows` has, for each of these ranks, the place of its row in the
    window.
    """

    epoch: int
    window: int
    at: slice
    rows: Ints
    last: int  # the last of the ranks


class RowOrders:
    """A cache of the row orders of recently read windows, bounded in bytes. Threads can share it."""

    def __init__(self, limit: int = 16 << 20) -> None:
        self._limit = limit
        self._bytes = 0
        self._held: OrderedDict[tuple[object, ...], Ints] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...]) -> Ints | None:
        """Returns the row order of this window, or None if it is not cached."""
        with self._lock:
            order = self._held.get(key)
            if order is not None:
                self._held.move_to_end(key)
            return order

    def put(self, key: tuple[object, ...], order: Ints) -> None:
        """Caches the order, and drops the least recently used orders above the limit."""
        with self._lock:
            if key not in self._held:
                self._held[key] = order
                self._bytes += order.nbytes
            while self._bytes > self._limit and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes


class SourceOrder:
    """Finds the window and the row for each rank of one source. Equal values of `key` and `seed` give equal orders.

    Threads can share it.
    """

    def __init__(
        self, rows: int, block_rows: int, *, seed: int, key: str, shuffle: bool = True, picks: RowOrders | None = None
    ) -> None:
        if rows < 1 or block_rows < 1:
            raise ValueError(f"a source of {rows} rows in blocks of {block_rows}: both must be at least 1")
        self.rows = rows
        self.block_rows = block_rows
        self.shuffle = shuffle
        self._seed = seed
        self._key = key
        self._blocks = -(-rows // block_rows)
        # number of rows in the last block, which may be shorter than the others
        self._last = rows - (self._blocks - 1) * block_rows
        self.windows = -(-self._blocks // WINDOW_BLOCKS)
        self._epochs: OrderedDict[int, tuple[Permutation, int]] = OrderedDict()
        self._picks = picks or RowOrders()
        self._lock = threading.Lock()

    def _epoch(self, epoch: int) -> tuple[Permutation, int]:
        """Returns the order of blocks in the epoch, and the place of the short last block in that order."""
        cached = self._epochs.get(epoch)
        if cached is None:
            order = Permutation(self._blocks, key_of("blocks", self._seed, self._key, epoch))
            cached = (order, int(order.inverse(np.array([self._blocks - 1]))[0]))
            with self._lock:
                self._epochs[epoch] = cached
                while len(self._epochs) > _EPOCHS_KEPT:
                    self._epochs.popitem(last=False)
        return cached

    def _window_start(self, epoch: int, window: int) -> int:
        """Returns the place in the epoch of the window's first row. For the window after the last one, returns `self.rows`."""
        block = min(window * WINDOW_BLOCKS, self._blocks)
        short_before = self.shuffle and self._epoch(epoch)[1] < block
        if not self.shuffle:
            return min(block * self.block_rows, self.rows)
        return block * self.block_rows - (self.block_rows - self._last if short_before else 0)

    def _window_of(self, epoch: int, place: int) -> int:
        guess = place // (WINDOW_BLOCKS * self.block_rows)
        return guess + 1 if self._window_start(epoch, guess + 1) <= place else guess

    def window_size(self, epoch: int, window: int) -> int:
        """Returns the number of rows in the window."""
        return self._window_start(epoch, window + 1) - self._window_start(epoch, window)

    def ranges(self, epoch: int, window: int) -> list[tuple[int, int]]:
        """Returns the row ranges [from, to) of the revision that form the window, in the order of the window's places."""
        first, last = window * WINDOW_BLOCKS, min((window + 1) * WINDOW_BLOCKS, self._blocks)
        if not self.shuffle:
            return [(first * self.block_rows, min(last * self.block_rows, self.rows))]
        blocks = self._epoch(epoch)[0](np.arange(first, last, dtype=np.int64))
        return [(b * self.block_rows, min((b + 1) * self.block_rows, self.rows)) for b in blocks.tolist()]

    def _pick(self, epoch: int, window: int) -> Ints:
        """Returns the places of a window in the order in which their rows are served."""
        key = (self._seed, self._key, self.rows, self.block_rows, epoch, window)
        order = self._picks.get(key)
        if order is None:
            size = self.window_size(epoch, window)
            every = np.arange(size, dtype=np.int64)
            order = Permutation(size, key_of("rows", self._seed, self._key, epoch, window))(every)
            self._picks.put(key, order)
        return order

    def runs(self, ranks: Ints) -> Iterator[WindowRows]:
        """Divides ascending ranks into groups. The ranks of a group lie in one window."""
        done = 0
        while done < len(ranks):
            epoch, place = divmod(int(ranks[done]), self.rows)
            window = self._window_of(epoch, place)
            first = epoch * self.rows + self._window_start(epoch, window)
            stop = int(np.searchsorted(ranks, first + self.window_size(epoch, window)))
            rows = ranks[done:stop] - first
            picked = self._pick(epoch, window)[rows] if self.shuffle else rows
            yield WindowRows(epoch, window, slice(done, stop), picked, int(ranks[stop - 1]))
            done = stop

    def scattered(self, ranks: Ints) -> bool:
        """Returns whether these ascending ranks lie in many windows with few ranks each. Then loading whole windows is
        not worthwhile.
        """
        window_rows = min(WINDOW_BLOCKS * self.block_rows, self.rows)
        windows = (int(ranks[-1]) - int(ranks[0])) // window_rows + 1
        return windows > _MANY_WINDOWS and len(ranks) < windows * WINDOW_BLOCKS

    def rows_at(self, ranks: Ints) -> Ints:
        """Returns the rows of the revision at these ascending ranks. Never computes or caches the whole order of a window."""
        if not self.shuffle:
            return ranks % self.rows
        out = np.empty(len(ranks), dtype=np.int64)
        for start in range(0, len(ranks), _RANKS_AT_ONCE):
            pause()
            out[start : start + _RANKS_AT_ONCE] = self._rows_at(ranks[start : start + _RANKS_AT_ONCE])
        return out

    def _rows_at(self, ranks: Ints) -> Ints:
        epoch, place = np.divmod(ranks, self.rows)
        begins = np.diff(epoch, prepend=-1) != 0
        epochs, which = epoch[begins], np.cumsum(begins) - 1
        orders = Permutations(self._blocks, keys_of("blocks", self._seed, self._key, numbers=epochs[:, None]))
        short = orders.inverse(np.arange(len(epochs)), np.full(len(epochs), self._blocks - 1))[which]
        window = place // (WINDOW_BLOCKS * self.block_rows)
        window += self._starts(window + 1, short) <= place
        start = self._starts(window, short)
        place = start + self._shuffled(epoch, window, self._starts(window + 1, short) - start, place - start)
        # The short block has fewer rows than the others, so the places behind it move up by the difference.
        block, within = np.divmod(
            place + np.where(place >= short * self.block_rows + self._last, self.block_rows - self._last, 0),
            self.block_rows,
        )
        rows: Ints = orders(which, block) * self.block_rows + within
        return rows

    def _starts(self, window: Ints, short: Ints) -> Ints:
        """Returns `_window_start` for each of these windows. `short` is the place of the short block in the order of
        the epoch.
        """
        block = np.minimum(window * WINDOW_BLOCKS, self._blocks)
        return block * self.block_rows - np.where(short < block, self.block_rows - self._last, 0)

    def _shuffled(self, epoch: Ints, window: Ints, size: Ints, place: Ints) -> Ints:
        """Returns the permuted place for each element.

        Element i lies at place[i] of window[i] in epoch[i], and the window has size[i] rows.
        """
        begins = np.flatnonzero(np.diff(epoch, prepend=-1) | np.diff(window, prepend=-1))
        which = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(epoch)))
        keys = keys_of("rows", self._seed, self._key, numbers=np.column_stack((epoch[begins], window[begins])))
        out = np.empty_like(place)
        sizes = size[begins]
        alike = np.minimum(sizes, TABLE_ROWS + 1)  # larger windows are permuted together, whatever their sizes
        for each in sorted(set(alike.tolist())):
            windows = np.flatnonzero(alike == each)
            mine = np.flatnonzero(alike[which] == each)
            window_numbers = np.searchsorted(windows, which[mine])
            out[mine] = Permutations(sizes[windows], keys[windows])(window_numbers, place[mine])
        return out

    def _places(self, epoch: int, window: int) -> Ints:
        """Returns the rows of the revision at all places of a window."""
        return np.concatenate([np.arange(a, b, dtype=np.int64) for a, b in self.ranges(epoch, window)])

    def past_half(self, run: WindowRows) -> bool:
        """Returns whether the last of these ranks lies in the second half of its window."""
        start = run.epoch * self.rows + self._window_start(run.epoch, run.window)
        return (run.last - start) * 2 >= self.window_size(run.epoch, run.window)

    def following(self, run: WindowRows, repeats: bool) -> tuple[int, int] | None:
        """Returns the epoch and the number of the next window. None after the last window of a source that does not
        repeat.
        """
        if run.window + 1 < self.windows:
            return run.epoch, run.window + 1
        return (run.epoch + 1, 0) if repeats else None

    def rows_of(self, first: int, count: int) -> Ints:
        """Returns the rows of the revision at ranks first … first+count-1. Used by `explain` and by tests."""
        out = np.empty(count, dtype=np.int64)
        for run in self.runs(np.arange(first, first + count, dtype=np.int64)):
            out[run.at] = self._places(run.epoch, run.window)[run.rows]
        return out
