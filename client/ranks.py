"""Who reads what: the rank of this process, and the lane of positions that a rank, or a worker of it, reads.

With a batch size b and world ranks, G = world · b and step j is positions [j·G, (j+1)·G); rank r has its r-th part. A
DataLoader worker w of W has steps w, w + W … of its rank: that is rank `w·world + r` of `world·W`, so that one
arithmetic serves ranks and workers, here and on a server.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from choline_data.errors import InvalidOptionError

Ints = npt.NDArray[np.int64]


def find_rank(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Rank and world size: as told, else of the process group, else of `RANK` and `WORLD_SIZE`, else 0 of 1."""
    if (rank is None) != (world_size is None):
        raise InvalidOptionError(
            "rank and world_size go together.",
            remedy="Set both, or neither to have them found.",
            option="rank",
        )
    if rank is None or world_size is None:
        rank, world_size = _group() or _environment() or (0, 1)
    if not 0 <= rank < world_size:
        raise InvalidOptionError(
            f"rank {rank} of world size {world_size} can't be.",
            remedy="Ranks go from 0 to world_size - 1.",
            option="rank",
        )
    return rank, world_size


def _group() -> tuple[int, int] | None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def _environment() -> tuple[int, int] | None:
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if not rank or not world:
        return None
    try:
        return int(rank), int(world)
    except ValueError as error:
        raise InvalidOptionError(
            f"RANK={rank!r} and WORLD_SIZE={world!r} are not numbers.",
            remedy="Unset them, or set rank and world_size.",
        ) from error


@dataclass(frozen=True)
class Lane:
    """The positions that one reader reads: blocks of `block` positions `step` apart; blocks begin `period` apart."""

    first: int
    block: int = 1
    period: int = 1
    step: int = 1

    @classmethod
    def of(cls, start: int, *, rank: int, world: int, batch: int, worker: int = 0, workers: int = 1) -> Lane:
        """The lane of a rank, or of a worker of it, where step 0 begins at position `start`."""
        row = worker * world + rank
        return cls(start + row * batch, batch, world * workers * batch)

    @classmethod
    def dealt(cls, start: int, *, rank: int, world: int, group: int, worker: int, workers: int) -> Lane:
        """A worker's lane where ranks are dealt single positions, and a DataLoader makes batches of `group` of them."""
        return cls(start + worker * group * world + rank, group, group * world * workers, world)

    def positions(self, index: int, count: int) -> Ints:
        """The positions of the lane's samples number index … index+count-1."""
        number = np.arange(index, index + count, dtype=np.int64)
        if self.block == 1:
            return self.first + number * self.period
        block, within = np.divmod(number, self.block)
        positions: Ints = self.first + block * self.period + within * self.step
        return positions

    def position(self, index: int) -> int:
        """The position of the lane's sample number `index`."""
        block, within = divmod(index, self.block)
        return self.first + block * self.period + within * self.step

    def below(self, end: int) -> int:
        """How many of the lane's positions lie before `end`."""
        if end <= self.first:
            return 0
        blocks, rest = divmod(end - self.first, self.period)
        return blocks * self.block + min(self.block, -(-rest // self.step))
