"""Which positions each rank and worker reads. Clients and servers use the same arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lane:
    """The positions that one reader reads, as blocks.

    A block has `block` positions with a distance of `step`. The first block begins at `first`; each next block begins
    `period` positions after the one before.
    """

    first: int
    block: int = 1
    period: int = 1
    step: int = 1

    @classmethod
    def of(cls, start: int, *, rank: int, world: int, batch: int, worker: int = 0, workers: int = 1) -> Lane:
        """The lane of a rank, or of one worker of the rank. Step 0 begins at position `start`."""
        row = worker * world + rank
        return cls(start + row * batch, batch, world * workers * batch)

    @classmethod
    def dealt(cls, start: int, *, rank: int, world: int, group: int, worker: int, workers: int) -> Lane:
        """A worker's lane if ranks take single positions in turn and a DataLoader makes batches of `group` samples."""
        return cls(start + worker * group * world + rank, group, group * world * workers, world)

    def positions(self, index: int, count: int) -> Ints:
        """The positions of the lane's samples index … index+count-1, counted from 0."""
        number = np.arange(index, index + count, dtype=np.int64)
        if self.block == 1:
            return self.first + number * self.period
        block, within = np.divmod(number, self.block)
        positions: Ints = self.first + block * self.period + within * self.step
        return positions

    def position(self, index: int) -> int:
        """The position of the lane's sample `index`, counted from 0."""
        block, within = divmod(index, self.block)
        return self.first + block * self.period + within * self.step

    def below(self, end: int) -> int:
        """The number of the lane's positions before `end`."""
        if end <= self.first:
            return 0
        blocks, rest = divmod(end - self.first, self.period)
        return blocks * self.block + min(self.block, -(-rest // self.step))
