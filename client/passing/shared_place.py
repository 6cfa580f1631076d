"""Where the workers of a DataLoader begin: memory that they share with the process that started them, and the end of a loop."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


class SharedPlace:
    """The position and the number of the next pass. Workers that persist from pass to pass read them when a pass begins."""

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
        """Records that the workers have an old mix or old bans, which they cannot learn."""
        self._values[2] = 1

    @property
    def outdated(self) -> bool:
        """Whether the workers have an old mix or old bans."""
        return bool(self._values[2])


def at_end(iterator: Any, call: Callable[[], None]) -> None:
    """Calls `call` each time the loop of this iterator of a DataLoader receives the end of a pass.

    Only the process of the loop knows it: workers read ahead, so a worker may be at its end long before the loop is left.
    """
    kind, myself = type(iterator), weakref.ref(iterator)

    def next_data() -> Any:
        try:
            return kind._next_data(myself())
        except StopIteration:
            call()
            raise

    iterator._next_data = next_data
