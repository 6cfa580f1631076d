"""Tells the workers of a DataLoader where the next pass begins, through memory that they share with their parent process.
Also notices the end of a loop over a DataLoader.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


class SharedPlace:
    """The position and the number of the next pass, in memory that processes share.

    Workers that persist from pass to pass read both when a pass begins.
    """

    def __init__(self, position: int, epoch: int) -> None:
        import torch

        self._values = torch.tensor([position, epoch, 0], dtype=torch.int64).share_memory_()

    def put(self, position: int, epoch: int) -> None:
        """Makes the next pass of all workers begin at this position."""
        self._values[0], self._values[1] = position, epoch

    def get(self) -> tuple[int, int]:
        """Returns the position at which the next pass begins, and the number of this pass."""
        position, epoch, _ = self._values.tolist()
        return position, epoch

    def outdate(self) -> None:
        """Marks the workers as outdated: the mix or the bans have changed since they started, and they cannot learn of
        that.
        """
        self._values[2] = 1

    @property
    def outdated(self) -> bool:
        """Whether the mix or the bans have changed since the workers started."""
        return bool(self._values[2])


def at_end(iterator: Any, call: Callable[[], None]) -> None:
    """Calls `call` each time the loop over this iterator of a DataLoader receives the end of a pass.

    Only the process of the loop knows this. Workers read ahead, so a worker may be at the end long before the loop is.
    """
    kind, myself = type(iterator), weakref.ref(iterator)

    def next_data() -> Any:
        try:
            return kind._next_data(myself())
        except StopIteration:
            call()
            raise

    iterator._next_data = next_data
