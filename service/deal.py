"""How positions are dealt to the readers of one stream, and which of a reader's messages are cheap to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from choline_data.errors import InvalidOptionError
from choline_data.order.interleave import MIXING_BLOCK

FAR_BLOCKS = 4  # a message of few rows over more mixing blocks than this is made in a thread
MOST_BLOCKS = 64  # mixing blocks that a message is planned from


@dataclass(frozen=True)
class Deal:
    """How positions are dealt to ranks: with G = world * batch, step j has positions base + [j*G, (j+1)*G).

    Rank r reads the r-th contiguous batch of each step.
    """

    rank: int = 0
    world: int = 1
    batch: int = 1
    base: int = 0

    @classmethod
    def of(cls, rank: int, world: int, batch: int, base: int = 0) -> Deal:
        """The deal of a request; 0 stands for a default. With a world of 1, every batch size gives the same deal."""
        world = world or 1
        if not 1 <= world <= 1 << 20 or not 0 <= rank < world:
            raise InvalidOptionError(
                f"rank {rank} of world_size {world} can't be.",
                remedy="world_size is 1 to 1048576, rank is 0 to world_size - 1.",
                option="rank",
            )
        if not 0 <= batch <= 1 << 24:
            raise InvalidOptionError(
                f"batch_size {batch} can't be.", remedy="batch_size is 0 to 16777216.", option="batch_size"
            )
        if base < 0:
            raise InvalidOptionError(
                f"base_position {base} can't be.", remedy="It is 0 or more.", option="base_position"
            )
        return cls() if world == 1 else cls(rank, world, batch or 1, base % (world * (batch or 1)))

    def positions(self, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The positions of the reader's indexes start … stop-1."""
        index = np.arange(start, stop, dtype=np.int64)
        if self.world == 1:
            return index
        step, within = np.divmod(index, self.batch)
        return self.base + step * (self.world * self.batch) + self.rank * self.batch + within

    def far(self, start: int, stop: int) -> bool:
        """Whether the positions of indexes start … stop-1 lie in many mixing blocks, with few positions in each."""
        span = self.position(stop - 1) - self.position(start)
        return span > FAR_BLOCKS * MIXING_BLOCK and span > 8 * (stop - start)

    @property
    def most_rows(self) -> int:
        """The most rows of a message, so that it is planned from at most MOST_BLOCKS mixing blocks. A power of two."""
        in_block = max(MIXING_BLOCK // self.world, min(self.batch, MIXING_BLOCK), 1)
        return 1 << (MOST_BLOCKS * in_block).bit_length() - 1

    def position(self, index: int) -> int:
        """The position of one index."""
        step, within = divmod(index, self.batch)
        return self.base + step * self.world * self.batch + self.rank * self.batch + within

    def index(self, position: int) -> int:
        """The first index whose position is `position` or later."""
        if position <= self.base:
            return 0
        step, within = divmod(position - self.base, self.world * self.batch)
        return step * self.batch + min(max(within - self.rank * self.batch, 0), self.batch)
