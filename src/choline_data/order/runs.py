"""A stream in which the positions are divided into runs of `size` consecutive positions, and each run has a single source.

A `Plan` gives runs to sources as it would give single positions. So shares, changes of the mix and seeks use the same
arithmetic, counted in runs. If a source ends with fewer samples than a run needs, these last samples are not served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from choline_data.errors import OutOfRangeError
from choline_data.order.permute import Ints
from choline_data.order.plan import INSIDE, Placement, Plan


class RunPlan:
    """Like `Plan`, but counts in runs: position p has the source of run p // size. The samples of a run are consecutive
    samples of the source.
    """

    def __init__(
        self,
        size: int,
        segments: Sequence[tuple[int, Sequence[int]]],
        caps: Sequence[int | None],
        *,
        seed: int,
        on_exhausted: str = "renormalize",
    ) -> None:
        if size < 1 or any(start % size for start, _ in segments):
            raise ValueError(f"runs of {size} positions: each segment must begin where a run begins")
        self._size = size
        self._runs = Plan(
            [(start // size, weights) for start, weights in segments],
            [None if cap is None else cap // size for cap in caps],
            seed=seed,
            on_exhausted=on_exhausted,
        )
        self.seed = seed
        self.length = None if self._runs.length is None else self._runs.length * size

    def samples_before(self, position: int) -> list[int]:
        """Returns the number of samples of each source before `position`."""
        runs, rest = divmod(position, self._size)
        counts = [count * self._size for count in self._runs.samples_before(runs)]
        if rest:
            (run,) = self._runs.place(runs, runs + 1)
            counts[int(run.source[0])] += rest
        return counts

    def ends(self) -> list[int | None]:
        """Returns, for each source, the position from which it gives no more samples; None if it never runs out."""
        return [None if end is None else end * self._size for end in self._runs.ends()]

    def missing(self) -> list[int]:
        """Returns the sources that have run out at the end of the stream, while other sources still have samples."""
        return self._runs.missing()

    def at(self, positions: Ints) -> tuple[npt.NDArray[np.uint16], Ints]:
        """Returns the source and the rank of each of these positions.

        The positions must be in ascending order, and may be far apart.
        """
        self._check(int(positions[0]), int(positions[-1]) + 1)
        number, within = np.divmod(positions, self._size)
        runs, which = np.unique(number, return_inverse=True)
        source, rank = self._runs.at(runs)
        return source[which], rank[which] * self._size + within

    def _check(self, start: int, stop: int) -> None:
        if start < 0 or (self.length is not None and stop > self.length):
            extent = "no end" if self.length is None else f"{self.length} positions"
            raise OutOfRangeError(
                f"Positions {start} to {stop} are not all in the stream, which has {extent}.", remedy=INSIDE
            )

    def place(self, start: int, stop: int) -> Iterator[Placement]:
        """Yields the samples at positions start … stop-1 in order, in pieces. Each piece lies in one mixing block of runs."""
        self._check(start, stop)
        size = self._size
        inside = np.arange(size, dtype=np.int64)
        if start >= stop:
            return
        for piece in self._runs.place(start // size, -(-stop // size)):
            first = piece.start * size
            low, high = max(start - first, 0), min(stop - first, len(piece.source) * size)
            rank = (piece.rank[:, None] * size + inside).reshape(-1)
            yield Placement(first + low, np.repeat(piece.source, size)[low:high], rank[low:high])
