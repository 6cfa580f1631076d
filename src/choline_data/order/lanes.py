"""Computes which positions each rank and worker reads. Clients and servers use the same arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lane:
    """The positions that one reader reads, as blocks at equal distances.

    A block has `block` positions, and two neighbouring positions of a block differ by `step`. The first block begins at
    `first`. Each following block begins `period` positions after the one before it.
    """

    first: int
    block: int = 1
    period: int = 1
    step: int = 1

    @classmethod
    def of(cls, start: int, *, rank: int, world: int, batch: int, worker: int = 0, workers: int = 1) -> Lane:
        """Returns the lane of a rank, or of one worker of the rank. The lanes of all ranks together begin at position
        `start`.
        """
        row = worker * world + rank
        return cls(start + row * batch, batch, world * workers * batch)

    @classmethod
    def dealt(cls, start: int, *, rank: int, world: int, group: int, worker: int, workers: int) -> Lane:
        """Returns a worker's lane for the case that ranks read single positions in turn, and a DataLoader makes batches
        of `group` samples.
        """
        if workers == 1:
            return cls(start + rank, 1, world)
        return cls(start + worker * group * world + rank, group, group * world * workers, world)

    def wider(self) -> Lane:
        """Returns the smallest lane that contains this lane and has only consecutive positions in each block.

        A server serves only such lanes. If a rank reads single samples and its workers take turns, the positions of one
        worker are not consecutive. Then the result is the lane of the whole rank, or that of all ranks in the turns of
        this worker. It is the one with fewer positions.
        """
        if self.block == 1 or self.step == 1:
            return self
        workers = self.period // (self.block * self.step)
        if self.step < workers:
            return Lane(self.first - self.first % self.step, self.block * self.step, self.period)
        return Lane(self.first % self.step, 1, self.step)

    def as_rank(self) -> tuple[int, int, int, int]:
        """Returns (rank, world, batch, base) for a lane of consecutive positions. `Lane.of(base, …)` with these values has the
        same positions. It begins in the first period after position 0.
        """
        world = self.period // self.block
        if self.first % self.block == 0:
            return self.first // self.block % world, world, self.block, 0
        return 0, world, self.block, self.first % self.period

    def holds(self, positions: Ints) -> npt.NDArray[np.bool_]:
        """Returns a mask: whether each of these positions belongs to the lane."""
        after = positions - self.first
        in_lane: npt.NDArray[np.bool_] = (
            (after >= 0) & (after % self.period < self.block * self.step) & (after % self.step == 0)
        )
        return in_lane

    def positions(self, index: int, count: int) -> Ints:
        """Returns the positions of the lane's samples index … index+count-1, counted from 0."""
        number = np.arange(index, index + count, dtype=np.int64)
        if self.block == 1:
            return self.first + number * self.period
        block, within = np.divmod(number, self.block)
        positions: Ints = self.first + block * self.period + within * self.step
        return positions

    def position(self, index: int) -> int:
        """Returns the position of the lane's sample `index`, counted from 0."""
        block, within = divmod(index, self.block)
        return self.first + block * self.period + within * self.step

    def begin(self, index: int) -> int:
        """Returns the first position of the block that contains the lane's sample `index`."""
        return self.first + index // self.block * self.period

    def below(self, end: int) -> int:
        """Returns how many positions of the lane are before `end`."""
        if end <= self.first:
            return 0
        blocks, rest = divmod(end - self.first, self.period)
        return blocks * self.block + min(self.block, -(-rest // self.step))
