"""A cache of mixing blocks from which many requests need a few positions each.

A mixing block is 4,096 positions that are shuffled together. If a server serves all ranks of a large training run, each
rank requests a few positions of the same blocks. After several requests, the whole block is computed and cached for the
other ranks.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from choline_data.order.permute import Ints

Dealt = tuple[npt.NDArray[np.uint16], Ints]
Key = tuple[int, int, int]  # the number of a plan, the first position of a phase, and a block of the phase
OFTEN = (
    # from this number of requests on, a block is dealt as a whole; this takes as long as ten requests for a few slots
    8
)
_COUNTED = 1 << 14  # number of blocks whose requests are counted
_numbers = itertools.count()


class FrequentBlocks:
    """A cache of the often requested blocks of all plans in this process, bounded in bytes. Threads can share it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._held: OrderedDict[Key, Dealt] = OrderedDict()
        self._asked: OrderedDict[Key, int] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def number() -> int:
        """Returns a unique number for a new plan. It becomes a part of the keys."""
        return next(_numbers)

    def get(self, key: Key, deal: Callable[[], Dealt]) -> Dealt | None:
        """Counts a request for a block. Returns the whole block, from the cache or by calling `deal`.

        Returns None for the first requests, until there have been OFTEN requests for this block.
        """
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
                return held
            requests = self._asked.pop(key, 0) + 1
            if requests < OFTEN:
                self._asked[key] = requests
                while len(self._asked) > _COUNTED:
                    self._asked.popitem(last=False)
                return None
        dealt = deal()
        with self._lock:
            if key not in self._held:
                self._held[key] = dealt
                self._bytes += _size(dealt)
            while self._bytes > self._limit and len(self._held) > 1:
                self._bytes -= _size(self._held.popitem(last=False)[1])
        return dealt


def _size(dealt: Dealt) -> int:
    return sum(part.nbytes for part in dealt)


FREQUENT_BLOCKS = FrequentBlocks(32 << 20)
